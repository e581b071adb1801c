"""Frozen data that crosses a process: what the server tells a client, and what comes back."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Params = Mapping[str, NDArray[np.float32]]
"""Parameters by name: ``encoder.*`` and ``decoders.<task>.*``, float32 arrays of the tensors' own shapes."""


Part = Literal["model", "encoder", "decoders", "readout"]
"""What is trained: all of it, or one part while the other stands still.

`readout`: the decoders, on the encoder as it is evaluated. Under `decoders` its BatchNorm takes the batch's statistics,
and its own go on.
"""


def group_name(tasks: Iterable[str], model: str = "") -> str:
    """A task group's name: its tasks joined by plus signs; after an @ what tells its model from others of theirs."""
    return "+".join(tasks) + (f"@{model}" if model else "")


def tasks_of(group: str) -> str:
    """A task group's tasks, joined by plus signs: groups of the same tasks have the same."""
    return group.partition("@")[0]


@dataclass(frozen=True)
class Source:
    """The training images that one client of the configuration holds: image ids of one data set."""

    client: str
    """Whose images they are; their order and augmentation are drawn from this name."""
    tasks: tuple[str, ...]
    """The tasks that are trained on them."""
    dataset: str
    train_ids: tuple[str, ...]
    kept_back: tuple[str, ...] = ()
    """Those of them by which the client judges what a model does with images that it has not seen."""
    withheld: tuple[str, ...] = ()
    """Those that nobody trains on while anybody judges: what any client of the same data keeps back."""

    def ids(self, withhold: bool) -> tuple[str, ...]:
        """``train_ids``, with or without those that are withheld."""
        gone = frozenset(self.withheld if withhold else ())
        return tuple(image_id for image_id in self.train_ids if image_id not in gone)


@dataclass(frozen=True)
class ClientSpec:
    """One client: its tasks, the images that it trains on, and those that it is evaluated on.

    A client ordinarily has one source. One that trains for others has theirs, and nothing to be evaluated on.
    """

    name: str
    tasks: tuple[str, ...]
    sources: tuple[Source, ...]
    held_out_ids: tuple[str, ...]
    model: str = ""
    """What tells its model from others of its tasks; empty where that is the usual one, or they have only one."""
    skipped: tuple[str, ...] = ()
    """Images, to train on or held out, that cannot be read and are left out."""

    @classmethod
    def of(
        cls,
        name: str,
        tasks: tuple[str, ...],
        dataset: str,
        train_ids: tuple[str, ...],
        held_out_ids: tuple[str, ...] = (),
        kept_back: tuple[str, ...] = (),
        withheld: tuple[str, ...] = (),
        model: str = "",
        skipped: tuple[str, ...] = (),
    ) -> "ClientSpec":
        """An ordinary client, which trains on images of its own."""
        source = Source(name, tasks, dataset, train_ids, kept_back, withheld)
        return cls(name, tasks, (source,), held_out_ids, model, skipped)

    @property
    def group(self) -> str:
        """Name of the task group: the clients of the same tasks with one structure, whose models are averaged whole."""
        return group_name(self.tasks, self.model)

    @property
    def dataset(self) -> str:
        """Name of the data set, or names joined by plus signs."""
        return "+".join(dict.fromkeys(source.dataset for source in self.sources))

    @property
    def train_ids(self) -> tuple[str, ...]:
        """Ids of all images that it trains on."""
        return tuple(image_id for source in self.sources for image_id in source.train_ids)

    @property
    def examples(self) -> int:
        """Number of training images n_k."""
        return sum(len(source.train_ids) for source in self.sources)


@dataclass(frozen=True)
class State:
    """What a server or a client keeps between rounds: named parameter trees and JSON values.

    The same two fields for every algorithm, so that one checkpoint code serves them all.
    """

    params: Mapping[str, Params] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Proximal:
    """weight/2 ||w - anchor||^2 over the learned parameters w that the anchor names."""

    anchor: Params
    weight: float


@dataclass(frozen=True)
class Instruction:
    """What a client does in a round: parameters to overwrite (later trees win) and parameters to stay near."""

    client: str
    round: int
    load: tuple[Params, ...] = ()
    anchor: tuple[Params, ...] = ()
    candidates: Mapping[str, Params] = field(default_factory=dict)
    """By name: parameters that the client judges before it trains."""
    parts: tuple[Part, ...] = ("model",)
    """What it trains, in turns."""
    withhold: bool = True
    """Whether it leaves out the images that are withheld."""
    over: tuple[Params, ...] = ()
    """Parameters to overwrite for training, after ``load``; who is evaluated does without."""

    @property
    def trees(self) -> tuple[Params, ...]:
        """All that is sent with it."""
        return (*self.load, *self.anchor, *self.candidates.values(), *self.over)

    def with_trees(self, trees: Sequence[Params]) -> "Instruction":
        """The same with other ``trees``, as many, in their order."""
        following = iter(trees)
        load, anchor, candidates, over = (
            tuple(islice(following, len(part))) for part in (self.load, self.anchor, self.candidates, self.over)
        )
        named = dict(zip(self.candidates, candidates, strict=True))
        return replace(self, load=load, anchor=anchor, candidates=named, over=over)


@dataclass(frozen=True)
class Update:
    """What reaches the server: a client's parameters, or the mean of a task group's clients.

    Of a mean, ``client`` is the group's name and ``examples`` the clients' sum.
    """

    client: str
    group: str
    examples: int
    """n_k."""
    params: Params
    values: Mapping[str, float] = field(default_factory=dict)
    """Numbers that the algorithm's client half sends beside the parameters."""
    members: tuple["Update", ...] = ()
    """Of a mean: its clients by name, without their parameters."""
    drawn: int = 0
    """How many of the group's clients were drawn for the round, whether or not they came back; 0: not known."""

    @property
    def senders(self) -> tuple["Update", ...]:
        """The clients behind it."""
        return self.members or (self,)


@dataclass(frozen=True)
class ClientReport:
    """What a turn did at one client: training metrics, held-out metrics by task, their floors, cost."""

    client: str
    training: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    held_out: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    bytes_up: int = 0
    floors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The held-out metrics of the best constant predictions, where they were asked for."""


@dataclass(frozen=True)
class RunIdentity:
    """What tells a run's rows from those of other runs."""

    run_id: str
    experiment: str
    algorithm: str
    seed: int
    setting: str
    """A digest of the configuration by which runs may be compared."""
