"""What all arms have in common: the model, the clients' data, local training, the loss and the clock.

Needs torch and numpy alone, since some arms run in environments that lack this project.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

WORKERS = 2
INPUTS, CLASSES = 64, 10
BATCH, STEPS, LEARNING_RATE = 32, 5, 0.2
SEED = 0

Arrays = Mapping[str, NDArray[np.float32]]
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Size:
    """How many clients, and how wide the hidden layers of their model are."""

    clients: int
    width: int

    @property
    def model_bytes(self) -> int:
        """Bytes of the model's float32 parameters."""
        inputs, hidden, outputs = INPUTS + 1, self.width + 1, CLASSES
        return 4 * (inputs * self.width + hidden * self.width + hidden * outputs)


SIZES = {"16x0.5MB": Size(16, 320), "64x0.5MB": Size(64, 320), "8x68MB": Size(8, 4096)}


class Model(nn.Module):
    """Two hidden layers; its parameters' names begin as this project's do, which all arms but ours ignore."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(INPUTS, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.decoders = nn.ModuleDict({"classes": nn.Linear(width, CLASSES)})

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, [N, CLASSES]."""
        logits: Tensor = self.decoders["classes"](self.encoder(inputs))
        return logits

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(self(inputs), targets)


@dataclass(frozen=True)
class Client:
    """A client's data: the first STEPS batches are trained on each round, and all of it counts as its weight."""

    inputs: Tensor
    targets: Tensor

    @property
    def examples(self) -> int:
        """n_k."""
        return len(self.targets)

    @property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """The batches of a round."""
        return list(zip(torch.split(self.inputs, BATCH), torch.split(self.targets, BATCH), strict=True))[:STEPS]


def make_model(size: Size) -> Model:
    """The initial model, the same in every process."""
    torch.manual_seed(SEED)
    return Model(size.width)


@cache
def make_clients(size: Size) -> tuple[Client, ...]:
    """All clients; the later half have twice the examples and other classes, so a mean without weights shows."""
    clients = []
    for number in range(size.clients):
        later = int(2 * number >= size.clients)
        teacher = np.random.default_rng([SEED, later]).standard_normal((INPUTS, CLASSES))
        examples = BATCH * STEPS * (1 + later)
        inputs = np.random.default_rng([SEED, 2 + number]).standard_normal((examples, INPUTS)).astype(np.float32)
        clients.append(Client(torch.from_numpy(inputs), torch.from_numpy((inputs @ teacher).argmax(1))))
    return tuple(clients)


@cache
def workspace(size: Size) -> Model:
    """The one model of a process, which its clients take turns with."""
    torch.set_num_threads(1)
    return make_model(size)


def train(model: Model, client: Client) -> float:
    """The client's steps of a round; their mean loss."""
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)
    losses = []
    for inputs, targets in client.batches:
        optimizer.zero_grad()
        loss = model.loss(inputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return sum(losses) / len(losses)


@torch.no_grad()
def load(model: Model, values: Tensors) -> None:
    """Set the model's parameters."""
    for name, parameter in model.named_parameters():
        parameter.copy_(values[name])


def arrays_of(model: Model) -> dict[str, NDArray[np.float32]]:
    """Copies of the model's parameters."""
    return {name: parameter.detach().numpy().copy() for name, parameter in model.named_parameters()}


def tensors_of(arrays: Arrays) -> dict[str, Tensor]:
    """Tensors over the same memory, copied where it is read-only."""
    return {name: torch.from_numpy(array if array.flags.writeable else array.copy()) for name, array in arrays.items()}


@torch.no_grad()
def training_loss(model: Model, size: Size) -> float:
    """The model's mean loss over all examples of all clients."""
    clients = make_clients(size)
    total = sum(client.examples * float(model.loss(client.inputs, client.targets)) for client in clients)
    return total / sum(client.examples for client in clients)


@dataclass
class Clock:
    """When training began, and when each round ended."""

    began: float = 0.0
    marks: list[float] = field(default_factory=list)

    def start(self) -> None:
        """The first round begins."""
        self.began = time.time()
        self.marks.append(time.perf_counter())

    def lap(self) -> None:
        """A round has ended."""
        self.marks.append(time.perf_counter())

    @property
    def rounds(self) -> list[float]:
        """Seconds of each round."""
        return [after - before for before, after in zip(self.marks, self.marks[1:], strict=False)]
