"""Metrics: one file each; reset by construction, update, merge, compute."""
