"""What a task binds together: targets, decoder, loss, metric, headline, files."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfed_ray.annotations import Target
from mfed_ray.evaluation import Headline
from mfed_ray.metrics.contract import Metric
from mfed_ray.models.contract import Decoder
from mfed_ray.models.settings import ModelSettings
from mfed_ray.predictions.contract import PredictionWriter
from mfed_ray.registry import PYRAMID_TASKS
from mfed_ray.tasks.constants import Constant

__all__ = ["Headline", "Task", "TrainTarget"]

TrainTarget = Any
"""One image's training target: an array of one shape for all images of a batch, or named arrays of any."""


@dataclass(frozen=True)
class Task:
    """One task. ``make_decoder(channels, settings)`` builds a fresh decoder for an encoder's channels.

    ``train_target`` turns a transformed ``Sample`` target (see ``mfed_ray.data.sample``) into what the decoder's loss
    takes; ``loss_weight`` is the literature's weight of the task in a multi-task sum; ``make_writer(folder)`` writes
    predictions; ``constant(targets)`` is the constant prediction that does best on these ``Sample`` targets.
    """

    name: str
    headline: Headline
    loss_weight: float
    make_decoder: Callable[[Mapping[str, int], ModelSettings], Decoder]
    make_metric: Callable[[], Metric]
    make_writer: Callable[[Path], PredictionWriter]
    train_target: Callable[[Any], TrainTarget]
    constant: Callable[[Iterable[Target]], Constant]

    @property
    def pyramid(self) -> bool:
        """Whether its decoder stands on a feature pyramid, the encoder's or its own."""
        return self.name in PYRAMID_TASKS
