"""Models of several task groups mixed, block by block where they agree only in parts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, takewhile

import numpy as np
from numpy.typing import NDArray

from mfed_ray.averages import weighted_mean
from mfed_ray.errors import ConfigError
from mfed_ray.messages import Params, tasks_of
from mfed_ray.params import ENCODER, STATISTICS

Names = tuple[str, ...]
Shares = Mapping[str, Mapping[str, float]]
"""By group: the groups whose parameters are mixed into its own, itself among them, and their weights."""


def common_names(a: Params, b: Params) -> frozenset[str]:
    """Names of the parameters in the blocks that two models have alike: the same names with the same shapes.

    An encoder's block is what stands before a name's first number, with it: ``encoder.layer1.0``. A decoder's is
    without it: ``decoders.saliency.trunk.refine``. What has no number (a ResNet's stem, a classifier) is one block for
    each encoder or decoder. Normalisation thus never goes without the convolutions that it belongs to.
    """
    others = blocks(b)
    alike = (names for block, names in blocks(a).items() if _same(names, others.get(block, ()), a, b))
    return frozenset(name for names in alike for name in names)


def check_overlap(encoders: Mapping[str, Params]) -> None:
    """Raises ConfigError where no two of several tasks have any block alike, naming what differs first."""
    pairs = [(a, b) for a, b in combinations(encoders, 2) if tasks_of(a) != tasks_of(b)]
    if pairs and not any(common_names(encoders[a], encoders[b]) for a, b in pairs):
        raise ConfigError(
            "algorithm.name: mfed has nothing to fuse, no block of any two groups' encoders is alike: "
            f"{_first_difference(encoders, *pairs[0])}; give the clients encoders of one family (resnet18 and "
            "resnet34, resnet50 and resnet101), or set correlation_threshold above 1"
        )


def check_in_common(models: Mapping[str, Params]) -> None:
    """Raises ConfigError where two groups of the same tasks have no block alike, naming what differs first."""
    for a, b in _of_same_tasks(models):
        if not common_names(models[a], models[b]):
            raise ConfigError(
                f"clients: {a} and {b} have the same tasks, but no block alike that could be averaged: "
                f"{_first_difference(models, a, b)}; give them encoders of one family (resnet18 and resnet34, resnet50 "
                "and resnet101), or take local"
            )


def check_one_model(choice: str, models: Mapping[str, Params]) -> None:
    """Raises ConfigError where two groups have the same tasks; ``choice``: the value that cannot work with them."""
    for a, b in _of_same_tasks(models):
        raise ConfigError(
            f"{choice} found, but the clients of {tasks_of(a)} have several models ({a}, {b}); give them one encoder "
            "and one decoder_width, or take local, mfed with a number as correlation_threshold and another fusion than "
            "sum, or fedavg, fedprox, ditto, fedper or fedrep with scope: task"
        )


def in_common(models: Mapping[str, Params]) -> list[str]:
    """What to tell of groups of the same tasks: a sentence for each two of them."""
    told = []
    for a, b in _of_same_tasks(models):
        alike = common_names(models[a], models[b])
        shares = (sum(models[x][n].size for n in alike) / sum(v.size for v in models[x].values()) for x in (a, b))
        told.append("{} and {} have {:.1%} and {:.1%} of their parameters in common".format(a, b, *shares))
    return told


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


def fuse_within_tasks(models: Mapping[str, Params], weights: Mapping[str, float]) -> dict[str, Params]:
    """Each group's parameters, with the means over the groups of the same tasks in the blocks that they have alike.

    A group that is alone with its tasks keeps its tree.
    """
    shares = {
        group: row
        for group in models
        if len(row := {other: weights[other] for other in models if tasks_of(other) == tasks_of(group)}) > 1
    }
    return {**models, **fuse(models, shares)}


def _mixed(encoders: Mapping[str, Params], group: str, row: Mapping[str, float]) -> dict[str, NDArray[np.float32]]:
    own = encoders[group]
    alike = {other: common_names(own, encoders[other]) for other in row}
    mixed: dict[str, NDArray[np.float32]] = {}
    for names in blocks(own).values():
        others = [other for other in row if names[0] in alike[other]]
        trees = [{name: encoders[other][name] for name in names} for other in others]
        mixed.update(weighted_mean(trees, [row[other] for other in others]))
    return {name: mixed[name] for name in own}


def blocks(params: Params) -> dict[str, Names]:
    """The names of parameters by block: see ``common_names``."""
    found: dict[str, list[str]] = {}
    for name in params:
        found.setdefault(_block(name), []).append(name)
    return {block: tuple(names) for block, names in found.items()}


def _block(name: str) -> str:
    parts = name.split(".")
    is_encoder = name.startswith(ENCODER)
    numbered = len(list(takewhile(lambda part: not part.isdigit(), parts)))
    if numbered == len(parts):
        return ".".join(parts[: 1 if is_encoder else 2])
    return ".".join(parts[: numbered + is_encoder])


def _of_same_tasks(models: Mapping[str, Params]) -> Iterator[tuple[str, str]]:
    return ((a, b) for a, b in combinations(models, 2) if tasks_of(a) == tasks_of(b))


def _same(names: Sequence[str], others: Sequence[str], a: Params, b: Params) -> bool:
    return names == others and all(a[name].shape == b[name].shape for name in names)


def _first_difference(models: Mapping[str, Params], a: str, b: str) -> str:
    first, second = models[a], models[b]
    name = next(name for name in (*first, *second) if _shape(first, name) != _shape(second, name))
    return f"{name} is {_shape(first, name)} at {a} and {_shape(second, name)} at {b}"


def _shape(params: Params, name: str) -> tuple[int, ...] | str:
    return params[name].shape if name in params else "missing"
