"""The order in which a person expects names: numbers by value."""

import re

_NUMBER = re.compile(r"((?<==)-?\d+(?:\.\d+)?(?:e[-+]?\d+)?|\d+)")


def natural(name: str) -> tuple[str | float, ...]:
    """A sort key: texts and numbers in turn; ``tau=-1.0`` comes before ``tau=9``, and that before ``tau=10``."""
    pieces = _NUMBER.split(name)
    return tuple(float(piece) if index % 2 else piece for index, piece in enumerate(pieces))
