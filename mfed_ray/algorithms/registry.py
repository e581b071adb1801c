"""Algorithms by name: the registered ones, and any class that can be imported."""

import difflib
from importlib import import_module

from mfed_ray.algorithms.centralised import Centralised
from mfed_ray.algorithms.contract import Algorithm
from mfed_ray.algorithms.ditto import Ditto
from mfed_ray.algorithms.fedamp import FedAMP
from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.algorithms.fedhca2 import FedHCA2
from mfed_ray.algorithms.fedper import FedPer
from mfed_ray.algorithms.fedprox import FedProx
from mfed_ray.algorithms.fedrep import FedRep
from mfed_ray.algorithms.local import Local
from mfed_ray.algorithms.matfl import MaTFL
from mfed_ray.algorithms.mfed import MFed
from mfed_ray.errors import ConfigError

ALGORITHMS: dict[str, type[Algorithm]] = {
    "local": Local,
    "centralised": Centralised,
    "fedavg": FedAvg,
    "fedprox": FedProx,
    "fedper": FedPer,
    "fedrep": FedRep,
    "ditto": Ditto,
    "fedamp": FedAMP,
    "matfl": MaTFL,
    "fedhca2": FedHCA2,
    "mfed": MFed,
}
"""Algorithms by the name that a configuration gives."""


def find_algorithm(name: str) -> type[Algorithm]:
    """The algorithm of a configuration's ``algorithm.name``: a registered one, or ``package.module:Class``.

    Raises ConfigError where there is none.
    """
    module, colon, kind = name.partition(":")
    if not colon:
        if name in ALGORITHMS:
            return ALGORITHMS[name]
        close = difflib.get_close_matches(name, ALGORITHMS, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"algorithm.name: {name!r} is not one of {', '.join(ALGORITHMS)}, package.module:Class{hint}")
    try:
        found = getattr(import_module(module), kind)
    except Exception as error:  # whatever the user's module does when it is imported
        raise ConfigError(f"algorithm.name: {name!r} cannot be imported ({type(error).__name__}: {error})") from error
    if not (isinstance(found, type) and issubclass(found, Algorithm)):
        raise ConfigError(f"algorithm.name: {name!r} is no subclass of mfed_ray.algorithms.Algorithm")
    if missing := sorted(found.__abstractmethods__):
        raise ConfigError(f"algorithm.name: {name!r} lacks {', '.join(missing)}; an algorithm has all four functions")
    if "name" in found.model_fields:
        raise ConfigError(f"algorithm.name: {name!r} has a field called name, which is the algorithm's own; rename it")
    return found


def algorithm_name(algorithm: Algorithm) -> str:
    """The name by which ``find_algorithm`` finds the algorithm's class."""
    kind = type(algorithm)
    own = f"{kind.__module__}:{kind.__qualname__}"
    return next((name for name, registered in ALGORITHMS.items() if registered is kind), own)
