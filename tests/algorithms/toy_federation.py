"""A federation of toy trainers whose rounds go as those of the round loop: instruct, fit, add up, aggregate."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfed_ray.algorithms import Algorithm
from mfed_ray.algorithms.contract import Diagnostics, Fit
from mfed_ray.averages import PartialMean, add, mean
from mfed_ray.messages import ClientSpec, Params, State, Update
from tests.algorithms.toy import Batch, ToyTrainer

Numbers = dict[str, Any]
"""A tree by ``encoder`` or task: a number, or a list of them."""


@dataclass(frozen=True)
class Client:
    """A client and the batch that it takes in every step."""

    spec: ClientSpec
    batch: Batch


def client(name: str, examples: int, x: Sequence[float] = (1,), **targets: float) -> Client:
    """``targets``: y by task."""
    batch = {task: (np.array(x, np.float32), y) for task, y in targets.items()}
    return Client(ClientSpec.of(name, tuple(targets), "d", tuple(map(str, range(examples)))), batch)


def no_probe(group: str, encoder: Params, images: int) -> NDArray[np.float32]:
    raise AssertionError(f"not asked for: {group} {len(encoder)} {images}")


def numbers(params: Params) -> Numbers:
    return {name.split(".")[-2]: v.item() if v.size == 1 else v.tolist() for name, v in params.items()}


@dataclass
class Federation:
    """Toy clients and a server. What crosses between them cannot be written to."""

    algorithm: Algorithm
    clients: Sequence[Client]
    steps: int = 2
    number: int = 0
    server: State = field(init=False)
    states: dict[str, State] = field(default_factory=dict, init=False)
    diagnostics: Diagnostics = field(default_factory=Diagnostics, init=False)

    def __post_init__(self) -> None:
        zeros = [np.zeros_like(x) for client in self.clients for x, _ in client.batch.values()]
        specs = [client.spec for client in self.clients]
        self.encoder = {"encoder.w": zeros[0]}
        self.server = frozen(self.algorithm.init(specs, {spec.group: self._initial(spec) for spec in specs}))

    def _initial(self, spec: ClientSpec) -> Params:
        return {
            **self.encoder,
            **{f"decoders.{task}.w": np.zeros_like(self.encoder["encoder.w"]) for task in spec.tasks},
        }

    def play(self) -> dict[str, Fit]:
        """The next round: what each trainee sends and keeps. The server works as the round loop has it work."""
        self.number += 1
        batches = {client.spec.name: client.batch for client in self.clients}
        trainees = self.algorithm.trainees([client.spec for client in self.clients])
        fits: dict[str, Fit] = {}
        updates = []
        for spec in trainees:
            own = [batches[source.client] for source in spec.sources] * self.steps
            instruction = self.algorithm.instruct(self.server, spec, self.number)
            state = self.states.get(spec.name, State())
            fit = self.algorithm.fit(ToyTrainer(self._initial(spec), own), instruction, state)
            fits[spec.name], self.states[spec.name] = fit, frozen(fit.state)
            sent = frozen(State({"": fit.params})).params[""]
            updates.append(Update(spec.name, spec.group, spec.examples, sent, fit.values))
        server, self.diagnostics = self.algorithm.aggregate(self.server, updates, no_probe)
        if means := group_means(self.algorithm, trainees, updates):
            again, diagnostics = self.algorithm.aggregate(self.server, means, no_probe)
            assert_same(again, server)
            assert diagnostics == self.diagnostics
        self.server = frozen(server)
        return fits

    def trees(self) -> dict[str, Numbers]:
        """The server's trees."""
        return {name: numbers(tree) for name, tree in self.server.params.items()}

    def kept(self, name: str) -> Numbers:
        """A client's own model."""
        return numbers(self.states[name].params["model"])


def frozen(state: State) -> State:
    for tree in state.params.values():
        for value in tree.values():
            value.setflags(write=False)
    return state


def group_means(algorithm: Algorithm, specs: Sequence[ClientSpec], updates: Sequence[Update]) -> list[Update]:
    """What the server gets if the clients are added up where they train: the first of a group here, the others there.

    Empty where the algorithm needs every client.
    """
    groups: dict[str, list[tuple[float, Update]]] = {}
    for spec, update in zip(specs, updates, strict=True):
        if (weight := algorithm.weight(spec)) is not None:
            groups.setdefault(spec.group, []).append((weight, update))
    means = []
    for group, members in sorted(groups.items()):
        leaves = [PartialMean(place, 0, weight, update.params) for place, (weight, update) in enumerate(members)]
        rest: list[PartialMean] = []
        for leaf in leaves[1:]:
            rest = add(rest, leaf)
        senders = tuple(Update(u.client, group, u.examples, {}, u.values) for _, u in members)
        examples = sum(sender.examples for sender in senders)
        means.append(Update(group, group, examples, mean([*rest, leaves[0]]), members=senders))
    return means


def assert_same(a: State, b: State) -> None:
    assert a.values == b.values
    assert a.params.keys() == b.params.keys()
    for name, tree in a.params.items():
        other = b.params[name]
        assert tree.keys() == other.keys()
        assert all(np.array_equal(value, other[key]) for key, value in tree.items()), name
