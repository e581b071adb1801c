"""Multi-task federated learning with an encoder-decoder structure, simulated on Ray."""

from importlib import import_module
from typing import Any

_EXPORTS = {
    "load": "mfed_ray.results",
    "load_experiment": "mfed_ray.experiment",
    "load_results": "mfed_ray.results",
    "run": "mfed_ray.driver",
    "summarise": "mfed_ray.results",
}

__all__ = ["load", "load_experiment", "load_results", "run", "summarise"]


def __getattr__(name: str) -> Any:
    """Load a public name on first use: a client's process needs no pandas, a notebook's no Ray."""
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
