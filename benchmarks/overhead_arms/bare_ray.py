"""Bare Ray: each actor trains its share of the clients and returns one weighted sum, the driver adds them."""

import logging

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from benchmarks.overhead_arms.federation import (
    WORKERS,
    Arrays,
    Clock,
    Size,
    Tensors,
    arrays_of,
    load,
    make_clients,
    make_model,
    tensors_of,
    train,
    workspace,
)


class Actor:
    """Every WORKERS-th client."""

    def __init__(self, size: Size, number: int) -> None:
        self._clients = make_clients(size)[number::WORKERS]
        self._model = workspace(size)

    def fit(self, server: Arrays) -> dict[str, NDArray[np.float32]]:
        """The sum of n_k w_k over this actor's clients."""
        start = tensors_of(server)
        total = {name: torch.zeros_like(value) for name, value in start.items()}
        for client in self._clients:
            load(self._model, start)
            train(self._model, client)
            for name, parameter in self._model.named_parameters():
                total[name].add_(parameter.detach(), alpha=float(client.examples))
        return {name: value.numpy() for name, value in total.items()}


def federate(size: Size, rounds: int, clock: Clock) -> Tensors:
    """FedAvg with partial sums."""
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    ray.init(address="local", num_cpus=WORKERS, **quiet)
    examples = sum(client.examples for client in make_clients(size))
    remote = ray.remote(Actor).options(num_cpus=1)
    actors = [remote.remote(size, number) for number in range(WORKERS)]
    server: Arrays = arrays_of(make_model(size))
    reference = ray.put(server)
    ray.get([actor.__ray_ready__.remote() for actor in actors])
    clock.start()
    for _ in range(rounds):
        first, *others = ray.get([actor.fit.remote(reference) for actor in actors])
        server = {name: sum((o[name] for o in others), first[name]) / np.float32(examples) for name in first}
        reference = ray.put(server)
        clock.lap()
    ray.shutdown()
    return tensors_of(server)
