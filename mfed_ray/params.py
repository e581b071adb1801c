"""Pure functions on parameters (``messages.Params``): split, subtract, compare."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from mfed_ray.messages import Params

ENCODER = "encoder."
STATISTICS = (".running_mean", ".running_var")
"""Endings of the names of BatchNorm's running statistics, which no gradient learns."""

_HEADS = {"classifier", "predictor", "box_predictor", "cls_logits", "bbox_pred"}


def encoder_of(params: Params) -> dict[str, NDArray[np.float32]]:
    """The encoder's parameters."""
    return {name: value for name, value in params.items() if name.startswith(ENCODER)}


def decoders_of(params: Params, task: str | None = None) -> dict[str, NDArray[np.float32]]:
    """Every decoder's parameters, or those of one task's."""
    prefix = "" if task is None else f"decoders.{task}."
    return {name: value for name, value in params.items() if not name.startswith(ENCODER) and name.startswith(prefix)}


def is_output_head(name: str) -> bool:
    """Whether a decoder's parameter belongs to a layer that gives its outputs, whose meaning is the task's own."""
    return not _HEADS.isdisjoint(name.split("."))


def nbytes(trees: Iterable[Params]) -> int:
    """Bytes of all distinct trees; a tree that stands twice is counted once."""
    distinct = {id(tree): tree for tree in trees}
    return sum(value.nbytes for tree in distinct.values() for value in tree.values())


def misfit(tree: Params, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """What of a tree is not a model's of these ``shapes``, in words that begin with the parameter; None: it fits.

    A name may have a prefix that ends in a slash: another quantity of the same shape.
    """
    for name, value in tree.items():
        shape = shapes.get(name.rpartition("/")[2])
        if shape is None:
            return f"{name} is no parameter of its model; allowed: names of its model, as {next(iter(shapes))}"
        if value.shape != shape:
            return f"{name} has shape {value.shape}; allowed: {shape}, as its model has it"
        if value.dtype != np.float32:
            return f"{name} is {value.dtype}; allowed: float32"
    return None


def not_finite(tree: Params) -> str | None:
    """The first parameter that is not finite, in words; None: all are."""
    for name, value in tree.items():
        if count := value.size - np.count_nonzero(np.isfinite(value)):
            return f"{name} has {count} of {value.size} values that are not finite"
    return None


def difference(new: Params, old: Params) -> dict[str, NDArray[np.float32]]:
    """new - old, by name of ``new``."""
    return {name: value - old[name] for name, value in new.items()}


def cosine(a: Params, b: Params) -> float:
    """Cosine of the angle between two trees of learned parameters; 0 where one of them is zero.

    Running statistics of BatchNorm are left out: they are not learned by gradient, and the variances' magnitudes would
    drown everything else.
    """
    dot, norm_a, norm_b = 0.0, 0.0, 0.0
    for name in a:
        if not name.endswith(STATISTICS):
            x, y = a[name].astype(np.float64), b[name].astype(np.float64)
            # sums of products, not a BLAS dot: its bits depend on the number of threads
            dot += float((x * y).sum())
            norm_a += float((x * x).sum())
            norm_b += float((y * y).sum())
    if norm_a == 0.0 or norm_b == 0.0:
        return 0.0
    return float(np.clip(dot / np.sqrt(norm_a * norm_b), -1.0, 1.0))
