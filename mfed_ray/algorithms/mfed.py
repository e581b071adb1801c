"""M-Fed: multi-task federated learning with an encoder-decoder structure.

Zhou, Bao, Wang, Zhang, Zhang, Zhang: Multi-Task Federated Learning with Encoder-Decoder Structure: Enabling
Collaborative Learning Across Different Tasks, 2025, arXiv 2504.09800. With client k of task group t, encoder E_k,
decoder D_k, n_k examples, N_t = sum of n_k over the group:

    client      minimise  L(E_k, D_k) + lambda/2 ||D_k - D_t||^2 + mu/2 ||E_k - E_t||^2
    intra-task  Ebar_t = sum_k n_k/N_t E_k,   D_t = sum_k n_k/N_t D_k
    cross-task  E_t = sum_{s in S_t} p_s Ebar_s / sum_{s in S_t} p_s,   S_t = {t} with {s : C_st >= tau}

The paper's text leaves open whether the regulariser acts on decoder or encoder: lambda acts on the decoder, as its
abstract says; mu, 0 by default, on the encoder. tau <= -1 is the paper's plain fusion of every task.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Fit, Probe, by_group
from mfed_ray.algorithms.correlation import Correlations, feature_cka, update_cosine
from mfed_ray.errors import ConfigError
from mfed_ray.messages import ClientSpec, Instruction, Params, State, Update
from mfed_ray.params import decoders_of, difference, encoder_of, of_tasks, weighted_mean
from mfed_ray.training import Proximal, Trainer


class MFed(Algorithm):
    """M-Fed's hyper-parameters and its four functions.

    Bytes per client and round: |E| + |D| up; |E| down, and |D| where it is loaded or an anchor.
    """

    decoder_proximal_weight: float = Field(0.01, ge=0.0)
    """lambda: pull of each local decoder towards its group's global decoder."""
    encoder_proximal_weight: float = Field(0.0, ge=0.0)
    """mu: pull of each local encoder towards the fused encoder that it started from."""
    correlation_threshold: float = -1.0
    """tau: groups fuse their encoders where their correlation is at least this; above 1 none do."""
    correlation: Literal["update_cosine", "cka", "matrix"] = "update_cosine"
    correlation_momentum: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of the last rounds' correlation in an exponential moving average; 0: this round's alone."""
    correlation_matrix: dict[str, dict[str, float]] | None = None
    """For ``correlation: matrix``: by task group and task group, symmetric, in [-1, 1], each pair at least once."""
    probe_images: int = Field(32, ge=2)
    """For ``correlation: cka``: number of training images whose features are compared."""
    fusion_weights: Literal["uniform", "examples"] = "uniform"
    """p_s: 1, or the group's number of examples N_s."""
    decoder_init: Literal["local", "global"] = "local"
    """What a client's decoder starts each round from: its own last value, or its group's global decoder."""

    @model_validator(mode="after")
    def _check_matrix(self) -> "MFed":
        matrix = self.correlation_matrix
        if (matrix is not None) != (self.correlation == "matrix"):
            raise ValueError("correlation_matrix goes with correlation: matrix, and only with it")
        for a, row in (matrix or {}).items():
            for b, value in row.items():
                if not -1.0 <= value <= 1.0:
                    raise ValueError(f"correlation_matrix.{a}.{b}: {value} is outside [-1, 1]")
                if (other := (matrix or {}).get(b, {}).get(a, value)) != value:
                    raise ValueError(f"correlation_matrix is not symmetric: {a}.{b} is {value}, {b}.{a} is {other}")
        return self

    def init(self, clients: Sequence[ClientSpec], initial: Params) -> State:
        """One encoder for all groups, one decoder per group, no correlations yet."""
        encoder = encoder_of(initial)
        params: dict[str, Params] = {}
        for group, members in by_group(clients).items():
            params[f"encoder/{group}"] = encoder
            params[f"decoder/{group}"] = decoders_of(of_tasks(initial, members[0].tasks))
        if self.correlation == "matrix":
            self._given_correlations(list(by_group(clients)))
        return State(params)

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        """Load the group's fused encoder (and its decoder, if so chosen); stay near what carries a proximal weight."""
        encoder, decoder = state.params[f"encoder/{client.group}"], state.params[f"decoder/{client.group}"]
        load = (encoder, decoder) if self.decoder_init == "global" else (encoder,)
        anchor = (decoder,) if self.decoder_proximal_weight else ()
        return Instruction(
            client.name, round_number, load, (*anchor, encoder) if self.encoder_proximal_weight else anchor
        )

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        """Train under the proximal terms, send the whole model, keep the decoder if the next round starts from it."""
        trainer.start(state, *instruction.load)
        terms = [
            Proximal(part, weight)
            for tree in instruction.anchor
            for part, weight in (
                (encoder_of(tree), self.encoder_proximal_weight),
                (decoders_of(tree), self.decoder_proximal_weight),
            )
            if part
        ]
        metrics = trainer.train(instruction.round, terms)
        params = trainer.shared()
        return Fit(params, trainer.state(keep=decoders_of(params) if self.decoder_init == "local" else {}), metrics)

    def aggregate(self, state: State, updates: Sequence[Update], probe: Probe) -> tuple[State, Diagnostics]:
        """Average within groups, correlate the groups' encoders, fuse those that agree."""
        groups = by_group(updates)
        means = {
            group: weighted_mean([update.params for update in members], [update.examples for update in members])
            for group, members in groups.items()
        }
        encoders = {group: encoder_of(mean) for group, mean in means.items()}
        correlations = self._smoothed(state, self._correlate(state, encoders, probe))
        weights = {
            group: float(sum(update.examples for update in members)) if self.fusion_weights == "examples" else 1.0
            for group, members in groups.items()
        }
        partners = {
            group: tuple(s for s in groups if s == group or correlations[s, group] >= self.correlation_threshold)
            for group in groups
        }
        fused = self._fuse(encoders, weights, partners)
        params = dict(state.params)
        for group in groups:
            params[f"encoder/{group}"] = fused[group]
            params[f"decoder/{group}"] = decoders_of(means[group])
        values = {"correlations": [[a, b, value] for (a, b), value in correlations.items()]}
        pairs = frozenset((s, group) for group, members in partners.items() for s in members)
        return State(params, values), Diagnostics(correlations, pairs)

    def _fuse(
        self, encoders: Mapping[str, Params], weights: Mapping[str, float], partners: Mapping[str, tuple[str, ...]]
    ) -> dict[str, Params]:
        """One tree per distinct set of partners, shared by the groups that have it: sent and stored once."""
        distinct = {
            members: weighted_mean([encoders[s] for s in members], [weights[s] for s in members])
            for members in set(partners.values())
        }
        return {group: distinct[members] for group, members in partners.items()}

    def _correlate(self, state: State, encoders: Mapping[str, Params], probe: Probe) -> Correlations:
        if self.correlation == "matrix":
            return self._given_correlations(list(encoders))
        if self.correlation == "cka":
            return feature_cka({group: probe(encoder, self.probe_images) for group, encoder in encoders.items()})
        return update_cosine(
            {group: difference(mean, state.params[f"encoder/{group}"]) for group, mean in encoders.items()}
        )

    def _smoothed(self, state: State, found: Correlations) -> Correlations:
        last = {(a, b): value for a, b, value in state.values.get("correlations", [])}
        beta = self.correlation_momentum
        return {pair: beta * last.get(pair, value) + (1.0 - beta) * value for pair, value in found.items()}

    def _given_correlations(self, groups: Sequence[str]) -> Correlations:
        matrix = self.correlation_matrix or {}
        if unknown := sorted({*matrix, *(b for row in matrix.values() for b in row)} - set(groups)):
            raise ConfigError(
                f"algorithm.correlation_matrix: {', '.join(unknown)} is no task group here; groups: {', '.join(groups)}"
            )
        found: Correlations = {(group, group): 1.0 for group in groups}
        for i, a in enumerate(groups):
            for b in groups[i + 1 :]:
                value = matrix.get(a, {}).get(b, matrix.get(b, {}).get(a))
                if value is None:
                    raise ConfigError(f"algorithm.correlation_matrix: no value for {a} and {b}; every pair needs one")
                found[a, b] = found[b, a] = value
        return found
