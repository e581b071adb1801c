"""FedProx within each task group: FedAvg whose clients stay near the global model.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith: Federated Optimization in Heterogeneous Networks, MLSys 2020, arXiv
1812.06127, Algorithm 2. With the global model w_t of client k's task group:

    client  minimise  L(w) + mu/2 ||w - w_t||^2,  from w = w_t
    server  w_{t+1} = sum_k n_k / N w_k

The paper draws clients with probability n_k / N and takes their plain mean; the authors' code draws them uniformly and
weights by n_k, as here. Its stragglers, which do less work in a round, are left out: every client does the same steps.
"""

from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import Field, model_validator

from mfed_ray.algorithms.averaging import Scope, Weighting, client_weight, initial_models, model_means, model_of
from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Fit, Probe, Trainer
from mfed_ray.algorithms.privacy import Privacy, check_alike
from mfed_ray.algorithms.server_optimizer import ServerOptimizer
from mfed_ray.messages import ClientSpec, Instruction, Params, Proximal, State, Update


class FedProx(Algorithm):
    """FedProx's hyper-parameters and its four functions.

    The term covers every learned parameter that is shared; BatchNorm's statistics have no gradient. Bytes per client
    and round: |w| up, |w| down; the anchor is what was loaded, and not sent again.
    """

    proximal_weight: float = Field(0.01, ge=0.0)
    """mu: pull of each local model towards the global model that it started from; 0 is FedAvg."""
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
        return State(initial_models("fedprox", initial, self.scope), values)

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        """Load the group's global model and stay near it."""
        model = model_of(state, client)
        return Instruction(client.name, round_number, load=model, anchor=model if self.proximal_weight else ())

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        """Train from the global model under the proximal term, send the whole model."""
        trainer.start(state, *instruction.load)
        terms = [Proximal(tree, self.proximal_weight) for tree in instruction.anchor]
        metrics = trainer.train(instruction.round, terms)
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
