"""FedAvg within each task group.

McMahan, Moore, Ramage, Hampson, Agüera y Arcas: Communication-Efficient Learning of Deep Networks from Decentralized
Data, AISTATS 2017, Algorithm 1.
"""

from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import model_validator

from mfed_ray.algorithms.averaging import Scope, Weighting, client_weight, initial_models, model_means, model_of
from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Fit, Probe, Trainer
from mfed_ray.algorithms.privacy import Privacy, check_alike
from mfed_ray.algorithms.server_optimizer import ServerOptimizer
from mfed_ray.messages import ClientSpec, Instruction, Params, State, Update


class FedAvg(Algorithm):
    """w_t = sum_k n_k / N_t w_k over the clients k of task group t. Bytes per client and round: |w| up, |w| down."""

    scope: Scope = "task"
    """`task`: clients of different tasks share nothing. `all`: their encoders are averaged over all clients as well."""
    weighting: Weighting = "examples"
    server: ServerOptimizer = ServerOptimizer()
    privacy: Privacy | None = None
    """Differential privacy of each client; None: no clipping, no noise."""

    @model_validator(mode="after")
    def _privacy_is_of_a_plain_mean(self) -> Self:
        if self.privacy:
            check_alike(self.weighting)
        return self

    def init(self, clients: Sequence[ClientSpec], initial: Mapping[str, Params]) -> State:
        """One global model per task group."""
        values = self.privacy.begin(clients, initial) if self.privacy else {}
        return State(initial_models("fedavg", initial, self.scope), values)

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        """Load the group's global model."""
        return Instruction(client.name, round_number, load=model_of(state, client))

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        """Train from the global model, send the whole model."""
        trainer.start(state, *instruction.load)
        metrics = trainer.train(instruction.round)
        params = trainer.shared()
        sent = self.privacy.clipped(params, instruction.load) if self.privacy else params
        return Fit(sent, trainer.state(), metrics)

    def guarded(self, updates: Sequence[Update], seed: int) -> Sequence[Update]:
        """The groups' means, with noise under ``privacy``."""
        return self.privacy.noised(updates, seed) if self.privacy else updates

    def weight(self, client: ClientSpec) -> float | None:
        """n_k, or 1; None for a median or a trimmed mean."""
        return client_weight(client, self.weighting)

    def aggregate(self, state: State, updates: Sequence[Update], probe: Probe) -> tuple[State, Diagnostics]:
        """Average each group's models."""
        del probe
        means = model_means(state, updates, self.weighting, self.scope)
        past, spent = self.privacy.after_round(state.values, updates) if self.privacy else ({}, {})
        return State(self.server.step(state, means), past), Diagnostics(spent=spent)
