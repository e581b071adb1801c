"""FedAvg within each task group.

McMahan, Moore, Ramage, Hampson, Agüera y Arcas: Communication-Efficient Learning of Deep Networks from Decentralized
Data, AISTATS 2017, Algorithm 1. Clients of different tasks share nothing.
"""

from collections.abc import Sequence

from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Fit, Probe, by_group
from mfed_ray.messages import ClientSpec, Instruction, Params, State, Update
from mfed_ray.params import of_tasks, weighted_mean
from mfed_ray.training import Trainer


class FedAvg(Algorithm):
    """w_t = sum_k n_k / N_t w_k over the clients k of task group t. Bytes per client and round: |w| up, |w| down."""

    def init(self, clients: Sequence[ClientSpec], initial: Params) -> State:
        """One global model per task group."""
        return State({client.group: of_tasks(initial, client.tasks) for client in clients})

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        """Load the group's global model."""
        return Instruction(client.name, round_number, load=(state.params[client.group],))

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        """Train from the global model, send the whole model."""
        trainer.start(state, *instruction.load)
        metrics = trainer.train(instruction.round)
        return Fit(trainer.shared(), trainer.state(), metrics)

    def aggregate(self, state: State, updates: Sequence[Update], probe: Probe) -> tuple[State, Diagnostics]:
        """Average each group's models, weighted by examples."""
        del probe
        means = {
            group: weighted_mean([update.params for update in members], [update.examples for update in members])
            for group, members in by_group(updates).items()
        }
        return State({**state.params, **means}), Diagnostics()
