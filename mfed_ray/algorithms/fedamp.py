"""FedAMP and HeurFedAMP on encoders: every client stays near an attention-weighted mean of encoders like its own.

Huang, Chu, Zhou, Wang, Liu, Pei, Zhang: Personalized Cross-Silo Federated Learning on Non-IID Data, AAAI 2021, arXiv
2007.03797. With client k's encoder E_k and decoder D_k:

    server      u_k = sum_j xi_kj E_j,   sum_j xi_kj = 1
    distance    xi_kj = alpha A'(||E_k - E_j||^2) for j != k,   A(x) = 1 - exp(-x / sigma)
    cosine      xi_kj = (1 - xi_kk) softmax over j != k of sigma cos(E_k, E_j),   xi_kk given
    update_cosine      the same of cos(E_k - E_0, E_j - E_0),   E_0 the encoder that all clients start from
    client      minimise  L(E_k, D_k) + lambda / (2 alpha) ||E_k - u_k||^2,  from its own E_k and D_k

`distance` is the paper's FedAMP, `cosine` its HeurFedAMP for deep networks. What all encoders have from E_0 makes their
cosines nearly alike, the more the better E_0 is; `update_cosine`, ours, leaves it out. The paper treats whole models of
one structure; here decoders differ and only encoders take part. Before the first round all encoders are equal, so u_k
is the initial one. The paper lets every client take part in every round; with a cohort, attention runs over the
encoders of the round's cohort, and a client outside of it keeps its u_k. Public code adds up the `distance` weights
without a bound, and the client's own may come out negative; the paper's u_k is meant as a convex combination: such
values are refused.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Fit, Probe, Trainer, common_encoder
from mfed_ray.averages import weighted_mean
from mfed_ray.errors import ConfigError
from mfed_ray.messages import ClientSpec, Instruction, Params, Proximal, State, Update
from mfed_ray.params import STATISTICS, cosine, difference, encoder_of

Matrix = NDArray[np.float64]

_START = "start/encoder"


class FedAMP(Algorithm):
    """FedAMP's hyper-parameters and its four functions.

    Bytes per client and round: |E| up; |E| down, 0 where lambda is 0, since nothing is loaded and u_k has no use.
    """

    attention: Literal["distance", "cosine", "update_cosine"] = "update_cosine"
    proximal_weight: float = Field(0.1, ge=0.0)
    """lambda: the pull of each encoder towards its u_k is lambda / alpha. 0: local training."""
    step: float = Field(10.0, gt=0.0)
    """alpha: step size of the server; with cosines it acts in lambda / alpha alone."""
    distance_scale: float = Field(100.0, gt=0.0)
    """sigma of `distance`: the squared distance of two encoders at which their attention has fallen from alpha / sigma
    to 1/e of that. At least alpha (clients - 1), so that no client's own weight can be negative."""
    sharpness: float = Field(10.0, ge=0.0)
    """sigma of cosines: 0 attends to all others alike."""
    self_attention: float = Field(0.5, gt=0.0, le=1.0)
    """xi_kk of cosines."""

    def init(self, clients: Sequence[ClientSpec], initial: Mapping[str, Params]) -> State:
        """u_k by client: the initial encoder, one tree for all; under `update_cosine` E_0 as well."""
        encoder = common_encoder("fedamp", initial)
        others = len(clients) - 1
        if self.attention == "distance" and self.step * others > self.distance_scale:
            raise ConfigError(
                f"algorithm.step: {self.step:g} can make a client's own attention negative, with {others} others and "
                f"algorithm.distance_scale {self.distance_scale:g}; allowed: at most distance_scale / others, "
                f"{self.distance_scale / others:g}"
            )
        start = {_START: encoder} if self.attention == "update_cosine" else {}
        return State({client.name: encoder for client in clients} | start)

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        """Load nothing, stay near u_k."""
        anchor = (state.params[client.name],) if self.proximal_weight else ()
        return Instruction(client.name, round_number, anchor=anchor)

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        """Train from the own model, keep all of it, send the encoder."""
        trainer.start(state)
        terms = [Proximal(tree, self.proximal_weight / self.step) for tree in instruction.anchor]
        metrics = trainer.train(instruction.round, terms)
        params = trainer.shared()
        return Fit(encoder_of(params), trainer.state(keep=params), metrics)

    def aggregate(self, state: State, updates: Sequence[Update], probe: Probe) -> tuple[State, Diagnostics]:
        """u_k of each client of the cohort from the cohort's encoders."""
        del probe
        encoders = [update.params for update in updates]
        means = [weighted_mean(encoders, weights) for weights in self._attention(encoders, state)]
        clouds = {update.client: mean for update, mean in zip(updates, means, strict=True)}
        return State({**state.params, **clouds}), Diagnostics()

    def _attention(self, encoders: Sequence[Params], state: State) -> list[list[float]]:
        """xi: a row for each client."""
        if len(encoders) == 1:
            return [[1.0]]
        if self.attention == "update_cosine":
            encoders = [difference(encoder, state.params[_START]) for encoder in encoders]
        xi = self._by_distance(encoders) if self.attention == "distance" else self._by_cosine(encoders)
        rows: list[list[float]] = xi.tolist()
        return rows

    def _by_distance(self, encoders: Sequence[Params]) -> Matrix:
        sigma = self.distance_scale
        xi: Matrix = self.step / sigma * np.exp(-_pairwise(_squared_distance, encoders) / sigma)
        np.fill_diagonal(xi, 0.0)
        np.fill_diagonal(xi, np.maximum(1.0 - xi.sum(axis=1), 0.0))  # below 0 by rounding alone: see init
        return xi

    def _by_cosine(self, encoders: Sequence[Params]) -> Matrix:
        scores = self.sharpness * _pairwise(cosine, encoders)
        np.fill_diagonal(scores, -np.inf)
        xi: Matrix = np.exp(scores - scores.max(axis=1, keepdims=True))
        xi *= (1.0 - self.self_attention) / xi.sum(axis=1, keepdims=True)
        np.fill_diagonal(xi, self.self_attention)
        return xi


def _pairwise(measure: Callable[[Params, Params], float], trees: Sequence[Params]) -> Matrix:
    """A symmetric measure of each pair; the diagonal is 0."""
    values = np.zeros((len(trees), len(trees)))
    for k, j in combinations(range(len(trees)), 2):
        values[k, j] = values[j, k] = measure(trees[k], trees[j])
    return values


def _squared_distance(a: Params, b: Params) -> float:
    """||a - b||^2 over learned parameters, in float64; BatchNorm's running statistics are left out."""
    learned = (name for name in a if not name.endswith(STATISTICS))
    return sum(float(np.square(a[name].astype(np.float64) - b[name]).sum()) for name in learned)
