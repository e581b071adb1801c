"""Centralised multi-task training: all data in one place, one encoder for all tasks. The upper reference.

Caruana: Multitask Learning, Machine Learning 28, 1997.
"""

from collections.abc import Mapping, Sequence

from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Fit, Probe, common_encoder
from mfed_ray.messages import ClientSpec, Instruction, Params, State, Update
from mfed_ray.params import of_tasks
from mfed_ray.training import Trainer

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
        """The centre, in place of all clients."""
        tasks = tuple(sorted({task for client in clients for task in client.tasks}))
        datasets = "+".join(dict.fromkeys(client.dataset for client in clients))
        return (ClientSpec(CENTRE, tasks, datasets, (), (), tuple(clients)),)

    def init(self, clients: Sequence[ClientSpec], initial: Mapping[str, Params]) -> State:
        """One model for all tasks."""
        del clients
        common_encoder("centralised", initial)
        return State({"model": {name: value for params in initial.values() for name, value in params.items()}})

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        """Load the centre's model, as far as it serves the client's tasks."""
        return Instruction(client.name, round_number, load=(of_tasks(state.params["model"], client.tasks),))

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        """Train on everybody's batches."""
        trainer.start(state, *instruction.load)
        metrics = trainer.train(instruction.round)
        kept = trainer.state()
        return Fit({**trainer.shared(), **kept.params.get("model", {})}, kept, metrics)

    def aggregate(self, state: State, updates: Sequence[Update], probe: Probe) -> tuple[State, Diagnostics]:
        """The centre's model is the model."""
        del state, probe
        (update,) = updates
        return State({"model": update.params}), Diagnostics()
