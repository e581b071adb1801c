"""Client actors: started, listened to, and replaced where they died."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from mfed_ray.errors import ClientLostError, MfedError, PlacementError
from mfed_ray.runtime.client_actor import ClientActor
from mfed_ray.runtime.cluster import free
from mfed_ray.runtime.placement import Placement, describe

SOON = 30.0
"""Seconds that an actor may take to its first answer before work is shared out without it."""
LOOK = 1.0
"""Seconds at most between two looks at who has answered."""


@dataclass
class _Seat:
    """An actor's place in the pool. ``asked``: the answer that is still to come; None once it is there."""

    actor: Any
    asked: Any
    since: float


class ActorPool:
    """Client actors, as many as a placement has, started at once; they serve any number of runs.

    An actor gets work once it has answered, because Ray lets calls to an actor that it cannot place wait for ever. Ray
    restarts none of them: whoever finds one dead has it replaced, so that it is known at once what failed.
    """

    def __init__(
        self, placement: Placement, cpus: float, gpus: float, max_retries: int, start_timeout: float = 600.0
    ) -> None:
        """``start_timeout``: seconds that a pool may be without any actor that has answered."""
        self.max_retries = max_retries
        self._share = (cpus, gpus)
        self._path = list(sys.path)
        self._start_timeout = start_timeout
        self._failed_starts = 0
        self._nobody_since: float | None = None
        self._has_answered = False
        self._seats = [self._started() for _ in range(placement.actors)]

    @property
    def actors(self) -> list[Any]:
        """The actors by their places, whether they have answered or not."""
        return [seat.actor for seat in self._seats]

    @property
    def ready(self) -> list[int]:
        """Places of the actors that have answered."""
        return [place for place, seat in enumerate(self._seats) if seat.asked is None]

    @property
    def expected(self) -> int:
        """How many actors to share work out among: those that have answered, and those that soon should."""
        now = time.monotonic()
        return max(1, sum(seat.asked is None or now < seat.since + SOON for seat in self._seats))

    @property
    def asked(self) -> list[Any]:
        """References of the answers that are still to come."""
        return [seat.asked for seat in self._seats if seat.asked is not None]

    def hear(self, answer: Any) -> None:
        """Take in an answer that has come: work may go there. An actor that came to nothing is replaced.

        Raises ClientLostError where that goes on and on, as with a library that cannot be imported.
        """
        place = next(place for place, seat in enumerate(self._seats) if seat.asked == answer)
        try:
            ray.get(answer, timeout=LOOK)
        except ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts > (self.max_retries + 1) * len(self._seats):
                raise ClientLostError(
                    f"client actors die as they start, {self._failed_starts} in a row: {error}"
                ) from error
            self.replace(place)
        else:
            self._failed_starts, self._has_answered = 0, True
            self._seats[place].asked = None

    def ask_again(self) -> None:
        """Have every actor answer anew: some may have died, or be at work for somebody who did."""
        for seat in self._seats:
            seat.asked, seat.since = seat.actor.answer.remote(), time.monotonic()

    def replace(self, place: int) -> None:
        """End the actor, whatever it does, and start another."""
        ray.kill(self._seats[place].actor)
        self._seats[place] = self._started()

    def check(self) -> None:
        """Raises where nobody has been ready for too long: ClientLostError if anybody ever was, else PlacementError."""
        now = time.monotonic()
        if self.ready:
            self._nobody_since = None
        elif self._nobody_since is None:
            self._nobody_since = now
        elif now > self._nobody_since + self._start_timeout:
            kind = ClientLostError if self._has_answered else PlacementError
            raise kind(f"no client actor could be placed within {self._start_timeout:g} s: {self.missing()}")

    def missing(self) -> str:
        """How many actors have not answered, what they ask for, and what is free; empty where all have."""
        waiting = ray.wait(self.asked, num_returns=len(self.asked), timeout=0)[1] if self.asked else []
        if not waiting:
            return ""
        cpus, gpus = self._share
        return (
            f"{len(waiting)} of {len(self._seats)} client actors wait for ({cpus:g} CPU, {gpus:g} GPU) each; free: "
            f"{'; '.join(describe(free())) or 'not known'} (ray status tells who has the rest)"
        )

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function in the first actor that answers.

        Raises what it raises, PlacementError where none answers, ClientLostError where one after the other dies of it.
        """
        for attempt in range(self.max_retries + 1):
            place = self._first()
            try:
                return ray.get(self.actors[place].call.remote(function, *arguments), timeout=self._start_timeout)
            except ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, MfedError) else error) from None
            except ray.exceptions.RayError as error:
                self.replace(place)
                if attempt == self.max_retries:
                    raise ClientLostError(
                        f"a client's process died before the first round and no retry helped: {error}"
                    ) from error
        raise AssertionError  # the last attempt returns or raises

    def close(self) -> None:
        """End the actors; Ray itself goes on."""
        for actor in self.actors:
            ray.kill(actor)

    def _first(self) -> int:
        while not self.ready:
            for answer in ray.wait(self.asked, timeout=LOOK)[0]:
                self.hear(answer)
            self.check()
        return self.ready[0]

    def _started(self) -> _Seat:
        cpus, gpus = self._share
        remote = ray.remote(ClientActor).options(num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0)
        actor = remote.remote(gpus, self._path)
        return _Seat(actor, actor.answer.remote(), time.monotonic())
