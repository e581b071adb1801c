"""What a configuration can name: algorithms, tasks and encoders, and the modules that they stand in.

Each is written down as ``module:attribute``, so that a configuration is checked without importing any of them, and
one that is used is imported alone.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, Generic, Literal, TypeVar

from mfed_ray.errors import ConfigError

Kind = Literal["algorithm", "task", "encoder"]
T = TypeVar("T")

_ALGORITHMS = {
    "local": "mfed_ray.algorithms.local:Local",
    "centralised": "mfed_ray.algorithms.centralised:Centralised",
    "fedavg": "mfed_ray.algorithms.fedavg:FedAvg",
    "fedprox": "mfed_ray.algorithms.fedprox:FedProx",
    "fedper": "mfed_ray.algorithms.fedper:FedPer",
    "fedrep": "mfed_ray.algorithms.fedrep:FedRep",
    "ditto": "mfed_ray.algorithms.ditto:Ditto",
    "fedamp": "mfed_ray.algorithms.fedamp:FedAMP",
    "matfl": "mfed_ray.algorithms.matfl:MaTFL",
    "fedhca2": "mfed_ray.algorithms.fedhca2:FedHCA2",
    "mfed": "mfed_ray.algorithms.mfed:MFed",
}
_DENSE_TASKS = {
    "semantic_segmentation": "mfed_ray.tasks.semantic_segmentation:SEMANTIC_SEGMENTATION",
    "human_parts": "mfed_ray.tasks.human_parts:HUMAN_PARTS",
    "saliency": "mfed_ray.tasks.saliency:SALIENCY",
    "edge_detection": "mfed_ray.tasks.edge_detection:EDGE_DETECTION",
    "surface_normals": "mfed_ray.tasks.surface_normals:SURFACE_NORMALS",
}
_PYRAMID_TASKS = {
    "instance_segmentation": "mfed_ray.tasks.instance_segmentation:INSTANCE_SEGMENTATION",
    "keypoint_detection": "mfed_ray.tasks.keypoint_detection:KEYPOINT_DETECTION",
    "stuff_segmentation": "mfed_ray.tasks.stuff_segmentation:STUFF_SEGMENTATION",
    "panoptic_segmentation": "mfed_ray.tasks.panoptic_segmentation:PANOPTIC_SEGMENTATION",
}
RESNETS = ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101")
"""The encoders whose width can be chosen."""

_ENCODERS = {name: f"mfed_ray.models.encoders:{name}" for name in (*RESNETS, "mobilenet_v2")}
_PLACES: Mapping[Kind, Mapping[str, str]] = {
    "algorithm": _ALGORITHMS,
    "task": {**_DENSE_TASKS, **_PYRAMID_TASKS},
    "encoder": _ENCODERS,
}
_KEYS: Mapping[Kind, str] = {"algorithm": "algorithm.name", "task": "tasks", "encoder": "model.encoder"}
"""Where a configuration names one of each kind."""

PYRAMID_TASKS = frozenset(_PYRAMID_TASKS)
"""The tasks whose decoders stand on a feature pyramid, the encoder's or their own."""


def names(kind: Kind) -> tuple[str, ...]:
    """The registered names of a kind, in the order in which they are listed to a user."""
    return tuple(_PLACES[kind])


def find(kind: Kind, name: str) -> Any:
    """What a configuration calls ``name``: a registered name, or ``package.module:Class`` for one of the user's own.

    Raises ConfigError, with the nearest name, for an unknown name, and for what cannot be imported. It does not check
    what kind of thing it is.
    """
    if name in _PLACES[kind]:
        return _imported(_PLACES[kind][name])
    if ":" not in name:
        allowed = names(kind)
        raise ConfigError(
            f"{_KEYS[kind]}: {name!r} is not one of {', '.join(allowed)}, package.module:Class{hint(name, allowed)}"
        )
    try:
        return _imported(name)
    except Exception as error:  # whatever the user's module does when it is imported
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{_KEYS[kind]}: {name!r} cannot be imported ({reason})") from error


def _imported(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


def name_of(kind: Kind, cls: type) -> str:
    """The name by which ``find`` finds the class: its registered name, else ``package.module:Class``."""
    place = f"{cls.__module__}:{cls.__qualname__}"
    return next((name for name, registered in _PLACES[kind].items() if registered == place), place)


def check_registered(kind: Kind, chosen: Iterable[str]) -> None:
    """Raise ValueError, as a section's validator does, for the first name that is not registered."""
    allowed = names(kind)
    for name in chosen:
        if name not in allowed:
            raise ValueError(f"{name!r} is not one of {', '.join(allowed)}{hint(name, allowed)}")


def hint(name: str, allowed: Iterable[str]) -> str:
    """The end of a sentence that asks whether the nearest of the allowed names was meant; empty where none is near."""
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


class Registered(Mapping[str, T], Generic[T]):
    """All that is registered of a kind, by name. Each is imported when it is first looked up."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    def __getitem__(self, name: str) -> T:
        if name not in _PLACES[self._kind]:
            raise KeyError(name)
        thing: T = find(self._kind, name)
        return thing

    def __contains__(self, name: object) -> bool:
        return name in _PLACES[self._kind]

    def __iter__(self) -> Iterator[str]:
        return iter(names(self._kind))

    def __len__(self) -> int:
        return len(names(self._kind))
