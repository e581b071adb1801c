"""A trainer that is as small as an algorithm allows: a linear model, w.x, whose rounds can be worked by hand."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mfed_ray.algorithms.contract import Metrics
from mfed_ray.messages import Params, Part, Proximal, State

Vector = NDArray[np.float32]
Batch = Mapping[str, tuple[Vector, float]]
"""By task: x, [numbers of w], and y."""


@dataclass
class ToyTrainer:
    """Predicts w.x for task t, w = encoder.w + decoders.t.w; a ``mfed_ray.algorithms.contract.Trainer``.

    A batch's loss is 1/2 (w.x - y)^2, summed over its tasks. A round is one gradient step for each batch. So a step
    with x = 1 for one task adds a quarter of y - w to encoder and decoder, if no proximal term pulls them.
    """

    initial: Params
    batches: Sequence[Batch]
    rate: float = 0.25
    seed: int = 0
    kept_back: Sequence[Batch] = ()
    w: dict[str, Vector] = field(default_factory=dict, init=False)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """By name of the model's parameters."""
        return {name: value.shape for name, value in self.initial.items()}

    def start(self, state: State, *overlays: Params) -> None:
        """Initial values, over them the client's, over them the overlays."""
        trees = (self.initial, state.params.get("model", {}), *overlays)
        self.w = {name: value.copy() for tree in trees for name, value in tree.items()}

    def train(
        self,
        round_number: int,
        proximal: Sequence[Proximal] = (),
        parts: Sequence[Part] = ("model",),
        *,
        withhold: bool = True,
    ) -> Metrics:
        """Plain gradient steps; the mean loss of each task over its steps. The number of the round changes nothing.

        Of S steps and P parts the turn number k ends with step S k // P, as with ``mfed_ray.training.Trainer``.
        """
        del round_number
        batches = self.batches if withhold else [*self.batches, *self.kept_back]
        losses: dict[str, list[float]] = {}
        for step, batch in enumerate(batches):
            part = parts[((step + 1) * len(parts) - 1) // len(batches)]
            for task, loss in self._step(batch, proximal, part).items():
                losses.setdefault(task, []).append(loss)
        return {task: {"loss": sum(values) / len(values)} for task, values in losses.items()}

    def align(self, round_number: int, steps: int) -> None:
        """Steps of the decoders, on the batches from the first."""
        del round_number
        for step in range(steps):
            self._step(self.batches[step % len(self.batches)], (), "readout")

    def judge(self) -> float:
        """The mean over the batches that are kept back, summed over their tasks."""
        losses = [sum(self._error(task, *pair) ** 2 / 2 for task, pair in batch.items()) for batch in self.kept_back]
        return sum(losses) / len(losses) if losses else math.nan

    def _error(self, task: str, x: Vector, y: float) -> float:
        return float((self.w["encoder.w"] + self.w[f"decoders.{task}.w"]) @ x) - y

    def _step(self, batch: Batch, proximal: Sequence[Proximal], part: Part) -> dict[str, float]:
        """One gradient step; the losses by task that it started from."""
        gradient = {name: np.zeros_like(value) for name, value in self.w.items()}
        losses = {}
        for task, (x, y) in batch.items():
            error = self._error(task, x, y)
            losses[task] = error**2 / 2
            gradient["encoder.w"] += error * x
            gradient[f"decoders.{task}.w"] += error * x
        for term in proximal:
            for name, anchor in term.anchor.items():
                gradient[name] += term.weight * (self.w[name] - anchor)
        for name in self.w:
            if part == "model" or name.startswith("encoder.") == (part == "encoder"):
                self.w[name] = self.w[name] - self.rate * gradient[name]
        return losses

    def shared(self) -> dict[str, Vector]:
        """Copies of the whole model."""
        return {name: value.copy() for name, value in self.w.items()}

    def state(self, keep: Params | None = None) -> State:
        """Nothing but ``keep``."""
        return State({"model": keep} if keep else {})
