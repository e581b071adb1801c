"""A run's events put together, round by round."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mfed_ray.algorithms.contract import Diagnostics
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.federation.events import Evaluated, Step, Trained, ends_round
from mfed_ray.messages import ClientReport


@dataclass(frozen=True)
class Round:
    """All that is told of a round: what training came to, and the evaluation after it."""

    trained: Trained
    evaluated: Sequence[ClientReport]

    @property
    def last(self) -> Trained | Evaluated:
        """The event that tells the round's headline metrics."""
        return Evaluated(self.round, self.evaluated, 0.0) if self.evaluated else self.trained

    @property
    def round(self) -> int:
        return self.trained.round

    @property
    def fitted(self) -> Sequence[ClientReport]:
        return self.trained.reports

    @property
    def diagnostics(self) -> Diagnostics:
        return self.trained.diagnostics

    @property
    def bytes_up(self) -> int:
        return self.trained.bytes_up

    @property
    def bytes_down(self) -> int:
        return self.trained.bytes_down


def whole(steps: Iterable[Step], until: int | None = None) -> list[tuple[Round, Checkpoint]]:
    """Each round with its checkpoint, up to the round ``until``."""
    rounds: list[tuple[Round, Checkpoint]] = []
    for step in steps:
        event = step[0] if isinstance(step, tuple) else step
        if isinstance(step, tuple):
            rounds.append((Round(step[0], []), step[1]))
        elif isinstance(step, Evaluated) and rounds:
            trained, checkpoint = rounds[-1][0].trained, rounds[-1][1]
            assert trained.round == step.round
            rounds[-1] = Round(trained, step.reports), checkpoint
        if ends_round(event) and event.round == until:
            break
    return rounds
