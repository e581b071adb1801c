"""FedRep: as FedPer, but decoder and encoder are trained one after the other.

Collins, Hassani, Mokhtari, Shakkottai: Exploiting Shared Representations for Personalized Federated Learning, ICML
2021, arXiv 2102.07078, Algorithm 1. The encoder E is the paper's representation, the decoder D_k its head:

    client  D_k <- argmin L(E, D_k) from its own last D_k, E frozen;  then E_k <- argmin L(E_k, D_k) from E, D_k frozen
    server  E = sum_k n_k / N E_k

The paper weights clients alike (``weighting: uniform``); the authors' code weights by n_k, the default here. In the
paper tau head updates are added before the encoder's; here both share the round's budget of steps, as in that code they
share the local epochs, so that a round costs what it costs with every other algorithm.
"""

from collections.abc import Mapping, Sequence

from pydantic import Field

from mfed_ray.algorithms.averaging import ENCODERS, Scope, Weighting, client_weight, encoder_means, initial_encoders
from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Fit, Probe, Trainer
from mfed_ray.algorithms.server_optimizer import ServerOptimizer
from mfed_ray.messages import ClientSpec, Instruction, Params, Part, State, Update
from mfed_ray.params import decoders_of, encoder_of


class FedRep(Algorithm):
    """FedRep's hyper-parameters and its four functions. Bytes per client and round: |E| up, |E| down.

    Only learned parameters stand still: BatchNorm's statistics move in every step.
    """

    decoder_turns: int = Field(1, ge=1)
    """Turns of the decoder for one of the encoder, each an equal share of the round's steps: of S steps the encoder has
    S / (decoder_turns + 1). The paper's tau, in units of the encoder's share."""
    scope: Scope = "all"
    """`all`: one encoder for all clients. `task`: one for each task group, which may then differ in structure."""
    weighting: Weighting = "examples"
    server: ServerOptimizer = ServerOptimizer()

    @property
    def least_steps(self) -> int:
        """One for each turn."""
        return self.decoder_turns + 1

    def init(self, clients: Sequence[ClientSpec], initial: Mapping[str, Params]) -> State:
        """The encoder of each task group, or one for all."""
        del clients
        return State(initial_encoders("fedrep", initial, self.scope))

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        """Load the encoder; the decoder goes on from the client's own state."""
        return Instruction(client.name, round_number, load=(state.params[ENCODERS + client.group],))

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        """Train the decoder, then the encoder; send the encoder, keep the decoder."""
        trainer.start(state, *instruction.load)
        decoders: list[Part] = ["decoders"]
        metrics = trainer.train(instruction.round, parts=[*decoders * self.decoder_turns, "encoder"])
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
