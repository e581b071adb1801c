"""Centralised training: all data in one place. The ceiling of what federated training can reach.

Caruana: Multitask Learning, Machine Learning 28, 1997, for one encoder of all tasks.
"""

from collections.abc import Mapping, Sequence

from mfed_ray.algorithms.averaging import Scope
from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Fit, Probe, Trainer, by_group, common_encoder
from mfed_ray.algorithms.fusion import check_one_model
from mfed_ray.messages import ClientSpec, Instruction, Params, State, Update
from mfed_ray.params import decoders_of, encoder_of

CENTRE = "centre"


class Centralised(Algorithm):
    """A centre holds its clients' shards and one model: the encoder and the decoders of all their tasks.

    In a round it takes the very batches that the clients of a federation would take, one of each client in turn, so
    its images and optimization steps are those of its clients together. A step trains the encoder and the decoders of
    its batch's tasks. The clients are evaluated with that model, its BatchNorm included whatever the normalisation
    policy. Bytes per round and centre: |E| + sum of |D_t| over its tasks t, up and down, plus under the policy `local`
    the BatchNorm that moved.
    """

    scope: Scope = "all"
    """`all`: one centre for all clients. `task`: one for each task group, which share nothing, so encoders may differ.

    What `all` is better than `task` is the most that sharing across tasks can give."""

    def trainees(self, clients: Sequence[ClientSpec]) -> Sequence[ClientSpec]:
        """The centres, in place of their clients, whose turns are in the order of their names."""
        ordered = sorted(clients, key=lambda client: client.name)
        if self.scope == "all":
            return (_centre(CENTRE, ordered),)
        return tuple(_centre(f"{CENTRE}/{group}", members) for group, members in by_group(ordered).items())

    def init(self, clients: Sequence[ClientSpec], initial: Mapping[str, Params]) -> State:
        """An encoder and one decoder per task for each centre. Raises ConfigError where a task has several models."""
        del clients
        check_one_model("algorithm.name: centralised", initial)
        if self.scope == "all":
            common_encoder("centralised", initial)
        return State(self._trees(initial))

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        """Load the centre's model, as far as it serves the client's tasks."""
        place, trees = self._place(client.group), state.params
        load = (trees[f"encoder{place}"], *(trees[f"decoder{place}/{task}"] for task in client.tasks))
        return Instruction(client.name, round_number, load)

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        """Train on the batches of all the centre's clients."""
        trainer.start(state, *instruction.load)
        metrics = trainer.train(instruction.round)
        kept = trainer.state()
        return Fit({**trainer.shared(), **kept.params.get("model", {})}, kept, metrics)

    def weight(self, client: ClientSpec) -> float:
        """A centre is its group's only client."""
        del client
        return 1.0

    def aggregate(self, state: State, updates: Sequence[Update], probe: Probe) -> tuple[State, Diagnostics]:
        """A centre's model is the model."""
        del probe
        trees = self._trees({update.group: update.params for update in updates})
        return State({**state.params, **trees}), Diagnostics()

    def _trees(self, models: Mapping[str, Params]) -> dict[str, Params]:
        """Encoders and tasks' decoders as trees of their own: each is stored and sent once, whoever loads it."""
        trees: dict[str, Params] = {}
        for group, model in models.items():
            place = self._place(group)
            tasks = dict.fromkeys(name.split(".")[1] for name in decoders_of(model))
            trees[f"encoder{place}"] = encoder_of(model)
            trees |= {f"decoder{place}/{task}": decoders_of(model, task) for task in tasks}
        return trees

    def _place(self, group: str) -> str:
        """What the trees of the group's centre have in their names."""
        return "" if self.scope == "all" else f"/{group}"


def _centre(name: str, clients: Sequence[ClientSpec]) -> ClientSpec:
    """Who trains on all that the clients have, and is not evaluated."""
    tasks = tuple(sorted({task for client in clients for task in client.tasks}))
    return ClientSpec(name, tasks, tuple(source for client in clients for source in client.sources), ())
