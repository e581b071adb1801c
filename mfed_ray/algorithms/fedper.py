"""FedPer: one encoder for all clients, a decoder of their own for each.

Arivazhagan, Aggarwal, Singh, Choudhary: Federated Learning with Personalization Layers, 2019, arXiv 1912.00818,
Algorithms 1 and 2. The encoder E is the paper's base layers, the decoder D_k its personalization layers:

    client  minimise  L(E_k, D_k) over both together, from E_k = E and its own last D_k
    server  E = sum_k n_k / N E_k
"""

from collections.abc import Mapping, Sequence

from mfed_ray.algorithms.averaging import ENCODERS, Scope, Weighting, client_weight, encoder_means, initial_encoders
from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Fit, Probe, Trainer
from mfed_ray.algorithms.server_optimizer import ServerOptimizer
from mfed_ray.messages import ClientSpec, Instruction, Params, State, Update
from mfed_ray.params import decoders_of, encoder_of


class FedPer(Algorithm):
    """FedPer's hyper-parameters and its four functions. Bytes per client and round: |E| up, |E| down."""

    scope: Scope = "all"
    """`all`: one encoder for all clients. `task`: one for each task group, which may then differ in structure."""
    weighting: Weighting = "examples"
    server: ServerOptimizer = ServerOptimizer()

    def init(self, clients: Sequence[ClientSpec], initial: Mapping[str, Params]) -> State:
        """The encoder of each task group, or one for all."""
        del clients
        return State(initial_encoders("fedper", initial, self.scope))

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        """Load the encoder; the decoder goes on from the client's own state."""
        return Instruction(client.name, round_number, load=(state.params[ENCODERS + client.group],))

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        """Train encoder and decoder together, send the encoder, keep the decoder."""
        trainer.start(state, *instruction.load)
        metrics = trainer.train(instruction.round)
        params = trainer.shared()
        return Fit(encoder_of(params), trainer.state(keep=decoders_of(params)), metrics)

    def weight(self, client: ClientSpec) -> float | None:
        """n_k, or 1; None for a median or a trimmed mean."""
        return client_weight(client, self.weighting)

    def aggregate(self, state: State, updates: Sequence[Update], probe: Probe) -> tuple[State, Diagnostics]:
        """Average the encoders."""
        del probe
        means = encoder_means(state, updates, self.weighting, self.scope)
        return State(self.server.step(state, means)), Diagnostics()
