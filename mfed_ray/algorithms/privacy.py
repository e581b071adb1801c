"""Client-level differential privacy for a mean of models: clipped moves, alike in weight, and Gaussian noise.

McMahan, Ramage, Talwar, Zhang: Learning Differentially Private Recurrent Language Models, ICLR 2018, arXiv 1710.06963,
with the size of the cohort known (its estimator f_c with the round's own number of clients). Of a task group's n
clients in a round, w what they loaded, u_k how far client k moved from it:

    client   u_k min(1, C / ||u_k||)
    server   w + 1/n sum_k u_k + N(0, (z C / n)^2)

One client more or less moves the sum by at most C, so each round is a Gaussian mechanism with noise multiplier z. What
follows from its outcome, such as server optimizers and means over groups, costs no more. Epsilon is Opacus' (Rényi
accountant of Mironov, Talwar, Zhang, arXiv 1908.10530). It is for the whole model of a client, whatever its images, and
for an adversary who sees every round of the server and does not know the run's seed, from which the noise is drawn.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from mfed_ray.errors import ConfigError
from mfed_ray.messages import ClientSpec, Params, Update
from mfed_ray.params import STATISTICS
from mfed_ray.seeds import generator

_ORDERS = [*(1 + x / 10 for x in range(1, 100)), *range(12, 64), 128, 256, 512, 1024]


class Privacy(BaseModel):
    """How much of a client may show in what the server makes of its group."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    clip_norm: float = Field(gt=0)
    """C: largest norm of a client's move, over all that it sends."""
    noise_multiplier: float = Field(gt=0)
    """z: the noise's standard deviation is z C / n."""
    delta: float = Field(1e-5, gt=0, lt=1)
    """Of (epsilon, delta); usually below 1 / clients."""

    def begin(self, clients: Sequence[ClientSpec], initial: Mapping[str, Params]) -> dict[str, Any]:
        """What is kept of the past, as values of a state. Raises ConfigError for what could not be protected."""
        for name in (name for model in initial.values() for name in model if name.endswith(STATISTICS)):
            raise ConfigError(
                f"algorithm.privacy: {name} would be sent, a statistic of BatchNorm, to which noise cannot be added; "
                "allowed: model.normalisation group, local or frozen"
            )
        if find_spec("opacus") is None:
            raise ConfigError("algorithm.privacy needs Opacus, which is not installed; pip install 'mfed-ray[dp]'")
        groups = [client.group for client in clients]
        return {"clients": {group: groups.count(group) for group in groups}, "rounds": {group: {} for group in groups}}

    def clipped(self, params: Params, loaded: Sequence[Params]) -> Params:
        """What the client sends, no further than C from what it loaded."""
        start = {name: value for tree in loaded for name, value in tree.items()}
        moves = {name: value.astype(np.float64) - start[name] for name, value in params.items()}
        norm = float(np.sqrt(sum(float(np.square(move).sum()) for move in moves.values())))
        if norm <= self.clip_norm:
            return params
        share = self.clip_norm / norm
        return {name: (start[name] + share * move).astype(np.float32) for name, move in moves.items()}

    def noised(self, updates: Sequence[Update], seed: int) -> list[Update]:
        """Each group's mean with noise of its own."""
        return [self._noised(update, generator(seed, update.group)) for update in updates]

    def _noised(self, mean: Update, noise: np.random.Generator) -> Update:
        scale = np.float32(self.noise_multiplier * self.clip_norm / len(mean.senders))
        params: dict[str, NDArray[np.float32]] = {
            name: value + scale * noise.standard_normal(value.shape, np.float32) for name, value in mean.params.items()
        }
        return replace(mean, params=params)

    def after_round(
        self, past: Mapping[str, Any], updates: Sequence[Update]
    ) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
        """The past with one more round, which is how often each number of a group's clients was drawn; what is spent.

        Who was drawn and failed counts: a failure is no random sampling, and makes nobody harder to find.
        """
        rounds = {group: dict(counts) for group, counts in past["rounds"].items()}
        for update in updates:
            counts, number = rounds[update.group], str(max(update.drawn, len(update.senders)))
            counts[number] = counts.get(number, 0) + 1
        after = {**past, "rounds": rounds}
        return after, self._spent(after)

    def _spent(self, past: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        """``delta``, ``epsilon`` as the cohorts' sampling has it, ``epsilon_bound`` without: by group that took part.

        `epsilon` takes n of N clients in a cohort as each drawn with probability n / N, as is the custom, while cohorts
        have a fixed size. The bound holds whoever was drawn, also where that is known. Where all are drawn they are the
        same.
        """
        found = {}
        for group, counts in past["rounds"].items():
            if counts:
                total = past["clients"][group]
                shares = [(int(number) / total, times) for number, times in counts.items()]
                found[group] = {
                    "epsilon": self._epsilon(shares),
                    "epsilon_bound": self._epsilon([(1.0, sum(counts.values()))]),
                    "delta": self.delta,
                }
        return found

    def _epsilon(self, shares: Sequence[tuple[float, int]]) -> float:
        from opacus.accountants.analysis import rdp  # imports torch, which the server otherwise does without

        total = np.zeros(len(_ORDERS))
        for share, times in shares:
            total += rdp.compute_rdp(q=share, noise_multiplier=self.noise_multiplier, steps=times, orders=_ORDERS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where the best order is the first or last, epsilon holds all the same
            epsilon, _order = rdp.get_privacy_spent(orders=_ORDERS, rdp=list(total), delta=self.delta)
        return float(epsilon)


def check_alike(weighting: Any) -> None:
    """Raises ValueError, as a model's validator does, unless all clients count alike in a mean."""
    if weighting != "uniform":
        raise ValueError(
            f"weighting: {weighting} found, but privacy needs a mean that one client moves by clip_norm / clients at "
            "most; allowed: uniform"
        )
