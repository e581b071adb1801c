"""Encoders, decoders and normalisation policies."""
