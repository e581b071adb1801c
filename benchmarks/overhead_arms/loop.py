"""A bare PyTorch loop over the clients: no framework, one process."""

import torch

from benchmarks.overhead_arms.federation import Clock, Size, Tensors, load, make_clients, train, workspace


def federate(size: Size, rounds: int, clock: Clock) -> Tensors:
    """FedAvg, one client after the other."""
    clients, model = make_clients(size), workspace(size)
    examples = sum(client.examples for client in clients)
    server = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    clock.start()
    for _ in range(rounds):
        total = {name: torch.zeros_like(value) for name, value in server.items()}
        for client in clients:
            load(model, server)
            train(model, client)
            for name, parameter in model.named_parameters():
                total[name].add_(parameter.detach(), alpha=client.examples / examples)
        server = total
        clock.lap()
    return server
