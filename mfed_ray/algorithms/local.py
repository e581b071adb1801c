"""Local training: every client alone. The baseline of Delta_m."""

from collections.abc import Mapping, Sequence

from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Fit, Probe, Trainer
from mfed_ray.messages import ClientSpec, Instruction, Params, State, Update


class Local(Algorithm):
    """Each client trains its own model from the common initial parameters and sends nothing. Bytes up and down: 0."""

    def init(self, clients: Sequence[ClientSpec], initial: Mapping[str, Params]) -> State:
        """Nothing to keep: the clients keep their models."""
        del clients, initial
        return State()

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        """Nothing to load: the client goes on from its own state."""
        del state
        return Instruction(client.name, round_number)

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        """Train, keep the whole model, send nothing."""
        trainer.start(state, *instruction.load)
        metrics = trainer.train(instruction.round)
        return Fit({}, trainer.state(keep=trainer.shared()), metrics)

    def weight(self, client: ClientSpec) -> float:
        """Nothing is sent: any will do."""
        del client
        return 1.0

    def aggregate(self, state: State, updates: Sequence[Update], probe: Probe) -> tuple[State, Diagnostics]:
        """Nothing to do."""
        del updates, probe
        return state, Diagnostics()
