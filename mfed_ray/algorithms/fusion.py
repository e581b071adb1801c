"""Encoders of several task groups into one per group, block by block where they agree only in parts."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from mfed_ray.averages import weighted_mean
from mfed_ray.errors import ConfigError
from mfed_ray.messages import Params
from mfed_ray.params import STATISTICS

Names = tuple[str, ...]
Shares = Mapping[str, Mapping[str, float]]
"""By group: the groups whose encoders are mixed into its own, itself among them, and their weights."""


def common_names(a: Params, b: Params) -> frozenset[str]:
    """Names of the parameters in the blocks that two encoders have alike: the same names with the same shapes.

    A block is what stands before a name's first number, with it: ``encoder.layer1.0``; what has no number (a ResNet's
    stem) is one block. Normalisation thus never goes without the convolutions that it belongs to.
    """
    others = blocks(b)
    alike = (names for block, names in blocks(a).items() if _same(names, others.get(block, ()), a, b))
    return frozenset(name for names in alike for name in names)


def check_overlap(encoders: Mapping[str, Params]) -> None:
    """Raises ConfigError where no two of several groups have any block alike, naming what differs first."""
    groups = list(encoders)
    pairs = [(a, b) for i, a in enumerate(groups) for b in groups[i + 1 :]]
    if pairs and not any(common_names(encoders[a], encoders[b]) for a, b in pairs):
        a, b = pairs[0]
        first, second = encoders[a], encoders[b]
        name = next(name for name in (*first, *second) if _shape(first, name) != _shape(second, name))
        raise ConfigError(
            f"algorithm.name: mfed has nothing to fuse, no block of any two groups' encoders is alike: {name} is "
            f"{_shape(first, name)} at {a} and {_shape(second, name)} at {b}; give the clients "
            "encoders of one family (resnet18 and resnet34, resnet50 and resnet101), or set correlation_threshold "
            "above 1"
        )


def fuse(encoders: Mapping[str, Params], shares: Shares) -> dict[str, Params]:
    """E_t = sum_s w_ts Ebar_s / sum_s w_ts, over the groups s that have the block at hand as group t has it.

    Groups of one structure with the same shares get one tree, so that it is sent and stored once.
    """
    made: dict[tuple[object, ...], Params] = {}
    fused: dict[str, Params] = {}
    for group, row in shares.items():
        structure = tuple((name, value.shape) for name, value in encoders[group].items())
        key = (structure, tuple(row.items()))
        if key not in made:
            made[key] = _mixed(encoders, group, row)
        fused[group] = made[key]
    return fused


def summed(encoders: Mapping[str, Params], starts: Mapping[str, Params], shares: Shares) -> dict[str, Params]:
    """E_t + sum_s (Ebar_s - E_s), over the groups s of t's row that have the block at hand as group t has it.

    ``starts``: E. A group alone in its row gets its own encoder back. Running statistics, which no gradient adds to,
    are the row's mean as in ``fuse``. Groups of one start and one row get one tree.
    """
    mixed, made, found = fuse(encoders, shares), dict[tuple[object, ...], Params](), dict[str, Params]()
    for group, row in shares.items():
        key = (id(starts[group]), tuple(row))
        if key not in made:
            made[key] = encoders[group] if len(row) == 1 else _added(encoders, starts, group, row, mixed[group])
        found[group] = made[key]
    return found


def _added(
    encoders: Mapping[str, Params], starts: Mapping[str, Params], group: str, row: Iterable[str], mixed: Params
) -> Params:
    alike = {other: common_names(starts[group], encoders[other]) for other in row}

    def moved(name: str, start: NDArray[np.float32]) -> NDArray[np.float32]:
        if name.endswith(STATISTICS):
            return mixed[name]
        moves = (encoders[s][name] - starts[s][name].astype(np.float64) for s in alike if name in alike[s])
        return (start + sum(moves)).astype(np.float32)

    return {name: moved(name, start) for name, start in starts[group].items()}


def _mixed(encoders: Mapping[str, Params], group: str, row: Mapping[str, float]) -> dict[str, NDArray[np.float32]]:
    own = encoders[group]
    alike = {other: common_names(own, encoders[other]) for other in row}
    mixed: dict[str, NDArray[np.float32]] = {}
    for names in blocks(own).values():
        others = [other for other in row if names[0] in alike[other]]
        trees = [{name: encoders[other][name] for name in names} for other in others]
        mixed.update(weighted_mean(trees, [row[other] for other in others]))
    return {name: mixed[name] for name in own}


def blocks(encoder: Params) -> dict[str, Names]:
    """The names of an encoder's parameters by block: see ``common_names``."""
    found: dict[str, list[str]] = {}
    for name in encoder:
        parts = name.split(".")
        words = list(takewhile(lambda part: not part.isdigit(), parts))
        block = ".".join(parts[: len(words) + 1]) if len(words) < len(parts) else parts[0]
        found.setdefault(block, []).append(name)
    return {block: tuple(names) for block, names in found.items()}


def _same(names: Sequence[str], others: Sequence[str], a: Params, b: Params) -> bool:
    return names == others and all(a[name].shape == b[name].shape for name in names)


def _shape(encoder: Params, name: str) -> tuple[int, ...] | str:
    return encoder[name].shape if name in encoder else "missing"
