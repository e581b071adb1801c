"""This project's round loop, serial or on Ray. All that ``benchmarks.overhead`` touches of the package is in this file.

Clients train in memory: the package's own trainer, less its loading of images and its evaluation. The clock starts
after round 0, which evaluates the initial models.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from benchmarks.overhead_arms.federation import (
    LEARNING_RATE,
    SEED,
    WORKERS,
    Client,
    Clock,
    Model,
    Size,
    Tensors,
    arrays_of,
    make_clients,
    make_model,
    tensors_of,
    train,
    workspace,
)
from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.federation.backend import Backend
from mfed_ray.federation.simulation import Simulation
from mfed_ray.loaded_model import LoadedModel
from mfed_ray.local_training import LocalTraining
from mfed_ray.messages import ClientSpec, Params, Part, Proximal, State
from mfed_ray.models.multitask import MultiTaskModel
from mfed_ray.runtime.placement import Placement
from mfed_ray.runtime.pool import ActorPool
from mfed_ray.runtime.ray_backend import RayBackend
from mfed_ray.runtime.serial import SerialBackend
from mfed_ray.runtime.worker import Worker
from mfed_ray.training import Trainer

TASK = "classes"
SETTINGS = LocalTraining(optimizer="sgd", learning_rate=LEARNING_RATE, momentum=0.0, weight_decay=0.0)


@dataclass
class MemoryTrainer(Trainer):
    """The package's trainer with the benchmark's local training."""

    data: Client = field(kw_only=True)

    def train(
        self,
        round_number: int,
        proximal: Sequence[Proximal] = (),
        parts: Sequence[Part] = ("model",),
        *,
        withhold: bool = True,
    ) -> dict[str, dict[str, float]]:
        """The benchmark's steps on data in memory."""
        del round_number, proximal, parts, withhold
        return {TASK: {"loss": train(cast("Model", self.model.module), self.data)}}

    def evaluate(self) -> dict[str, dict[str, float]]:
        """No metrics."""
        return {}

    def floors(self) -> dict[str, dict[str, float]]:
        """No metrics."""
        return {}


@cache
def initial_values(size: Size) -> Params:
    """The initial model's parameters, once in each process."""
    return arrays_of(make_model(size))


@cache
def loaded_model(size: Size) -> LoadedModel:
    """The model that a process's clients take turns with, as the package's own factory keeps it."""
    module = cast("MultiTaskModel", workspace(size))
    return LoadedModel(module, initial_values(size), frozenset(), torch.device("cpu"))


@dataclass(frozen=True)
class MakeTrainer:
    """Builds trainers, in whatever process."""

    size: Size

    def __call__(self, client: ClientSpec) -> Trainer:
        """The client's trainer."""
        data = make_clients(self.size)[int(client.name)]
        return MemoryTrainer(client, loaded_model(self.size), [], [], SETTINGS, rounds=1, seed=SEED, data=data)


def simulation(size: Size, rounds: int) -> Simulation:
    """FedAvg over all clients, which are one task group; nothing is evaluated after round 0."""
    clients = [
        ClientSpec.of(f"{number:03d}", (TASK,), "memory", ("",) * client.examples)
        for number, client in enumerate(make_clients(size))
    ]
    initial = {TASK: initial_values(size)}
    return Simulation(FedAvg(), clients, initial, _no_probe, rounds, frozenset(), rounds + 1, None, SEED)


def serial(size: Size, rounds: int, clock: Clock) -> Tensors:
    """On the serial backend."""
    federation = simulation(size, rounds)
    clients = {client.name: client for client in federation.clients}
    worker = Worker(clients, federation.algorithm, MakeTrainer(size), threads=1)
    return federate(federation, SerialBackend(worker), clock)


def on_ray(size: Size, rounds: int, clock: Clock) -> Tensors:
    """On the actors of a Ray of its own."""
    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    ray.init(address="local", num_cpus=WORKERS, **quiet)
    federation = simulation(size, rounds)
    pool = ActorPool(Placement({"here": WORKERS}, size.clients), cpus=1, gpus=0, max_retries=3)
    backend = RayBackend(pool, list(federation.clients), federation.algorithm, MakeTrainer(size), threads=1)
    final = federate(federation, backend, clock)
    pool.close()
    ray.shutdown()
    return final


def federate(federation: Simulation, backend: Backend, clock: Clock) -> Tensors:
    """The rounds; each ends where its report and its checkpoint are handed out."""
    server = State()
    for event in federation.run(backend, None):
        if isinstance(event, tuple):
            trained, checkpoint = event
            server = checkpoint.server
            if trained.round:
                clock.lap()
            else:
                clock.start()
    return tensors_of({name: value for part in server.params.values() for name, value in part.items()})


def _no_probe(group: str, encoder: Params, images: int) -> NDArray[np.float32]:
    raise AssertionError(f"FedAvg asked for features of {group}: {len(encoder)} parameters, {images} images")
