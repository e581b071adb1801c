"""What becomes of a round in which a client fails or is late."""

import time
from typing import Literal

from pydantic import Field

from mfed_ray.section import Section

Outcome = Literal["retried", "dropped", "stopped"]
"""What was done about a failure: the turn came again, the round went on without the client, the run ended."""

SILENCE = 10.0
"""Seconds without news after which it is told who is waited for."""


class Faults(Section):
    """What becomes of a round in which a client fails or is late.

    These settings change no result by themselves. What does is that a client was left out of a round, which the run's
    failures say. So they may differ when a run is resumed, and do not count in a run's id.
    """

    on_client_failure: Literal["retry", "drop", "stop"] = "retry"
    """retry: what may pass is run again, ``runtime.max_retries`` times; then the run ends with the client's error.
    drop: after the same retries the round goes on without the client. stop: the first failure ends the run."""
    round_deadline: float | None = Field(None, gt=0)
    """Seconds for a round's training and the evaluation beside it; None: as long as they take.

    They count from when a process has taken on a client. Clients that are not finished then are ended. retry: they are
    run again, with as much time, ``runtime.max_retries`` times. drop: the round goes on without them at once. stop: the
    run ends.
    """
    min_clients_per_task: int = Field(1, ge=1)
    """The run ends where fewer clients of a task that lost one are left to train in a round."""

    def outcome(self, again: bool) -> Outcome:
        """What is done about a failure. ``again``: whether there is a retry left for it."""
        if again and self.on_client_failure != "stop":
            return "retried"
        return "dropped" if self.on_client_failure == "drop" else "stopped"

    def outcome_of_late(self, attempts: int, max_retries: int) -> Outcome:
        """What is done about clients that are late, at the end of so many ``attempts`` of the round."""
        return self.outcome(again=attempts <= max_retries and self.on_client_failure == "retry")


class Clock:
    """The time that a round takes, in seconds; ``limit``: its deadline."""

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self.attempts = 0
        self.restart()

    def restart(self) -> None:
        """Another attempt begins, with all of its time."""
        self.attempts += 1
        self._began = self._heard = time.monotonic()

    def hold(self) -> None:
        """Nobody is at work yet: the attempt's time begins anew."""
        self._began = time.monotonic()

    def hear(self) -> None:
        """There is news."""
        self._heard = time.monotonic()

    @property
    def silence(self) -> float:
        """Time without news."""
        return time.monotonic() - self._heard

    @property
    def patience(self) -> float:
        """How long to wait until something is to be told or done."""
        return SILENCE if self._limit is None else min(SILENCE, max(0.0, self._began + self._limit - time.monotonic()))

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self._limit is not None and time.monotonic() >= self._began + self._limit
