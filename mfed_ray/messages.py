"""Frozen data that crosses a process: what the server tells a client, and what comes back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Params = Mapping[str, NDArray[np.float32]]
"""Parameters by name: ``encoder.*`` and ``decoders.<task>.*``, float32 arrays of the tensors' own shapes."""


@dataclass(frozen=True)
class ClientSpec:
    """One client: its tasks and its shard, as image ids of one dataset."""

    name: str
    tasks: tuple[str, ...]
    dataset: str
    train_ids: tuple[str, ...]
    held_out_ids: tuple[str, ...]
    pooled: tuple["ClientSpec", ...] = ()
    """Clients on whose shards this one trains in their place; it has no images of its own then."""

    @property
    def group(self) -> str:
        """Name of the task group: the clients whose models have one structure and are averaged whole."""
        return "+".join(self.tasks)

    @property
    def examples(self) -> int:
        """Number of training images n_k."""
        return len(self.train_ids) + sum(client.examples for client in self.pooled)


@dataclass(frozen=True)
class State:
    """What a server or a client keeps between rounds: named parameter trees and JSON values.

    The same two fields for every algorithm, so that one checkpoint code serves them all.
    """

    params: Mapping[str, Params] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Instruction:
    """What a client does in a round: parameters to overwrite (later trees win) and parameters to stay near."""

    client: str
    round: int
    load: tuple[Params, ...] = ()
    anchor: tuple[Params, ...] = ()


@dataclass(frozen=True)
class Update:
    """What a client sends to the server: its shared parameters and its number of examples n_k."""

    client: str
    group: str
    examples: int
    params: Params


@dataclass(frozen=True)
class ClientReport:
    """What a round did at one client: training metrics, held-out metrics by task, cost."""

    client: str
    training: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    held_out: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_bytes: int = 0
