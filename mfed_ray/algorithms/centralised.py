"""Centralised multi-task training: all data in one place, one encoder for all tasks. The upper reference.

Caruana: Multitask Learning, Machine Learning 28, 1997.
"""

from collections.abc import Mapping, Sequence

from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Fit, Probe, Trainer, common_encoder
from mfed_ray.messages import ClientSpec, Instruction, Params, State, Update
from mfed_ray.params import decoders_of, encoder_of

CENTRE = "centre"


class Centralised(Algorithm):
    """One trainee holds every client's shard and one model: the encoder and all tasks' decoders.

    In a round it takes the very batches that the clients of a federation would take, one of each client in turn, so
    its images and optimization steps are those of all clients together. A step trains the encoder and the decoders of
    its batch's tasks. The clients are evaluated with that model, its BatchNorm included whatever the normalisation
    policy. Bytes per round: |E| + sum of |D_t| over the tasks t, up and down, plus under the policy `local` the
    BatchNorm that moved.
    """

    def trainees(self, clients: Sequence[ClientSpec]) -> Sequence[ClientSpec]:
        """The centre, in place of all clients; their turns are in the order of their names."""
        ordered = sorted(clients, key=lambda client: client.name)
        tasks = tuple(sorted({task for client in ordered for task in client.tasks}))
        return (ClientSpec(CENTRE, tasks, tuple(source for client in ordered for source in client.sources), ()),)

    def init(self, clients: Sequence[ClientSpec], initial: Mapping[str, Params]) -> State:
        """One encoder and one decoder per task."""
        del clients
        common_encoder("centralised", initial)
        return _split({name: value for params in initial.values() for name, value in params.items()})

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        """Load the centre's model, as far as it serves the client's tasks."""
        load = (state.params["encoder"], *(state.params[f"decoder/{task}"] for task in client.tasks))
        return Instruction(client.name, round_number, load)

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        """Train on everybody's batches."""
        trainer.start(state, *instruction.load)
        metrics = trainer.train(instruction.round)
        kept = trainer.state()
        return Fit({**trainer.shared(), **kept.params.get("model", {})}, kept, metrics)

    def weight(self, client: ClientSpec) -> float:
        """The centre is its group's only client."""
        del client
        return 1.0

    def aggregate(self, state: State, updates: Sequence[Update], probe: Probe) -> tuple[State, Diagnostics]:
        """The centre's model is the model."""
        del state, probe
        (update,) = updates
        return _split(update.params), Diagnostics()


def _split(model: Params) -> State:
    """The encoder and each task's decoder as trees of their own: each is stored and sent once, whoever loads it."""
    tasks = dict.fromkeys(name.split(".")[1] for name in decoders_of(model))
    return State({"encoder": encoder_of(model), **{f"decoder/{task}": decoders_of(model, task) for task in tasks}})
