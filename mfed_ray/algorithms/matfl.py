"""MaT-FL: clients whose encoders moved alike mix them; decoders stay local.

Cai, Chen, Liu, Srinivasa, Lee, Kompella, Wang: Many-Task Federated Learning: A New Problem Setting and a Simple
Baseline, CVPR Workshops 2023, pages 5036 to 5044. With client k's encoder E_k, decoder D_k, and N clients in the round:

    client      minimise  L(E_k, D_k),  from the encoder that the server has for it and its own decoder
    server      delta_k = E_k - 1/N sum_j E_j,   C_kj = cosine(delta_k, delta_j)
    hard        agglomerative clustering, average linkage, on 1 - C;   E_k <- mean of E_j over the cluster of k
    soft        S_kj = max(C_kj + th, 0);   E_k <- sum_j S_kj E_j / sum_j S_kj,   j = k included

Clusters are found anew in every round, and means are plain, not weighted by examples, as in the authors' code
(github.com/VITA-Group/MaT-FL). That code compares BatchNorm's running statistics as well; here they are mixed with the
same weights but left out of the cosine, because the variances would drown the rest. A cut at a cosine instead of a
number of clusters is ours. The paper lets every client take part in every round; with a cohort, deltas and clusters
are those of the round's cohort, and a client outside of it keeps its encoder.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mfed_ray.algorithms.contract import Algorithm, Diagnostics, Fit, Probe, Trainer, common_encoder
from mfed_ray.averages import weighted_mean
from mfed_ray.messages import ClientSpec, Instruction, Params, State, Update
from mfed_ray.params import cosine, decoders_of, difference, encoder_of

Matrix = NDArray[np.float64]


class MaTFL(Algorithm):
    """MaT-FL's hyper-parameters and its four functions. Bytes per client and round: |E| up, |E| down."""

    grouping: Literal["hard", "soft"] = "hard"
    groups: int | None = Field(2, ge=1)
    """For `hard`: number of clusters; as many as there are clients in the round, if these are fewer."""
    cosine_threshold: float | None = Field(None, ge=-1.0, le=1.0)
    """For `hard`, in place of ``groups``: clusters merge while their mean cosine is at least this."""
    shift: float = Field(0.0, gt=-1.0)
    """th of `soft`, added to the cosine: more attends to more clients. Above -1, so that a client keeps its own."""

    @model_validator(mode="after")
    def _check_cut(self) -> "MaTFL":
        if self.grouping == "hard" and (self.groups is None) == (self.cosine_threshold is None):
            raise ValueError(
                f"grouping: hard needs either groups ({self.groups}) or cosine_threshold ({self.cosine_threshold}); "
                "set one of them, and the other to null"
            )
        if self.grouping == "soft" and self.cosine_threshold is not None:
            raise ValueError(f"cosine_threshold: {self.cosine_threshold:g} goes with grouping: hard; soft has shift")
        return self

    def init(self, clients: Sequence[ClientSpec], initial: Mapping[str, Params]) -> State:
        """An encoder by client: the initial one, one tree for all."""
        encoder = common_encoder("matfl", initial)
        return State({client.name: encoder for client in clients})

    def instruct(self, state: State, client: ClientSpec, round_number: int) -> Instruction:
        """Load what the client's group mixed."""
        return Instruction(client.name, round_number, load=(state.params[client.name],))

    def fit(self, trainer: Trainer, instruction: Instruction, state: State) -> Fit:
        """Train from the group's encoder and the own decoder; send the encoder, keep the decoder."""
        trainer.start(state, *instruction.load)
        metrics = trainer.train(instruction.round)
        params = trainer.shared()
        return Fit(encoder_of(params), trainer.state(keep=decoders_of(params)), metrics)

    def aggregate(self, state: State, updates: Sequence[Update], probe: Probe) -> tuple[State, Diagnostics]:
        """Group the cohort's clients by how their encoders differ from the mean, and mix within groups."""
        del probe
        encoders = [update.params for update in updates]
        cosines = _cosines_to_mean(encoders)
        mixed = self._hard(encoders, cosines) if self.grouping == "hard" else self._soft(encoders, cosines)
        own = {update.client: encoder for update, encoder in zip(updates, mixed, strict=True)}
        return State({**state.params, **own}), Diagnostics()

    def _hard(self, encoders: Sequence[Params], cosines: Matrix) -> list[Params]:
        """Per client its cluster's mean; one tree per cluster."""
        labels = self._labels(cosines)
        means = {
            label: _plain_mean([encoder for encoder, own in zip(encoders, labels, strict=True) if own == label])
            for label in dict.fromkeys(labels)
        }
        return [means[label] for label in labels]

    def _labels(self, cosines: Matrix) -> list[int]:
        from scipy.cluster.hierarchy import (  # half a second that other algorithms need not wait
            cut_tree,
            fcluster,
            linkage,
        )

        count = len(cosines)
        if count == 1:
            return [0]
        merges = linkage(1.0 - cosines[np.triu_indices(count, 1)], method="average")
        if self.cosine_threshold is not None:
            return list(fcluster(merges, 1.0 - self.cosine_threshold, criterion="distance").tolist())
        return list(cut_tree(merges, n_clusters=[min(self.groups or 1, count)])[:, 0].tolist())

    def _soft(self, encoders: Sequence[Params], cosines: Matrix) -> list[Params]:
        """Per client a mean of all encoders by how much they agree with its own."""
        shares = np.maximum(cosines + self.shift, 0.0)
        return [weighted_mean(encoders, row) for row in shares.tolist()]


def _cosines_to_mean(encoders: Sequence[Params]) -> Matrix:
    """C: the cosine of each pair of encoders, seen from their mean; 0 where one is the mean, 1 on the diagonal."""
    mean = _plain_mean(encoders)
    deltas = [difference(encoder, mean) for encoder in encoders]
    cosines = np.eye(len(encoders))
    for k, j in combinations(range(len(encoders)), 2):
        cosines[k, j] = cosines[j, k] = cosine(deltas[k], deltas[j])
    return cosines


def _plain_mean(trees: Sequence[Params]) -> Params:
    return weighted_mean(trees, [1.0] * len(trees))
