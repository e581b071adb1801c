"""FedHCA2: conflict-averse encoders, cross-attending decoders, and learned weights of both.

Lu, Huang, Yang, Sirejiding, Ding, Lu: FedHCA2: Towards Hetero-Client Federated Multi-Task Learning, CVPR 2024,
arXiv 2311.13250. With E_i, D_i what client i of the round's N clients returns and Delta_i how far it moved from what it
was sent:

    encoder    E_i + clamp(alpha_i, 0, 1) U     U: conflict_averse.py, of all N encoders' Delta
    decoder    D_i + clamp(beta_i, 0, 1) A_i    A_i = sum_j p_ij Delta_j,  p_ij = softmax_j <Delta_i, Delta_j> / sqrt(d)

A is found for each tensor, of d numbers, among decoders whose bodies have the same tensors' names and shapes, whatever
their tasks; decoders of another shape attend within their own task only. Each decoder of a client with several tasks
takes part by itself. beta_i is one number per decoder and layer: a layer's weight and bias share it.

alpha and beta descend the client's loss L. What it was sent, x = E + alpha U, the client trained to y, and x - y stands
for dL/dx. So dL/dalpha = <dL/dx, dx/dalpha> = <x - y, U>, and likewise dL/dbeta = <x - y, A> over the layer; 0 where
the weight is outside [0, 1], as of any clamp. The step comes when the client returns, before its weights are used
again: m <- momentum m + gradient, weight <- weight - rate m. A client outside of the round's cohort keeps all it has.

Output heads and the statistics of BatchNorm never leave their client. The authors' code
(github.com/innovator-zero/FedHCA2) is followed in the layers that share a beta and in beta's clamp. Unlike here, where
each client is its own unit, it averages the Delta_i of clients with the same data set and tasks before it adds U; it
also decays alpha and beta by 1e-4, adds 1e-8 under roots, and solves for U with SLSQP.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mfed_ray.algorithms.conflict_averse import conflict_averse_mix, gram
from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Fit, Probe, Trainer, common_encoder
from mfed_ray.algorithms.cross_attention import Member, Rows, attend, mixed
from mfed_ray.algorithms.fusion import check_one_model
from mfed_ray.messages import ClientSpec, Instruction, Params, State, Update
from mfed_ray.params import ENCODER, STATISTICS, decoders_of, encoder_of, is_output_head

Values = dict[str, NDArray[np.float32]]
Layers = Mapping[str, float]
"""By layer: ``encoder``, or a decoder's layer as ``decoders.<task>.<layer>``."""


class FedHCA2(Algorithm):
    """FedHCA2's hyper-parameters and its four functions.

    Bytes per client and round: |E| + |D| up, |E| + |D| down, both without BatchNorm's statistics, |D| without output
    heads.
    """

    conflict_aversion: float = Field(0.4, ge=0.0)
    """c: how far U may be from the mean Delta, as a share of the mean's length."""
    encoder_weight: float = Field(0.1, ge=0.0, le=1.0)
    """alpha at the start: how much of U each client's encoder takes."""
    decoder_weight: float = Field(0.1, ge=0.0, le=1.0)
    """beta at the start: how much of its attention's outcome each decoder's layer takes."""
    hyper_learning_rate: float = Field(0.01, ge=0.0)
    """Of the SGD on alpha and beta."""
    hyper_momentum: float = Field(0.9, ge=0.0, lt=1.0)
    """Of the SGD on alpha and beta."""

    def init(self, clients: Sequence[ClientSpec], initial: Mapping[str, Params]) -> State:
        """A personal encoder and decoder for each client, all alike, and its weights."""
        check_one_model("algorithm.name: fedhca2", initial)
        encoder = _sent(common_encoder("fedhca2", initial))
        decoders = {group: _sent(decoders_of(model)) for group, model in initial.items()}
        params: dict[str, Params] = {}
        weights: dict[str, Layers] = {}
        for client in clients:
            decoder = decoders[client.group]
            params |= {f"encoder/{client.name}": encoder, f"decoder/{client.name}": decoder}
            layers = dict.fromkeys(map(layer_of, decoder), self.decoder_weight)
            weights[client.name] = {"encoder": self.encoder_weight, **layers}
        momenta = {client: dict.fromkeys(layers, 0.0) for client, layers in weights.items()}
        return State(params, {"weights": weights, "momenta": momenta})

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        """Load the client's personal encoder and decoder."""
        load = (state.params[f"encoder/{client.name}"], state.params[f"decoder/{client.name}"])
        return Instruction(client.name, round_number, load)

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        """Train, send what was learned but the output heads, keep the rest."""
        trainer.start(state, *instruction.load)
        metrics = trainer.train(instruction.round)
        shared = trainer.shared()
        sent = _sent(shared)
        return Fit(sent, trainer.state({name: shared[name] for name in shared if name not in sent}), metrics)

    def aggregate(self, state: State, updates: Sequence[Update], probe: Probe) -> tuple[State, Diagnostics]:
        """Learn the weights of the clients that returned, then give each its part of U and A."""
        del probe
        values = self._learn(state, updates)
        common, attended = self._common_step(state, updates), attend(updates, partial(_rows, state))
        params = dict(state.params)
        for update in updates:
            name, weights = update.client, values["weights"][update.client]
            for part, sent, step in (
                ("encoder", encoder_of(update.params), common),
                ("decoder", decoders_of(update.params), attended[name]),
            ):
                params[f"{part}/{name}"] = _moved(sent, step, weights)
                params[f"{part}_step/{name}"] = step
        return State(params, values), Diagnostics()

    def _common_step(self, state: State, updates: Sequence[Update]) -> Values:
        """U, the same for all clients of the round."""
        shapes = {name: value.shape for name, value in encoder_of(updates[0].params).items()}
        total = np.zeros((len(updates), len(updates)))
        for name in shapes:
            total += gram(_rows(state, [(update, name) for update in updates]))
        mix = conflict_averse_mix(total, self.conflict_aversion)
        return {
            name: mixed(mix, _rows(state, [(update, name) for update in updates])).reshape(shape)
            for name, shape in shapes.items()
        }

    def _learn(self, state: State, updates: Sequence[Update]) -> dict[str, Any]:
        """One step of SGD for the clients that had been given a U and A."""
        weights, momenta = dict(state.values["weights"]), dict(state.values["momenta"])
        for update in updates:
            name = update.client
            if f"encoder_step/{name}" in state.params:
                gradient = _gradient(state, update, weights[name])
                momenta[name] = {key: self.hyper_momentum * m + gradient[key] for key, m in momenta[name].items()}
                weights[name] = {
                    key: weight - self.hyper_learning_rate * momenta[name][key] for key, weight in weights[name].items()
                }
        return {"weights": weights, "momenta": momenta}


def layer_of(name: str) -> str:
    """The layer whose weight a parameter has: the whole encoder, or the decoder's layer that it belongs to."""
    return "encoder" if name.startswith(ENCODER) else name.rpartition(".")[0]


def _sent(params: Params) -> Values:
    return {
        name: value
        for name, value in params.items()
        if not name.endswith(STATISTICS) and (name.startswith(ENCODER) or not is_output_head(name))
    }


def _last(state: State, client: str, name: str) -> NDArray[np.float32]:
    """What the client was sent."""
    part = "encoder" if name.startswith(ENCODER) else "decoder"
    return state.params[f"{part}/{client}"][name]


def _rows(state: State, members: Iterable[Member]) -> Rows:
    """Delta, [N, d], of a parameter of each member."""
    found = [update.params[name].astype(np.float64) - _last(state, update.client, name) for update, name in members]
    return np.stack([delta.ravel() for delta in found])


def _moved(sent: Params, step: Params, weights: Layers) -> Params:
    """sent + clamp(weight, 0, 1) step; what was sent itself where that weight is 0."""
    moved = dict(sent)
    for name, value in sent.items():
        if (weight := min(max(weights[layer_of(name)], 0.0), 1.0)) > 0.0:
            moved[name] = (value + weight * step[name].astype(np.float64)).astype(np.float32)
    return moved


def _gradient(state: State, update: Update, weights: Layers) -> dict[str, float]:
    """<sent last - returned now, step taken last> by layer; 0 where the weight is outside [0, 1]."""
    gradient = dict.fromkeys(weights, 0.0)
    for part in ("encoder_step", "decoder_step"):
        for name, step in state.params[f"{part}/{update.client}"].items():
            if 0.0 <= weights[layer_of(name)] <= 1.0:
                back = _last(state, update.client, name).astype(np.float64) - update.params[name]
                gradient[layer_of(name)] += float((back * step).sum())
    return gradient
