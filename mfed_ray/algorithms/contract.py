"""The four functions that make a federated algorithm, and what they work with."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from mfed_ray.errors import ConfigError
from mfed_ray.messages import ClientSpec, Instruction, Params, Part, Proximal, State, Update
from mfed_ray.params import encoder_of

Probe = Callable[[str, Params, int], NDArray[np.float32]]
"""``probe(group, encoder, images)``: features [rows, channels] that the group's encoder with these parameters gives of
a fixed batch of ``images`` images, on the server."""


Metrics = dict[str, dict[str, float]]
"""Values by task and metric."""


class Trainer(Protocol):
    """What an algorithm's client half works with: one client's model on that client's images.

    ``start`` comes first, then ``train``, ``align`` and ``judge`` any number of times.
    """

    @property
    def seed(self) -> int:
        """The run's seed."""
        ...

    def start(self, state: State, *overlays: Params) -> None:
        """Set the model: its initial values, over them the client's state, over that each overlay in turn."""
        ...

    def train(
        self,
        round_number: int,
        proximal: Sequence[Proximal] = (),
        parts: Sequence[Part] = ("model",),
        *,
        withhold: bool = True,
    ) -> Metrics:
        """Train for the round under the proximal terms; ``parts`` take turns for equal shares of its steps.

        ``withhold``: without the images that are withheld for judging.
        """
        ...

    def align(self, round_number: int, steps: int) -> None:
        """Train the decoders alone for so many steps, on the encoder as it stands."""
        ...

    def judge(self) -> float:
        """Mean objective over the images that the client keeps back; NaN where it has none."""
        ...

    def shared(self) -> Params:
        """Copies of all parameters that may leave the client."""
        ...

    def state(self, keep: Params | None = None) -> State:
        """What the client keeps: what may not leave it, ``keep``, and the optimizer's state if so configured."""
        ...


@dataclass(frozen=True)
class BlockSteps:
    """How far the steps of a task group and another agree in a block of the encoder; None: not known.

    Of a group and itself: how far its clients agree, and the lengths of the group's own step and of the fused one.
    ``mfed_ray.algorithms.fusing`` has the formulas.
    """

    group: str
    other: str
    block: str
    agreement: float | None = None
    own_length: float | None = None
    fused_length: float | None = None


@dataclass(frozen=True)
class Diagnostics:
    """What aggregation found out: the correlation of each ordered pair of task groups, and which of them were fused."""

    correlations: Mapping[tuple[str, str], float] = field(default_factory=dict)
    fused: frozenset[tuple[str, str]] = frozenset()
    blocks: tuple[BlockSteps, ...] = ()
    """What fusing did, block by block."""
    spent: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Of privacy, so far: ``epsilon``, ``epsilon_bound`` and ``delta`` by task group."""


@dataclass(frozen=True)
class Fit:
    """What a client's training gives: parameters to send, state to keep, training metrics, numbers to send.

    Arrays of ``params`` that stand in no tree of the state or the instruction are written over once they are sent.
    """

    params: Params
    state: State
    metrics: Mapping[str, Mapping[str, float]]
    values: Mapping[str, float] = field(default_factory=dict)


class Algorithm(BaseModel, ABC):
    """A federated algorithm: hyper-parameters as fields (unknown keys forbidden), and four pure functions.

    ``fit`` runs where the client runs, the others where the server runs. No algorithm inherits from another. The
    server's functions see clients in the order of their names (``trainees``: of the configuration), and updates in that
    of the clients', or, where these are averaged, of the groups' names; in a round with a cohort those of its clients
    alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    def least_steps(self) -> int:
        """Fewest optimization steps of a client's round that the algorithm can work with."""
        return 1

    @property
    def least_rounds(self) -> int:
        """Fewest rounds that the algorithm can work with."""
        return 1

    @property
    def keeps_back(self) -> bool:
        """Whether clients keep images back, on which ``Trainer.judge`` tells how well a model does."""
        return False

    def trainees(self, clients: Sequence[ClientSpec]) -> Sequence[ClientSpec]:
        """Who trains: the clients. All are evaluated, whoever trained."""
        return clients

    def guarded(self, updates: Sequence[Update], seed: int) -> Sequence[Update]:
        """The updates as the server may see them; ``seed``: of the round. By default as they are."""
        del seed
        return updates

    def weight(self, client: ClientSpec) -> float | None:
        """w_k of a client, where ``aggregate`` needs no more of a group's clients than sum_k w_k x_k / sum_k w_k.

        What the clients send is then averaged where they train, and ``aggregate`` gets an update for each group. None,
        the default: it gets an update for each client.
        """
        del client
        return None

    @abstractmethod
    def init(self, clients: Sequence[ClientSpec], initial: Mapping[str, Params]) -> State:
        """The server's state before the first round, from the initial model of each task group.

        Raises ConfigError where the algorithm cannot serve these clients.
        """

    @abstractmethod
    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        """What the client loads and stays near; the same trees, not copies, for all clients that share them."""

    @abstractmethod
    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        """Train one client: a pure function of the instruction, the client's state and the derived seeds."""

    @abstractmethod
    def aggregate(self, state: State, updates: Sequence[Update], probe: Probe) -> tuple[State, Diagnostics]:
        """The server's next state from the clients' updates."""


def by_group(items: Iterable[Any]) -> dict[str, list[Any]]:
    """Clients or updates by their task group, groups and members in the order given."""
    groups: dict[str, list[Any]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item)
    return groups


def common_encoder(algorithm: str, initial: Mapping[str, Params]) -> Params:
    """The initial encoder that all groups have. Raises ConfigError that names the first difference."""
    groups = {group: encoder_of(params) for group, params in initial.items()}
    (first, encoder), *others = groups.items()
    for group, other in others:
        for name in sorted({*encoder} | {*other}):
            here, there = (tree[name].shape if name in tree else "missing" for tree in (encoder, other))
            if here != there:
                raise ConfigError(
                    f"algorithm.name: {algorithm} shares one encoder among all clients, but {name} is {here} at "
                    f"{first} and {there} at {group}; give all clients one encoder, or use scope: task where the "
                    "algorithm has it, or local or mfed"
                )
    return encoder
