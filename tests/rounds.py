"""A run's events put together, round by round."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mfed_ray.algorithms.contract import Diagnostics
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.federation.simulation import Evaluated, Event, Trained
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


def whole(events: Iterable[Event], until: int | None = None) -> list[tuple[Round, Checkpoint]]:
    """Each round with its checkpoint, up to the round ``until``."""
    rounds: list[tuple[Round, Checkpoint]] = []
    for event in events:
        if isinstance(event, Trained):
            rounds.append((Round(event, []), event.checkpoint))
        elif isinstance(event, Evaluated) and rounds:
            trained = rounds[-1][0].trained
            assert trained.round == event.round
            rounds[-1] = Round(trained, event.reports), trained.checkpoint
        if (
            rounds
            and rounds[-1][0].round == until
            and (rounds[-1][0].evaluated or not rounds[-1][0].trained.is_evaluated)
        ):
            break
    return rounds
