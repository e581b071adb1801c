"""What ``benchmarks.startup`` has run."""
