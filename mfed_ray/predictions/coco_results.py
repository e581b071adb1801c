"""Placeholder until its author writes it: overwrite."""

from typing import Any

class CocoResults: ...
