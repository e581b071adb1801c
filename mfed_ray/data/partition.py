"""Disjoint shards of a dataset for the clients of one task."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from mfed_ray.errors import ConfigError, DataError
from mfed_ray.section import Section

Order = NDArray[np.int64]


class Partition(Section):
    """How a dataset's training images are dealt to clients. Every image goes to exactly one shard of a deal.

    Clients with a number of images of their own (``clients[].images``) have drawn theirs before and take no part.

    - ``iid``: at random, sizes differ by at most 1
    - ``quantity``: at random, relative sizes drawn from a symmetric Dirichlet distribution with concentration ``alpha``
    - ``label``: sizes differ by at most 1; each shard's class mixture q is drawn from Dir(alpha p), where p is the
      classes' share in the whole set (Hsu, Qi, Brown 2019, arXiv 1909.06335, section 3). An exhausted class is left
      out and q renormalised, or drawn anew if nothing is left of it. Shards draw in turn, one image each, where the
      paper fills one client after another: so the last shard is not just what the others left.

    ``on_bad_sample``: with "skip", an image that cannot be read for its client's tasks is left out of the client's
    shard, and of the held-out images. Every image is read once for that before the run begins, so what is left out
    depends on the data alone.

    Raises ConfigError if alpha <= 0 or minimum < 1.
    """

    scheme: Literal["iid", "quantity", "label"] = "iid"
    alpha: float = 0.5
    """Dirichlet concentration of ``quantity`` and ``label``: smaller is more skewed."""
    minimum: int = 1
    """Fewest images of a shard."""
    across: Literal["dataset", "task"] = "dataset"
    """Disjoint among all clients of a dataset, or among those of one task group only (tasks then share images)."""
    on_bad_sample: Literal["error", "skip"] = "error"
    """An image or label that cannot be read ends the run, or is left out."""

    @model_validator(mode="after")
    def _check(self) -> "Partition":
        if not self.alpha > 0:
            raise ConfigError(f"partition.alpha: {self.alpha} found, must be above 0")
        if self.minimum < 1:
            raise ConfigError(f"partition.minimum: {self.minimum} found, must be at least 1")
        return self

    def shards(
        self, image_ids: Sequence[str], n_shards: int, rng: np.random.Generator, labels: Sequence[int] | None = None
    ) -> list[list[str]]:
        """``n_shards`` lists of image ids, each in the order of ``image_ids``.

        ``labels`` gives each image's class (``Dataset.dominant_class``); only scheme ``label`` reads it.
        Raises DataError if there are fewer images than ``n_shards * minimum``, or not one label per image.
        """
        n_images = len(image_ids)
        if n_shards < 1 or n_images < n_shards * self.minimum:
            raise DataError(
                f"partition: {n_images} images cannot fill {n_shards} shards of at least {self.minimum}, "
                f"allowed are 1 to {n_images // self.minimum} shards"
            )
        if self.scheme == "label":
            if labels is None or len(labels) != n_images:
                given = "none" if labels is None else len(labels)
                raise DataError(f"partition: scheme 'label' needs one label per image, found {given} for {n_images}")
            members = _by_label(np.asarray(labels), n_shards, self.alpha, rng)
        else:
            uniform = np.full(n_shards, 1 / n_shards)
            weights = uniform if self.scheme == "iid" else rng.dirichlet(np.full(n_shards, self.alpha))
            sizes = _sizes(weights, n_images, self.minimum)
            members = np.split(rng.permutation(n_images), np.cumsum(sizes)[:-1])
        return [[image_ids[index] for index in np.sort(member)] for member in members]


def _sizes(weights: NDArray[np.float64], total: int, minimum: int) -> Order:
    """Whole numbers in proportion to the weights that sum to ``total``, each at least ``minimum``."""
    exact = weights * total
    sizes = np.floor(exact).astype(np.int64)
    largest_remainder = np.argsort(sizes - exact, kind="stable")
    sizes[largest_remainder[: total - sizes.sum()]] += 1
    while sizes.min() < minimum:
        sizes[sizes.argmin()] += 1
        sizes[sizes.argmax()] -= 1
    return sizes


def _by_label(labels: NDArray[np.int64], n_shards: int, alpha: float, rng: np.random.Generator) -> list[Order]:
    """The scheme ``label``: each shard's positions in ``labels``, in the order in which they were drawn."""
    _, classes, left = np.unique(labels, return_inverse=True, return_counts=True)
    pools = [list(rng.permutation(np.flatnonzero(classes == index))) for index in range(len(left))]
    mixtures = rng.dirichlet(alpha * left / left.sum(), size=n_shards)
    members: list[list[int]] = [[] for _ in range(n_shards)]
    for turn in range(len(labels)):
        shard = turn % n_shards
        mixtures[shard, left == 0] = 0
        if not mixtures[shard].any():
            mixtures[shard, left > 0] = rng.dirichlet(alpha * left[left > 0] / left.sum())
        drawn = int(rng.choice(len(left), p=mixtures[shard] / mixtures[shard].sum()))
        left[drawn] -= 1
        members[shard].append(pools[drawn].pop())
    return [np.asarray(member) for member in members]
