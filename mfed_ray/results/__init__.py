"""Result tables: long form on disk, pandas in memory."""

from importlib import import_module
from typing import Any

_EXPORTS = {
    "FORMATS": "rendering",
    "Results": "loading",
    "cells": "rendering",
    "load": "loading",
    "load_results": "loading",
    "render": "rendering",
    "shortened": "loading",
    "summarise": "summary",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    """Load a public name on first use: whoever writes tables needs no pandas."""
    if name in _EXPORTS:
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
