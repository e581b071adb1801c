"""What a task binds together: targets, decoder, loss, metric, headline."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mfed_ray.metrics.contract import Metric
from mfed_ray.models.contract import Decoder


@dataclass(frozen=True)
class Headline:
    """The one metric that a task is judged by."""

    metric: str
    higher_is_better: bool


@dataclass(frozen=True)
class Task:
    """One task. ``make_decoder(channels, style, width, normalisation)`` builds a fresh decoder.

    ``train_target`` turns a transformed ``Sample`` target (see ``mfed_ray.data.sample``) into the array that the
    decoder's loss takes; ``loss_weight`` is the literature's weight of the task in a multi-task sum.
    """

    name: str
    headline: Headline
    loss_weight: float
    make_decoder: Callable[..., Decoder]
    make_metric: Callable[[], Metric]
    train_target: Callable[[NDArray[Any]], NDArray[Any]]
