"""One client's training and evaluation: local epochs on its shard, with proximal terms."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mfed_ray.annotations import Prediction
from mfed_ray.data.sample import Dataset
from mfed_ray.data.transforms import Augmentation, InputSize
from mfed_ray.errors import ClientError
from mfed_ray.loading import Batch, held_out_batches, network_input, training_batches
from mfed_ray.messages import ClientSpec, Params, State
from mfed_ray.models.contract import BatchTarget
from mfed_ray.models.multitask import MultiTaskModel
from mfed_ray.seeds import derive
from mfed_ray.tasks.contract import Task

Values = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class LocalTraining:
    """How a client trains in a round."""

    epochs: int
    batch_size: int
    optimizer: Literal["sgd", "adamw"]
    learning_rate: float
    momentum: float
    weight_decay: float
    schedule: Literal["constant", "polynomial", "cosine"]
    rounds: int
    optimizer_state: Literal["reset", "keep"]
    max_steps: int | None = None
    gradient_clip: float | None = None
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    loading_workers: int = 0

    def learning_rate_at(self, round_number: int) -> float:
        """Learning rate of a round in 1..rounds: constant, (1 - r/R)^0.9, or half a cosine, with r = round - 1."""
        progress = (round_number - 1) / self.rounds
        factor: float = {
            "constant": 1.0,
            "polynomial": (1.0 - progress) ** 0.9,
            "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
        }[self.schedule]
        return self.learning_rate * factor


@dataclass(frozen=True)
class Proximal:
    """weight/2 ||w - anchor||^2 over the learned parameters w that the anchor names."""

    anchor: Params
    weight: float


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
        with torch.no_grad():
            for name, tensor in _floats(self.module).items():
                tensor.copy_(torch.tensor(values[name]))

    @torch.inference_mode()
    def predict(self, image: NDArray[np.uint8], input_size: InputSize) -> dict[str, Prediction]:
        """Predictions by task for one image, uint8 [H, W, 3], in its own size."""
        height, width = image.shape[:2]
        batch = network_input(image, input_size)[None].to(self.device)
        predictions = self.module.eval().predict(batch, (height, width))
        return {name: one for name, (one,) in predictions.items()}


@dataclass
class Trainer:
    """One client's model, data and settings. ``start`` first; then ``train``, ``evaluate``, ``shared``, ``state``."""

    spec: ClientSpec
    model: LoadedModel
    dataset: Dataset
    tasks: Sequence[Task]
    augmentation: Augmentation
    settings: LocalTraining
    seed: int
    evaluation_batch_size: int = 8
    _optimizer_state: Params = field(default_factory=dict, init=False)

    def start(self, state: State, *overlays: Params) -> None:
        """Set the model (see ``LoadedModel.load``) and take over the client's optimizer state."""
        self.model.load(state, *overlays)
        self._optimizer_state = state.params.get("optimizer", {})

    def shared(self) -> Values:
        """Copies of all parameters and statistics that the normalisation policy lets leave the client."""
        values = float_values(self.model.module)
        return {name: value for name, value in values.items() if name not in self.model.private}

    def state(self, keep: Params | None = None) -> State:
        """What the client keeps: private values that moved, ``keep``, the optimizer's state if configured."""
        initial = self.model.initial
        private = {
            name: value
            for name, value in float_values(self.model.module).items()
            if name in self.model.private and not np.array_equal(value, initial[name])
        }
        trees: dict[str, Params] = {"model": {**private, **(keep or {})}, "optimizer": self._optimizer_state}
        return State({name: tree for name, tree in trees.items() if tree})

    def train(self, round_number: int, proximal: Sequence[Proximal] = ()) -> dict[str, dict[str, float]]:
        """Train for the round; mean losses by task, and the group's ``proximal_penalty`` and number of ``steps``.

        The objective is the sum over tasks of weight * loss, plus every proximal term, as a part of the graph.
        """
        module = self.model.module.train()
        named = dict(module.named_parameters())
        optimizer = self._optimizer(round_number, named)
        terms = [
            (named[name], torch.tensor(value, device=self.model.device), term.weight)
            for term in proximal
            for name, value in term.anchor.items()
            if name in named
        ]
        totals: dict[str, float] = {task.name: 0.0 for task in self.tasks}
        penalties, steps = 0.0, 0
        for step, (images, targets) in enumerate(self._batches(round_number), start=1):
            optimizer.zero_grad(set_to_none=True)
            with _seeded(derive(self.seed, self.spec.name, round_number, "step", step), self.model.device):
                losses = self._losses(images, targets)
            values = {name: float(loss.detach()) for name, loss in losses.items()}
            self._check_finite(values, round_number, step)
            penalty = proximal_penalty(terms, self.model.device)
            objective = sum((self._weight(task) * losses[task.name] for task in self.tasks), start=penalty)
            objective.backward()  # type: ignore[no-untyped-call]
            if self.settings.gradient_clip is not None:
                nn.utils.clip_grad_norm_(named.values(), self.settings.gradient_clip)
            optimizer.step()
            for name, value in values.items():
                totals[name] += value
            penalties, steps = penalties + float(penalty.detach()), step
        if self.settings.optimizer_state == "keep":
            self._optimizer_state = _optimizer_values(optimizer, named)
        metrics = {name: {"loss": total / steps} for name, total in totals.items()}
        metrics.setdefault(self.spec.group, {}).update(proximal_penalty=penalties / steps, steps=float(steps))
        return metrics

    def _batches(self, round_number: int) -> Iterable[Batch]:
        left = self.settings.max_steps
        for epoch in range(self.settings.epochs):
            for batch in training_batches(
                self.dataset,
                self.spec.train_ids,
                self.tasks,
                self.augmentation,
                batch_size=self.settings.batch_size,
                seed=derive(self.seed, self.spec.name, round_number, epoch),
                workers=self.settings.loading_workers,
            ):
                if left == 0:
                    return
                left = None if left is None else left - 1
                yield batch

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
        s, rate = self.settings, self.settings.learning_rate_at(round_number)
        optimizer: torch.optim.Optimizer
        if s.optimizer == "sgd":
            optimizer = torch.optim.SGD(named.values(), rate, momentum=s.momentum, weight_decay=s.weight_decay)
        else:
            betas = (s.momentum, 0.999)
            optimizer = torch.optim.AdamW(named.values(), rate, betas, weight_decay=s.weight_decay, fused=True)
        if s.optimizer_state == "keep":
            for key, value in self._optimizer_state.items():
                name, part = key.rsplit("/", 1)
                optimizer.state[named[name]][part] = torch.tensor(value, device=self.model.device)
        return optimizer

    @torch.inference_mode()
    def evaluate(self) -> dict[str, dict[str, float]]:
        """Metrics by task over the client's held-out images, each in its own size, however the network saw it."""
        module = self.model.module.eval()
        metrics = {task.name: task.make_metric() for task in self.tasks}
        names = [task.name for task in self.tasks]
        batches = held_out_batches(
            self.dataset, self.spec.held_out_ids, names, self.evaluation_batch_size, self.augmentation.input_size
        )
        for images, samples in batches:
            height, width = samples[0].image.shape[:2]
            for name, predictions in module.predict(images.to(self.model.device), (height, width)).items():
                for prediction, sample in zip(predictions, samples, strict=True):
                    metrics[name].update(prediction, sample.targets[name])
        return {name: dict(metric.compute()) for name, metric in metrics.items()}


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


def _floats(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and statistics; BatchNorm's integer counters, which no arithmetic reads, are left out."""
    return {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}


def float_values(module: nn.Module) -> Values:
    """Copies of a module's parameters and statistics, as arrays in main memory."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in _floats(module).items()}


def _optimizer_values(optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter]) -> Values:
    return {
        f"{name}/{part}": value.detach().cpu().numpy().copy()
        for name, parameter in named.items()
        for part, value in optimizer.state[parameter].items()
        if value is not None
    }
