"""Predictions as files that other tools read, and overlays that a person can look at."""
