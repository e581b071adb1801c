"""One client's training and evaluation: local epochs on its shard, with proximal terms."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from mfed_ray.errors import ClientError
from mfed_ray.loaded_model import LoadedModel, Values
from mfed_ray.loading import Batch, Shard, held_out_batches
from mfed_ray.local_training import LocalTraining
from mfed_ray.messages import ClientSpec, Params, Part, Proximal, State, group_name
from mfed_ray.models.contract import BatchTarget
from mfed_ray.optimizers import kept_values, make_optimizer
from mfed_ray.params import ENCODER
from mfed_ray.seeds import derive
from mfed_ray.tasks.contract import Task
from mfed_ray.tasks.floor import floor

Item = TypeVar("Item")


@dataclass
class Trainer:
    """One client's model, data and settings. ``start`` first; then ``train``, ``evaluate``, ``shared``, ``state``.

    It trains on the batches of its ``shards`` in turn: one for each of its sources. The learning rate of a round
    depends on the run's number of ``rounds``.
    """

    spec: ClientSpec
    model: LoadedModel
    shards: Sequence[Shard]
    tasks: Sequence[Task]
    settings: LocalTraining
    rounds: int
    seed: int
    evaluation_batch_size: int = 8
    _optimizer_state: Params = field(default_factory=dict, init=False)

    def start(self, state: State, *overlays: Params) -> None:
        """Set the model (see ``LoadedModel.load``) and take over the client's optimizer state."""
        self.model.load(state, *overlays)
        self._optimizer_state = state.params.get("optimizer", {})

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the model's parameters and statistics, by name."""
        return self.model.shapes

    def shared(self) -> Values:
        """Copies of all parameters and statistics that the normalisation policy lets leave the client."""
        return self.model.shared()

    def state(self, keep: Params | None = None) -> State:
        """What the client keeps: private values that moved, ``keep``, the optimizer's state if configured."""
        initial = self.model.initial
        private = {name: value for name, value in self.model.own().items() if not np.array_equal(value, initial[name])}
        trees: dict[str, Params] = {"model": {**private, **(keep or {})}, "optimizer": self._optimizer_state}
        return State({name: tree for name, tree in trees.items() if tree})

    def train(
        self,
        round_number: int,
        proximal: Sequence[Proximal] = (),
        parts: Sequence[Part] = ("model",),
        *,
        withhold: bool = True,
    ) -> dict[str, dict[str, float]]:
        """Train for the round; mean losses by task, and the group's ``proximal_penalty`` and number of ``steps``.

        Under ``max_update_norm`` also its ``update_norm``, before it is clipped.

        The objective is the sum over the batch's tasks of weight * loss, plus every proximal term, as a part of the
        graph. ``parts`` take turns, each for an equal share of the steps, while the rest stands still; BatchNorm's
        statistics go on there as well. ``withhold``: without the images that are withheld. Raises ClientError for fewer
        steps than parts, for a loss that is infinite, and for an update that is refused.
        """
        start = {} if self.settings.max_update_norm is None else self.model.learned()
        named = dict(self.model.module.named_parameters())
        terms = [
            (named[name], torch.tensor(value, device=self.model.device), term.weight)
            for term in proximal
            for name, value in term.anchor.items()
            if name in named
        ]
        losses: dict[str, list[float]] = {task.name: [] for task in self.tasks}
        penalties: list[float] = []
        batches = _in_turn([shard.batches(round_number, withhold) for shard in self.shards])
        for part, count in self._turns(round_number, parts, sum(shard.steps(withhold) for shard in self.shards)):
            with self._only(part) as trained:
                rate = self.settings.learning_rate_at(round_number, self.rounds)
                optimizer = make_optimizer(self.settings, rate, trained, self._optimizer_state)
                for batch in islice(batches, count):
                    found, penalty = self._step(optimizer, terms, batch, round_number, "step", len(penalties) + 1)
                    for task, value in found.items():
                        losses[task].append(value)
                    penalties.append(penalty)
            if self.settings.optimizer_state == "keep":
                self._optimizer_state = {**self._optimizer_state, **kept_values(optimizer, trained)}
        metrics = {name: {"loss": float(np.mean(values))} for name, values in losses.items()}
        steps = len(penalties)
        own = metrics.setdefault(group_name(self.spec.tasks), {})
        own.update(proximal_penalty=sum(penalties) / steps, steps=float(steps))
        if self.settings.max_update_norm is not None:
            own["update_norm"] = self._limited(start, self.settings.max_update_norm, round_number)
        return metrics

    def align(self, round_number: int, steps: int) -> None:
        """Train the readout, for so many steps of a fresh optimizer on each source, at the first round's learning rate.

        Raises ClientError for a loss that is infinite.
        """
        with self._only("readout") as trained:
            optimizer = make_optimizer(self.settings, self.settings.learning_rate, trained, {})
            batches = _in_turn([shard.alignment_batches(round_number, steps) for shard in self.shards])
            for step, batch in enumerate(batches, start=1):
                self._step(optimizer, [], batch, round_number, "align", step)

    @torch.inference_mode()
    def judge(self) -> float:
        """Mean objective over the images that are kept back; NaN where there are none."""
        self.model.module.eval()
        total, images = 0.0, 0
        for number, batch in enumerate(batch for shard in self.shards for batch in shard.kept_back_batches()):
            with _seeded(derive(self.seed, self.spec.name, "judge", number), self.model.device):
                losses = self._losses(*batch)
            total += len(batch[0]) * sum(self._weight(task) * float(losses[task.name]) for task in self.tasks)
            images += len(batch[0])
        return total / images if images else math.nan

    @contextmanager
    def _only(self, part: Part) -> Iterator[dict[str, nn.Parameter]]:
        """The parameters of a part, the model in training; meanwhile the others stand still."""
        module = self.model.module.train()
        if part == "readout" and not self.model.has_own_encoder_statistics:  # they have to follow what was loaded
            module.encoder.eval()
        trained = {name: tensor for name, tensor in module.named_parameters() if _belongs(name, part)}
        for name, tensor in module.named_parameters():
            tensor.requires_grad_(name in trained)
        try:
            yield trained
        finally:
            module.requires_grad_(True)

    def _turns(self, round_number: int, parts: Sequence[Part], steps: int) -> list[tuple[Part, int]]:
        if steps < len(parts):
            raise ClientError(
                f"client {self.spec.name}, round {round_number}: {steps} steps cannot be shared among {len(parts)} "
                "turns of training parts; raise local.epochs or local.max_steps"
            )
        ends = [steps * number // len(parts) for number in range(len(parts) + 1)]
        turns: list[tuple[Part, int]] = []
        for part, start, end in zip(parts, ends, ends[1:], strict=False):
            if turns and turns[-1][0] == part:  # one long turn: its optimizer goes on
                start -= turns.pop()[1]
            turns.append((part, end - start))
        return turns

    def _step(
        self,
        optimizer: torch.optim.Optimizer,
        terms: Sequence[tuple[Tensor, Tensor, float]],
        batch: Batch,
        round_number: int,
        use: str,
        step: int,
    ) -> tuple[dict[str, float], float]:
        """One optimization step; the losses by task and the penalty that it started from. Raises ClientError."""
        # the model's, not the optimizer's: clipping must not see what other parts or clients left behind
        self.model.module.zero_grad(set_to_none=True)
        with _seeded(derive(self.seed, self.spec.name, round_number, use, step), self.model.device):
            losses = self._losses(*batch)
            penalty = proximal_penalty(terms, self.model.device)
            objective = sum((self._weight(t) * losses[t.name] for t in self.tasks if t.name in losses), penalty)
            objective.backward()  # type: ignore[no-untyped-call]
        if self.settings.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.model.module.parameters(), self.settings.gradient_clip)
        optimizer.step()
        found = {name: float(loss.detach()) for name, loss in losses.items()}
        self._check_finite(found, round_number, step)
        return found, float(penalty.detach())

    def _losses(self, images: Tensor, targets: Mapping[str, BatchTarget]) -> dict[str, Tensor]:
        moved = {name: _moved(target, self.model.device) for name, target in targets.items()}
        losses = self.model.module.losses(images.to(self.model.device), moved)
        return {name: torch.stack(list(parts.values())).sum() for name, parts in losses.items()}

    def _check_finite(self, losses: Mapping[str, float], round_number: int, step: int) -> None:
        """Raise ClientError: a diverged detector finds nothing, which no metric could tell from a poor one."""
        for name, value in losses.items():
            if not math.isfinite(value):
                raise ClientError(
                    f"client {self.spec.name}, round {round_number}, step {step}: the loss of {name} is {value}, it "
                    f"must be finite; lower local.learning_rate ({self.settings.learning_rate:g}) or set "
                    "local.gradient_clip"
                )

    def _limited(self, start: Mapping[str, Tensor], limit: float, round_number: int) -> float:
        """Hold the round's move to the limit; its norm. Raises ClientError where a larger one is refused."""
        norm = self.model.distance(start)
        if limit < norm < math.inf:  # one that is not finite has a parameter to be named by
            if self.settings.on_large_update == "refuse":
                raise ClientError(
                    f"client {self.spec.name}, round {round_number} ({', '.join(self.spec.tasks)}): its update has the "
                    f"norm {norm:.4g}; allowed: at most local.max_update_norm, {limit:g}"
                )
            self.model.shorten(start, limit / norm)
        return norm

    def _weight(self, task: Task) -> float:
        return self.settings.loss_weights.get(task.name, task.loss_weight)

    @torch.inference_mode()
    def evaluate(self) -> dict[str, dict[str, float]]:
        """Metrics by task over the client's held-out images, each in its own size, however the network saw it.

        A client without such images has no metrics. Raises ClientError for a model that is not finite: the class of the
        largest output is some class even where all outputs are NaN.
        """
        if not self.spec.held_out_ids:
            return {}
        if told := self.model.not_finite():
            raise ClientError(
                f"client {self.spec.name}: cannot be evaluated, its model is not finite ({told}); go on from an "
                "earlier checkpoint, or start over with a lower local.learning_rate"
            )
        (shard,) = self.shards
        module = self.model.module.eval()
        metrics = {task.name: task.make_metric() for task in self.tasks}
        batches = held_out_batches(
            shard.dataset,
            self.spec.held_out_ids,
            [task.name for task in self.tasks],
            self.evaluation_batch_size,
            shard.input_size,
        )
        for images, samples in batches:
            height, width = samples[0].image.shape[:2]
            for name, predictions in module.predict(images.to(self.model.device), (height, width)).items():
                for prediction, sample in zip(predictions, samples, strict=True):
                    metrics[name].update(prediction, sample.targets[name])
        return {name: dict(metric.compute()) for name, metric in metrics.items()}

    def floors(self) -> dict[str, dict[str, float]]:
        """Metrics by task of the constant predictions that do best on the client's held-out images."""
        (shard,) = self.shards
        return {task.name: floor(task, shard.dataset, self.spec.held_out_ids) for task in self.tasks}


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Detectors draw a sample of anchors and proposals from torch's global generators: seeded here, then put back."""
    is_cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if is_cuda else []):
        torch.default_generator.manual_seed(seed)
        if is_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def _moved(target: BatchTarget, device: torch.device) -> BatchTarget:
    if isinstance(target, Tensor):
        return target.to(device)
    return [{name: tensor.to(device) for name, tensor in one.items()} for one in target]


def proximal_penalty(terms: Iterable[tuple[Tensor, Tensor, float]], device: torch.device) -> Tensor:
    """Sum of weight/2 ||w - anchor||^2 over terms (w, anchor, weight); its gradient is weight (w - anchor)."""
    total = torch.zeros((), device=device)
    for parameter, anchor, weight in terms:
        total = total + 0.5 * weight * (parameter - anchor).square().sum()
    return total


def _in_turn(streams: Sequence[Iterator[Item]]) -> Iterator[Item]:
    """One of each stream in turn, until all have ended."""
    going = list(streams)
    while going:
        still = []
        for stream in going:
            for item in islice(stream, 1):
                yield item
                still.append(stream)
        going = still


def _belongs(name: str, part: Part) -> bool:
    return part == "model" or name.startswith(ENCODER) == (part == "encoder")
