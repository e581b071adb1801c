"""Algorithms by name: the registered ones, and any class that can be imported."""

from collections.abc import Collection, Mapping

from mfed_ray.algorithms.contract import Algorithm
from mfed_ray.errors import ConfigError
from mfed_ray.registry import Registered, find, name_of, names

ALGORITHMS: Mapping[str, type[Algorithm]] = Registered("algorithm")
"""The registered algorithms by the name that a configuration gives; ``mfed_ray.registry`` lists them."""


def find_algorithm(name: str, trusted: Collection[str] | None = None) -> type[Algorithm]:
    """The algorithm of a configuration's ``algorithm.name``: a registered one, or ``package.module:Class``.

    ``trusted``: the classes of the user's own that may be imported; None: any, for a configuration of the user's own.
    Raises ConfigError where there is none, for one that is not trusted, and for a class that is no algorithm.
    """
    if trusted is not None and name not in {*names("algorithm"), *trusted}:
        raise ConfigError(
            f"algorithm.name: {name!r} is code that a folder names, so it was not imported; allowed without trust: "
            f"{', '.join(names('algorithm'))}; if you know it, trust it by name with --trust"
        )
    cls = find("algorithm", name)
    if not (isinstance(cls, type) and issubclass(cls, Algorithm)):
        raise ConfigError(f"algorithm.name: {name!r} is no subclass of mfed_ray.algorithms.Algorithm")
    if missing := sorted(cls.__abstractmethods__):
        raise ConfigError(f"algorithm.name: {name!r} lacks {', '.join(missing)}; an algorithm has all four functions")
    if "name" in cls.model_fields:
        raise ConfigError(f"algorithm.name: {name!r} has a field called name, which is the algorithm's own; rename it")
    return cls


def algorithm_name(algorithm: Algorithm) -> str:
    """The name by which ``find_algorithm`` finds the algorithm's class."""
    return name_of("algorithm", type(algorithm))
