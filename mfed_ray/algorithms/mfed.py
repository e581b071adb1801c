"""M-Fed: multi-task federated learning with an encoder-decoder structure.

Zhou, Bao, Wang, Zhang, Zhang, Zhang: Multi-Task Federated Learning with Encoder-Decoder Structure: Enabling
Collaborative Learning Across Different Tasks, 2025, arXiv 2504.09800. With client k of task group t, encoder E_k,
decoder D_k, n_k examples, N_t = sum of n_k over the group:

    client      minimise  L(E_k, D_k) + lambda/2 ||D_k - D_t||^2 + mu/2 ||E_k - E_t||^2
    intra-task  Ebar_t = sum_k n_k/N_t E_k,   D_t = sum_k n_k/N_t D_k
    cross-task  E_t = sum_{s in S_t} p_s Ebar_s / sum_{s in S_t} p_s,   S_t = {t} with {s : C_st >= tau}

The paper's text leaves open whether the regulariser acts on decoder or encoder: lambda acts on the decoder, as its
abstract says; mu, 0 by default, on the encoder. tau <= -1 is the paper's plain fusion of every task. Beyond the paper:
encoders taken whole where a task predicts better on them (``mfed_ray.algorithms.judging``), soft weights, sums of
updates in place of means, and models that agree in some blocks only (``mfed_ray.algorithms.fusion``). Where clients k
of one task have several models, a sum over k is over those that have the block at hand, and each of them has the weight
p_t n_k/N_t in E_t as well.

With cohorts, groups without a client in the round neither give nor get an encoder. At tau <= -1 too they keep their
last one until they take part again, where `scope: all` of FedAvg or FedPer moves everybody's.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mfed_ray.algorithms.averaging import Weighting, client_weight, group_means, group_weights, is_weighted, weight_of
from mfed_ray.algorithms.contract import Algorithm, BlockSteps, Diagnostics, Fit, Probe, Trainer, by_group
from mfed_ray.algorithms.correlation import (
    Correlations,
    Matrix,
    check_groups,
    check_matrix,
    feature_cka,
    given,
    update_cosine,
)
from mfed_ray.algorithms.fusing import GroupRound, measured, squared_lengths
from mfed_ray.algorithms.fusion import (
    Shares,
    check_in_common,
    check_one_model,
    check_overlap,
    common_names,
    fuse,
    fuse_within_tasks,
    summed,
)
from mfed_ray.algorithms.judging import (
    Judging,
    after_round,
    candidates,
    check_structures,
    goes_over,
    groups_of,
    judged_losses,
    leader_of,
    saved,
)
from mfed_ray.algorithms.server_optimizer import ServerOptimizer
from mfed_ray.messages import ClientSpec, Instruction, Params, Part, Proximal, State, Update, tasks_of
from mfed_ray.params import decoders_of, difference, encoder_of


class MFed(Algorithm):
    """M-Fed's hyper-parameters and its four functions.

    Bytes per client and round: |E| + |D| and a number for each block of E up; |E| down, and |D| where it is loaded or
    an anchor. Under `judged`, in a round of judgement also |E| down and a number up for each candidate, but for the |E|
    that it loads anyway; where the group follows another, |D| alone up; in the round in which it goes over both
    encoders down.
    """

    decoder_proximal_weight: float = Field(0.01, ge=0.0)
    """lambda: pull of each local decoder towards its group's global decoder."""
    encoder_proximal_weight: float = Field(0.0, ge=0.0)
    """mu: pull of each local encoder towards the fused encoder that it started from."""
    correlation_threshold: float | Literal["judged"] = -1.0
    """tau: groups fuse their encoders where their correlation is at least this; above 1 none do. `judged`: a group
    takes another's encoder whole where it predicts better."""
    judging: Judging = Judging()
    """For `judged`: when and how it is judged."""
    correlation: Literal["update_cosine", "cka", "matrix"] = "update_cosine"
    correlation_momentum: float | None = Field(None, ge=0.0, lt=1.0)
    """Share of the last rounds' correlation in an exponential moving average; None: 0."""
    correlation_matrix: Matrix | None = None
    """For ``correlation: matrix``: by a group's tasks and another's, symmetric, in [-1, 1], each pair at least once."""
    probe_images: int = Field(32, ge=2)
    """For ``correlation: cka``: number of training images whose features are compared."""
    fusion: Literal["hard", "soft", "sum"] = "hard"
    """Weight of s in E_t: p_s for all of S_t, or p_s max(C_st, 0); p_t for t itself. `sum`: no mean, but what t was
    sent and all that S_t has learned in the round, E_t + sum_s (Ebar_s - E_s)."""
    fusion_weights: Literal["uniform", "examples"] = "uniform"
    """p_s: 1, or the group's number of examples N_s."""
    decoder_init: Literal["local", "global"] = "local"
    """What a client's decoder starts each round from: its own last value, or its group's global decoder."""
    weighting: Weighting = "examples"
    server: ServerOptimizer = ServerOptimizer()

    @field_validator("correlation_threshold", mode="before")
    @classmethod
    def _number_or_judged(cls, value: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if value != "judged" and not is_number:
            raise ValueError(f"expected a finite number or judged, found {value!r}")
        return value

    @model_validator(mode="after")
    def _check_correlation(self) -> "MFed":
        if (self.correlation_matrix is not None) != (self.correlation == "matrix"):
            raise ValueError("correlation_matrix goes with correlation: matrix, and only with it")
        if self.correlation_threshold == "judged" and self.correlation != "update_cosine":
            raise ValueError(
                "correlation_threshold: judged decides without a correlation; allowed with correlation: update_cosine, "
                f"found {self.correlation}"
            )
        self._check_judged()
        if self.fusion == "sum" and self.fusion_weights != "uniform":
            raise ValueError(
                f"fusion_weights: {self.fusion_weights} found, but fusion: sum has no weights; leave it out"
            )
        check_matrix(self.correlation_matrix or {})
        return self

    def _check_judged(self) -> None:
        """Raises ValueError for keys that would mean nothing."""
        is_judged = self.correlation_threshold == "judged"
        for key in ("fusion", "fusion_weights", "correlation_momentum") if is_judged else ("judging",):
            if (value := getattr(self, key)) != type(self).model_fields[key].default:
                told = f"correlation_threshold: {self.correlation_threshold}"
                why = "takes encoders whole" if is_judged else "judges nothing"
                raise ValueError(f"{key}: {value} found, but {told} {why}; leave it out")

    @property
    def least_rounds(self) -> int:
        """Under `judged` those until groups choose."""
        return self.judging.until if self.keeps_back else 1

    @property
    def keeps_back(self) -> bool:
        """Under `judged`."""
        return self.correlation_threshold == "judged"

    def init(self, clients: Sequence[ClientSpec], initial: Mapping[str, Params]) -> State:
        """One encoder and one decoder per group, no correlations yet."""
        del clients
        tau = self.correlation_threshold
        check_in_common(initial)
        if tau == "judged":
            check_one_model("algorithm.correlation_threshold: judged", initial)
        elif tau <= 1.0:
            check_overlap({group: encoder_of(model) for group, model in initial.items()})
        if self.fusion == "sum":
            check_one_model("algorithm.fusion: sum", initial)
        if self.correlation_matrix is not None:
            check_groups(self.correlation_matrix, list(initial))
        encoders: dict[tuple[int, ...], Params] = {}
        params: dict[str, Params] = {}
        for group, model in initial.items():
            encoder = encoder_of(model)
            params[f"encoder/{group}"] = encoders.setdefault(tuple(map(id, encoder.values())), encoder)
            params[f"decoder/{group}"] = decoders_of(model)
        if tau == "judged":
            check_structures(State(params))
        return State(params)

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        """Load the group's fused encoder (and its decoder, if so chosen); stay near what carries a proximal weight."""
        leader = leader_of(state, client.group)
        is_new = goes_over(state, client.group)
        encoder = state.params[f"encoder/{client.group if is_new else leader}"]
        decoder = state.params[f"decoder/{client.group}"]
        load = (encoder, decoder) if self.decoder_init == "global" else (encoder,)
        anchor = (decoder,) if self.decoder_proximal_weight else ()
        parts: tuple[Part, ...] = ("model",) if leader == client.group else ("readout",)
        return Instruction(
            client.name,
            round_number,
            load,
            (*anchor, encoder) if self.encoder_proximal_weight else anchor,
            candidates(state, client) if self.keeps_back and self.judging.is_judged(round_number) else {},
            parts,
            withhold=self.keeps_back and round_number <= self.judging.until,
            over=(state.params[f"encoder/{leader}"],) if is_new else (),
        )

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        """Train under the proximal terms, send the whole model, keep the decoder if the next round starts from it."""
        values = judged_losses(trainer, instruction, state, self.judging.steps)
        trainer.start(state, *instruction.load, *instruction.over)
        terms = [
            Proximal(part, weight)
            for tree in instruction.anchor
            for part, weight in (
                (encoder_of(tree), self.encoder_proximal_weight),
                (decoders_of(tree), self.decoder_proximal_weight),
            )
            if part
        ]
        metrics = trainer.train(instruction.round, terms, instruction.parts, withhold=instruction.withhold)
        params = trainer.shared()
        kept = trainer.state(keep=decoders_of(params) if self.decoder_init == "local" else {})
        if instruction.parts != ("model",):
            return Fit(decoders_of(params), kept, metrics, values)
        lengths = squared_lengths(encoder_of(params), encoder_of(instruction.load[0]))
        return Fit(params, kept, metrics, {**values, **lengths})

    def weight(self, client: ClientSpec) -> float | None:
        """n_k, or 1; None for a median or a trimmed mean."""
        return client_weight(client, self.weighting)

    def aggregate(self, state: State, updates: Sequence[Update], probe: Probe) -> tuple[State, Diagnostics]:
        """Average within groups, correlate the groups' encoders, fuse those that agree."""
        groups = by_group(updates)
        means = group_means(updates, self.weighting)
        if self.correlation_threshold == "judged":
            return self._followed(state, groups, means)
        encoders: dict[str, Params] = {group: encoder_of(mean) for group, mean in means.items()}
        starts = {group: state.params[f"encoder/{group}"] for group in groups}
        own = group_weights(updates, self.weighting)
        weights = self._group_weights(groups, own)
        correlations = self._smoothed(state, "correlations", self._correlate(encoders, starts, probe))
        values = {"correlations": _listed(correlations)}
        found = self._correlated(correlations, encoders, self.correlation_threshold)
        shares = {
            t: {s: weights[s] * (strength if self.fusion == "soft" else 1.0) for s, strength in row.items()}
            for t, row in found.items()
        }
        is_sum = self.fusion == "sum"
        fused = summed(encoders, starts, shares) if is_sum else fuse(encoders, shares)
        aggregated = {f"encoder/{group}": tree for group, tree in fused.items()}
        decoders: dict[str, Params] = {group: decoders_of(mean) for group, mean in means.items()}
        aggregated |= {f"decoder/{group}": tree for group, tree in fuse_within_tasks(decoders, own).items()}
        pairs = frozenset((s, t) for t, row in shares.items() for s, share in row.items() if share > 0.0)
        seen = {(s, t): correlations[s, t] for s in groups for t in groups}
        origin = state
        if self.server.name != "average" and not is_sum:
            # steps are along what was learned, not along how far apart groups are
            origins = {f"encoder/{group}": tree for group, tree in fuse(starts, shares).items()}
            origin = State({**state.params, **origins})
        after = State(self.server.step(origin, aggregated), values)
        return after, Diagnostics(seen, pairs, self._steps(state, after, groups, means))

    def _followed(
        self, state: State, groups: Mapping[str, Sequence[Update]], means: Mapping[str, Params]
    ) -> tuple[State, Diagnostics]:
        """Average within groups, take down what was judged, and after the last judgement settle who follows whom."""
        values, evidence = after_round(state, groups, self.judging.until)
        aggregated = {f"encoder/{group}": tree for group, mean in means.items() if (tree := encoder_of(mean))}
        aggregated |= {f"decoder/{group}": decoders_of(mean) for group, mean in means.items()}
        after = State(self.server.step(state, aggregated), values)
        followed = frozenset((leader_of(after, group), group) for group in groups_of(after))
        return after, Diagnostics(saved(evidence), followed, self._steps(state, after, groups, means))

    def _steps(
        self, state: State, after: State, groups: Mapping[str, Sequence[Update]], means: Mapping[str, Params]
    ) -> tuple[BlockSteps, ...]:
        """How the groups' encoders moved, of those that sent one."""
        rounds = {}
        for group, members in groups.items():
            if encoder := encoder_of(means[group]):
                senders = [sender for update in members for sender in update.senders]
                # agreement follows from a mean, not from a median
                told = senders if is_weighted(self.weighting) else ()
                clients = [(weight_of(sender, self.weighting), sender.values) for sender in told]
                name = f"encoder/{group}"
                rounds[group] = GroupRound(state.params[name], encoder, after.params[name], clients)
        return measured(rounds)

    def _correlate(self, encoders: Mapping[str, Params], starts: Mapping[str, Params], probe: Probe) -> Correlations:
        if self.correlation_matrix is not None:
            return given(self.correlation_matrix, list(encoders))
        if self.correlation == "cka":
            return feature_cka({group: probe(group, tree, self.probe_images) for group, tree in encoders.items()})
        return update_cosine({group: difference(mean, starts[group]) for group, mean in encoders.items()})

    def _correlated(self, correlations: Correlations, encoders: Mapping[str, Params], tau: float) -> Shares:
        """S_t by threshold, and how strongly each of it correlates: groups of the same tasks always, and fully."""
        found: dict[str, dict[str, float]] = {t: {} for t in encoders}
        for t, row in found.items():
            for s in encoders:
                is_same = tasks_of(s) == tasks_of(t)
                agrees = is_same or correlations[s, t] >= tau
                if s == t or (agrees and common_names(encoders[s], encoders[t])):
                    row[s] = 1.0 if is_same else max(correlations[s, t], 0.0)
        return found

    def _group_weights(self, groups: Mapping[str, Sequence[Update]], own: Mapping[str, float]) -> dict[str, float]:
        """p_t, of which each group has the share that its clients have in the weights of its tasks' clients."""
        weights = {}
        for group in groups:
            alike = [other for other in groups if tasks_of(other) == tasks_of(group)]
            examples = sum(update.examples for other in alike for update in groups[other])
            share = own[group] / sum(own[other] for other in alike)
            weights[group] = share * (examples if self.fusion_weights == "examples" else 1.0)
        return weights

    def _smoothed(self, state: State, key: str, found: Correlations) -> Correlations:
        """The moving average with the last rounds, beside what is known of groups that are not here."""
        last = {(a, b): value for a, b, value in state.values.get(key, [])}
        beta = self.correlation_momentum or 0.0
        return last | {pair: beta * last.get(pair, value) + (1.0 - beta) * value for pair, value in found.items()}


def _listed(values: Correlations) -> list[tuple[str, str, float]]:
    """As JSON holds it."""
    return [(a, b, value) for (a, b), value in values.items()]
