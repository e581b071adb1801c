"""FedAvg that says when it begins to train: all that ``benchmarks.startup`` touches of the package's inside."""

from collections.abc import Mapping, Sequence

from benchmarks.startup_arms.mark import mark
from mfed_ray.algorithms import Algorithm
from mfed_ray.algorithms.contract import Diagnostics, Fit, Probe, Trainer
from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.messages import ClientSpec, Instruction, Params, State, Update


class Marked(Algorithm):
    """FedAvg, whose clients leave the time in ``folder`` where their training begins."""

    folder: str

    def init(self, clients: Sequence[ClientSpec], initial: Mapping[str, Params]) -> State:
        """FedAvg's."""
        return FedAvg().init(clients, initial)

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        """FedAvg's."""
        return FedAvg().instruct(state, client, round_number)

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        """FedAvg's, after the mark."""
        mark(self.folder)
        return FedAvg().fit(trainer, instruction, state)

    def weight(self, client: ClientSpec) -> float | None:
        """FedAvg's."""
        return FedAvg().weight(client)

    def aggregate(self, state: State, updates: Sequence[Update], probe: Probe) -> tuple[State, Diagnostics]:
        """FedAvg's."""
        return FedAvg().aggregate(state, updates, probe)
