"""One client's training and evaluation: local epochs on its shard, with proximal terms."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mfed_ray.annotations import Prediction
from mfed_ray.data.settings import InputSize
from mfed_ray.errors import ClientError
from mfed_ray.loading import Shard, held_out_batches, network_input
from mfed_ray.local_training import LocalTraining
from mfed_ray.messages import ClientSpec, Params, Part, Proximal, State
from mfed_ray.models.contract import BatchTarget
from mfed_ray.models.multitask import MultiTaskModel
from mfed_ray.params import ENCODER
from mfed_ray.seeds import derive
from mfed_ray.tasks.contract import Task
from mfed_ray.tasks.floor import floor

Values = dict[str, NDArray[np.float32]]
Item = TypeVar("Item")


@dataclass(frozen=True)
class LoadedModel:
    """A model, its initial values, the names that never leave a client. Clients of a group take turns with it."""

    module: MultiTaskModel
    initial: Mapping[str, NDArray[np.float32]]
    private: frozenset[str]
    device: torch.device

    def load(self, state: State, *overlays: Params) -> None:
        """Set the model: initial values, over them the client's own state, over that each overlay in turn."""
        values = {**self.initial, **state.params.get("model", {})}
        for overlay in overlays:
            values.update(overlay)
        for name, tensor in (self._shared | self._own).items():
            if self.device.type == "cpu":
                np.copyto(tensor.numpy(), values[name])  # once, from wherever the values lie
            else:
                tensor.copy_(torch.tensor(values[name]))

    def shared(self) -> Values:
        """Copies of the values that may leave a client."""
        return _copied(self._shared)

    def own(self) -> Values:
        """Copies of those that never do."""
        return _copied(self._own)

    @cached_property
    def _shared(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in _floats(self.module).items() if name not in self.private}

    @cached_property
    def _own(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in _floats(self.module).items() if name in self.private}

    @torch.inference_mode()
    def predict(self, image: NDArray[np.uint8], input_size: InputSize) -> dict[str, Prediction]:
        """Predictions by task for one image, uint8 [H, W, 3], in its own size."""
        height, width = image.shape[:2]
        batch = network_input(image, input_size)[None].to(self.device)
        predictions = self.module.eval().predict(batch, (height, width))
        return {name: one for name, (one,) in predictions.items()}


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
        self, round_number: int, proximal: Sequence[Proximal] = (), parts: Sequence[Part] = ("model",)
    ) -> dict[str, dict[str, float]]:
        """Train for the round; mean losses by task, and the group's ``proximal_penalty`` and number of ``steps``.

        The objective is the sum over the batch's tasks of weight * loss, plus every proximal term, as a part of the
        graph. ``parts`` take turns, each for an equal share of the steps, while the rest stands still; BatchNorm's
        statistics go on there as well. Raises ClientError for fewer steps than parts, and for a loss that is infinite.
        """
        module = self.model.module.train()
        named = dict(module.named_parameters())
        terms = [
            (named[name], torch.tensor(value, device=self.model.device), term.weight)
            for term in proximal
            for name, value in term.anchor.items()
            if name in named
        ]
        losses: dict[str, list[float]] = {task.name: [] for task in self.tasks}
        penalties: list[float] = []
        batches = _in_turn([shard.batches(round_number) for shard in self.shards])
        for part, count in self._turns(round_number, parts):
            trained = {name: tensor for name, tensor in named.items() if _belongs(name, part)}
            for name, tensor in named.items():
                tensor.requires_grad_(name in trained)
            optimizer = self._optimizer(round_number, trained)
            for images, targets in islice(batches, count):
                step = len(penalties) + 1
                with _seeded(derive(self.seed, self.spec.name, round_number, "step", step), self.model.device):
                    found, penalty = self._step(optimizer, terms, images, targets)
                self._check_finite(found, round_number, step)
                for task, value in found.items():
                    losses[task].append(value)
                penalties.append(penalty)
            if self.settings.optimizer_state == "keep":
                self._optimizer_state = {**self._optimizer_state, **_optimizer_values(optimizer, trained)}
        module.requires_grad_(True)
        metrics = {name: {"loss": float(np.mean(values))} for name, values in losses.items()}
        steps = len(penalties)
        metrics.setdefault(self.spec.group, {}).update(proximal_penalty=sum(penalties) / steps, steps=float(steps))
        return metrics

    def _turns(self, round_number: int, parts: Sequence[Part]) -> list[tuple[Part, int]]:
        steps = sum(shard.steps for shard in self.shards)
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
        images: Tensor,
        targets: Mapping[str, BatchTarget],
    ) -> tuple[dict[str, float], float]:
        """One optimization step; the losses by task and the penalty that it started from."""
        # the model's, not the optimizer's: clipping must not see what other parts or clients left behind
        self.model.module.zero_grad(set_to_none=True)
        losses = self._losses(images, targets)
        penalty = proximal_penalty(terms, self.model.device)
        objective = sum((self._weight(task) * losses[task.name] for task in self.tasks if task.name in losses), penalty)
        objective.backward()  # type: ignore[no-untyped-call]
        if self.settings.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.model.module.parameters(), self.settings.gradient_clip)
        optimizer.step()
        return {name: float(loss.detach()) for name, loss in losses.items()}, float(penalty.detach())

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

    def _weight(self, task: Task) -> float:
        return self.settings.loss_weights.get(task.name, task.loss_weight)

    def _optimizer(self, round_number: int, named: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        s, rate = self.settings, self.settings.learning_rate_at(round_number, self.rounds)
        optimizer: torch.optim.Optimizer
        if s.optimizer == "sgd":
            optimizer = torch.optim.SGD(named.values(), rate, momentum=s.momentum, weight_decay=s.weight_decay)
        else:
            betas = (s.momentum, 0.999)
            optimizer = torch.optim.AdamW(named.values(), rate, betas, weight_decay=s.weight_decay, fused=True)
        if s.optimizer_state == "keep":
            for key, value in self._optimizer_state.items():
                name, part = key.rsplit("/", 1)
                if name in named:
                    optimizer.state[named[name]][part] = torch.tensor(value, device=self.model.device)
        return optimizer

    @torch.inference_mode()
    def evaluate(self) -> dict[str, dict[str, float]]:
        """Metrics by task over the client's held-out images, each in its own size, however the network saw it.

        A client without such images has no metrics.
        """
        if not self.spec.held_out_ids:
            return {}
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


def _floats(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and statistics; BatchNorm's integer counters, which no arithmetic reads, are left out."""
    return {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}


def float_values(module: nn.Module) -> Values:
    """Copies of a module's parameters and statistics as arrays in main memory."""
    return _copied(_floats(module))


def _copied(tensors: Mapping[str, Tensor]) -> Values:
    return {name: tensor.cpu().numpy().copy() for name, tensor in tensors.items()}


def _optimizer_values(optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter]) -> Values:
    return {
        f"{name}/{part}": value.detach().cpu().numpy().copy()
        for name, parameter in named.items()
        for part, value in optimizer.state[parameter].items()
        if value is not None
    }
