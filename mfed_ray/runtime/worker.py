"""What runs at a client, in whatever process: the algorithm's client half on a trainer."""

import resource
import sys
import time
from collections.abc import Callable, Mapping

import torch

from mfed_ray.algorithms.contract import Algorithm
from mfed_ray.federation.backend import Fitted
from mfed_ray.messages import ClientReport, ClientSpec, Instruction, State, Update
from mfed_ray.training import Trainer

TrainerFactory = Callable[[ClientSpec], Trainer]
"""Builds a client's trainer; picklable, and keeps models and datasets for the clients that follow."""


class Worker:
    """Serves any number of clients, one at a time. Holds nothing of a client between calls."""

    def __init__(
        self, clients: Mapping[str, ClientSpec], algorithm: Algorithm, make_trainer: TrainerFactory, threads: int
    ) -> None:
        torch.set_num_threads(threads)
        self._clients = clients
        self._algorithm = algorithm
        self._make_trainer = make_trainer

    def fit(self, instruction: Instruction, state: State, *, evaluate: bool) -> tuple[Fitted, State]:
        """Train a client; returns what it sends and what it keeps."""
        started = time.perf_counter()
        client = self._clients[instruction.client]
        trainer = self._make_trainer(client)
        fit = self._algorithm.fit(trainer, instruction, state)
        held_out = trainer.evaluate() if evaluate else {}
        report = ClientReport(client.name, fit.metrics, held_out, time.perf_counter() - started, peak_memory())
        return Fitted(Update(client.name, client.group, client.examples, fit.params), report), fit.state

    def evaluate(self, instruction: Instruction, state: State) -> ClientReport:
        """Evaluate a client's model as the round of the instruction would start with it."""
        started = time.perf_counter()
        trainer = self._make_trainer(self._clients[instruction.client])
        trainer.start(state, *instruction.load)
        held_out = trainer.evaluate()
        seconds = time.perf_counter() - started
        return ClientReport(instruction.client, held_out=held_out, seconds=seconds, peak_memory_bytes=peak_memory())


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
