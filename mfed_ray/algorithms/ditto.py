"""Ditto: a global model as in FedAvg, and beside it a personal model for each client that stays near it.

Li, Hu, Beirami, Smith: Ditto: Fair and Robust Federated Learning Through Personalization, ICML 2021, arXiv 2012.04221,
Algorithm 1. With the global model w_t of client k's task group, as received at the round's start:

    client  minimise  L(w_k)                             from w_k = w_t, and send w_k
            minimise  L(v_k) + lambda/2 ||v_k - w_t||^2  from its own last v_k, and deploy v_k
    server  w_{t+1} = sum_k n_k / N w_k

Both take as many steps, on the same batches, as in the authors' code. That code alternates them step by step; they do
not touch each other within a round, so that one run after the other gives the same. It takes the plain mean of the
clients (``weighting: uniform``); examples are the default here, as in FedAvg.
"""

from collections.abc import Mapping, Sequence

from pydantic import Field

from mfed_ray.algorithms.averaging import Scope, Weighting, client_weight, initial_models, model_means, model_of
from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Fit, Probe, Trainer
from mfed_ray.algorithms.server_optimizer import ServerOptimizer
from mfed_ray.messages import ClientSpec, Instruction, Params, Proximal, State, Update

_GLOBAL = "global/"


class Ditto(Algorithm):
    """Ditto's hyper-parameters and its four functions. Twice the compute of FedAvg, and twice a client's kept state.

    A client's state holds the personal model's run, and under ``global/`` what the global model's run keeps: optimizer
    state and private BatchNorm. Metrics are the personal model's. Bytes per client and round: |w| up, |w| down.
    """

    proximal_weight: float = Field(0.1, ge=0.0)
    """lambda: pull of each personal model towards the global model; 0 deploys local training."""
    scope: Scope = "task"
    """`task`: clients of different tasks share nothing. `all`: their encoders are averaged over all clients as well."""
    weighting: Weighting = "examples"
    server: ServerOptimizer = ServerOptimizer()

    def init(self, clients: Sequence[ClientSpec], initial: Mapping[str, Params]) -> State:
        """One global model per task group."""
        del clients
        return State(initial_models("ditto", initial, self.scope))

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        """Load nothing: the client deploys its own model. The global model is what it trains and stays near."""
        return Instruction(client.name, round_number, anchor=model_of(state, client))

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        """Train the global model and send it, then the personal model, keep it and leave it in the trainer."""
        last = {name.removeprefix(_GLOBAL): tree for name, tree in state.params.items() if name.startswith(_GLOBAL)}
        trainer.start(State(last), *instruction.anchor)
        trainer.train(instruction.round)
        sent, kept = trainer.shared(), trainer.state()
        trainer.start(state)
        terms = [Proximal(tree, self.proximal_weight) for tree in instruction.anchor if self.proximal_weight]
        metrics = trainer.train(instruction.round, terms)
        own = trainer.state(keep=trainer.shared())
        both = {**own.params, **{_GLOBAL + name: tree for name, tree in kept.params.items()}}
        return Fit(sent, State(both), metrics)

    def weight(self, client: ClientSpec) -> float | None:
        """n_k, or 1; None for a median or a trimmed mean."""
        return client_weight(client, self.weighting)

    def aggregate(self, state: State, updates: Sequence[Update], probe: Probe) -> tuple[State, Diagnostics]:
        """Average each group's global models."""
        del probe
        means = model_means(state, updates, self.weighting, self.scope)
        return State(self.server.step(state, means)), Diagnostics()
