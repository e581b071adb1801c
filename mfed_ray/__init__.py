"""Multi-task federated learning with an encoder-decoder structure, simulated on Ray.

Run and read: ``load_experiment``, ``run``, ``load``, ``load_results``, ``summarise``. What an algorithm of one's own is
made of (docs/own_algorithm.md): ``Algorithm`` and the types that its four functions take and give. Every error that the
package raises on purpose is a ``MfedError``; ``mfed_ray.errors`` draws the tree.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "mfed_ray.algorithms.contract": (
        "Algorithm",
        "Diagnostics",
        "Fit",
        "Probe",
        "Trainer",
        "by_group",
        "common_encoder",
    ),
    "mfed_ray.driver": ("run",),
    "mfed_ray.errors": (
        "CheckpointError",
        "ClientError",
        "ClientLostError",
        "ClientMemoryError",
        "ConfigError",
        "DataError",
        "DriverError",
        "InputError",
        "MfedError",
        "PlacementError",
        "ResultsWarning",
        "RunFolderError",
        "RunInterruptedError",
        "StorageError",
        "SweepError",
        "WeightsError",
    ),
    "mfed_ray.experiment": ("load_experiment", "parse_experiment"),
    "mfed_ray.messages": ("ClientSpec", "Instruction", "Params", "Proximal", "State", "Update"),
    "mfed_ray.params": ("decoders_of", "encoder_of"),
    "mfed_ray.results": ("load", "load_results", "summarise"),
    "mfed_ray.averages": ("weighted_mean",),
}
_EXPORTS = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    """Load a public name on first use: a client's process needs no pandas, a notebook's no Ray."""
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
