"""Measurements of this project. Each file's docstring has its command."""
