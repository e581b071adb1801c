"""Clients in Ray actors, each pinned to its share of CPUs and GPU."""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray

from mfed_ray.algorithms.contract import Algorithm
from mfed_ray.errors import ClientMemoryError, MfedError
from mfed_ray.federation.backend import Done, Failed, Job, Kind, Late
from mfed_ray.messages import ClientSpec, Params, State
from mfed_ray.params import nbytes
from mfed_ray.runtime.chunks import chunks
from mfed_ray.runtime.client_actor import Reply, Turn
from mfed_ray.runtime.losses import FULL, may_pass, no_room, outlives, told
from mfed_ray.runtime.pool import LOOK, ActorPool

SMALL = 64 * 1024
"""Bytes of a tree below which it travels within the call. (Ray itself stores arguments from 100 KB on.)"""
ARRIVAL = 60.0
"""Seconds at most that it takes to read what has come to the driver's node."""


@dataclass(frozen=True)
class _Kept:
    """What a client keeps: in the driver's memory, and by reference (with what others of its call keep) for actors.

    The first holds a copy in the store of the driver's node. So the reference outlives the node that the client was on.
    """

    state: State
    reference: Any


@dataclass(frozen=True)
class _Chunk:
    """Jobs that go out in one call, and what their clients kept when they were submitted."""

    jobs: tuple[Job, ...]
    held: Mapping[str, _Kept]

    @property
    def kind(self) -> Kind:
        """The same for all."""
        return self.jobs[0].kind

    def single(self, job: Job) -> "_Chunk":
        """One of the jobs alone."""
        return _Chunk((job,), self.held)


@dataclass(eq=False)
class _Call:
    """A chunk that an actor works on. ``missing``: those of its two objects that are not here yet."""

    place: int
    chunk: _Chunk
    reply: Any
    kept: Any
    missing: list[Any]


class RayBackend:
    """Runs clients on a pool of actors, some of them in each call.

    Calls are pure: what was lost is run again, elsewhere and one client at a time, ``max_retries`` of the pool. A call
    of several that is lost is split first, which is no retry of any.
    """

    def __init__(
        self,
        pool: ActorPool,
        clients: Sequence[ClientSpec],
        algorithm: Algorithm,
        make_trainer: Callable[[ClientSpec], Any],
        threads: int,
        alone: bool = False,
    ) -> None:
        """``make_trainer`` builds clients' trainers in the actors (``runtime.worker.TrainerFactory``).

        ``alone``: every client has a call of its own, so that one that hangs makes no other late.
        """
        self._pool = pool
        self._alone = alone
        # held as long as the run lasts: an actor that takes the place of another fetches it
        self._setup = [_put(({client.name: client for client in clients}, algorithm, make_trainer, threads))]
        self._groups = {client.name: client.group for client in clients}
        self._states: dict[str, _Kept] = {}
        self._stored: dict[int, tuple[Params, Any]] = {}
        self._waiting: list[_Chunk] = []
        self._running: list[_Call] = []
        self._told: deque[Done | Failed] = deque()
        self._losses: Counter[tuple[Kind, str]] = Counter()
        self._seconds: dict[str, dict[str, float]] = {"fit": {}, "evaluate": {}}
        self._served: dict[str, int] = {}

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take on jobs and start as many as there are actors free."""
        self._store([tree for job in jobs for tree in job.instruction.trees])
        ordered = sorted(jobs, key=lambda job: (self._groups[job.client], job.place))
        for kind in ("fit", "evaluate"):
            mine = [job for job in ordered if job.kind == kind]
            alone = [(job,) for job in mine]
            for chunk in alone if self._alone else chunks(mine, self._seconds[kind], self._pool.expected):
                held = {job.client: self._states[job.client] for job in chunk if job.client in self._states}
                self._waiting.append(_Chunk(chunk, held))
        self._start()

    def completed(self, timeout: float | None = None) -> Done | Failed | Late:
        """The next chunk that is finished, then those of its clients that failed. Raises what ``ActorPool`` raises."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not self._told:
            left = max(0.0, end - time.monotonic())
            self._look(min(left, LOOK))
            if not self._told and not left:
                return Late(tuple(job for call in self._running for job in call.chunk.jobs))
        return self._told.popleft()

    def abandon(self, jobs: Sequence[Job], again: bool = False) -> None:
        """Actors that work on these jobs are ended, and others started in their places."""
        gone = {job.turn for job in jobs}
        for turn in () if again else gone:
            self._losses.pop(turn, None)
        hit = [call for call in self._running if any(job.turn in gone for job in call.chunk.jobs)]
        for call in hit:
            self._running.remove(call)
            self._pool.replace(call.place)
            self._waiting += map(call.chunk.single, call.chunk.jobs)
        if not again:
            left = [(chunk, tuple(job for job in chunk.jobs if job.turn not in gone)) for chunk in self._waiting]
            self._waiting = [replace(chunk, jobs=jobs) for chunk, jobs in left if jobs]
            # of results that are here but not asked for yet, there are only clients that failed, one in each
            self._told = deque(result for result in self._told if result.jobs[0].turn not in gone)
        self._start()

    def accept(self, done: Done) -> None:
        """Take over what the clients that trained keep."""
        for job in done.jobs:
            if job.kind == "fit":
                self._states.pop(job.client, None)
        self._states.update(done.states)

    def states(self) -> Mapping[str, State]:
        """The state of every client that keeps anything."""
        return {client: kept.state for client, kept in self._states.items()}

    def restore(self, states: Mapping[str, State]) -> None:
        """Take over the clients' states of a checkpoint."""
        self._states = {client: _Kept(state, _put({client: state})) for client, state in states.items()}

    def _look(self, seconds: float) -> None:
        """Take in what comes next, within so many seconds."""
        missing = {reference: call for call in self._running for reference in call.missing}
        ready, _ = ray.wait([*missing, *self._pool.asked], timeout=seconds)
        for reference in ready:
            if reference not in missing:
                self._pool.hear(reference)
                continue
            call = missing[reference]
            _, call.missing = ray.wait(call.missing, num_returns=len(call.missing), timeout=0)
            if not call.missing:
                self._running.remove(call)
                self._finish(call)
        self._pool.check()
        self._start()

    def _finish(self, call: _Call) -> None:
        """Both objects of a call are here, or lost."""
        jobs = call.chunk.jobs
        try:
            reply: Reply = ray.get(call.reply, timeout=ARRIVAL)
            kept: Mapping[str, State] = ray.get(call.kept, timeout=ARRIVAL)
        except ray.exceptions.RayError as error:
            if not outlives(error):
                self._pool.replace(call.place)
            self._fail(call.chunk, told(error, jobs), may_pass(error))
            return
        done = tuple(job for number, job in enumerate(jobs) if number not in reply.errors)
        for job, report in zip(done, reply.reports, strict=True):
            self._seconds[job.kind][job.client] = report.seconds
            self._losses.pop(job.turn, None)
        if done:
            states = {client: _Kept(state, call.kept) for client, state in kept.items()}
            self._told.append(Done(done, reply.reports, reply.updates, reply.means, states))
        for number, cause in reply.errors.items():
            self._fail(call.chunk.single(jobs[number]), cause, isinstance(cause, ClientMemoryError))

    def _fail(self, chunk: _Chunk, error: MfedError, passes: bool) -> None:
        """Tell that the jobs came to nothing; run each again, alone, where that may help.

        Of several it is not known whose loss it was. So they are told apart first, which counts as nobody's retry.
        """
        several = len(chunk.jobs) > 1
        again = passes and (several or self._losses[chunk.jobs[0].turn] < self._pool.max_retries)
        for job in chunk.jobs:
            if again:
                self._losses[job.turn] += 0 if several else 1
                self._waiting.append(chunk.single(job))
            else:
                self._losses.pop(job.turn, None)
        self._told.append(Failed(chunk.jobs, error, again))

    def _store(self, trees: Sequence[Params]) -> None:
        """Make each distinct tree ready once, whoever gets it; forget those that nobody needs."""
        chunks_left = [*self._waiting, *(call.chunk for call in self._running)]
        asked = [tree for chunk in chunks_left for job in chunk.jobs for tree in job.instruction.trees]
        needed = {id(tree): tree for tree in (*trees, *asked)}
        self._stored = {key: self._stored.get(key) or (tree, _sent(tree)) for key, tree in needed.items()}

    def _start(self) -> None:
        """Give every actor that has answered and is free a chunk; training first."""
        self._waiting.sort(key=lambda chunk: chunk.kind != "fit")
        busy = {call.place for call in self._running}
        for place in self._pool.ready:
            if place not in busy and self._waiting:
                chunk = self._waiting.pop(self._choice(place))
                self._running.append(self._called(place, chunk))
                self._served |= {job.client: place for job in chunk.jobs}

    def _choice(self, place: int) -> int:
        """A chunk whose first client this actor served before, if one is next: its images and kernels are warm here."""
        kind = self._waiting[0].kind
        alike = [number for number, chunk in enumerate(self._waiting) if chunk.kind == kind]
        served = (n for n in alike if self._served.get(self._waiting[n].jobs[0].client, place) == place)
        return next(served, 0)

    def _called(self, place: int, chunk: _Chunk) -> _Call:
        trees, states = _Numbered(), _Numbered()

        def number(tree: Params) -> int:
            return trees.number(id(tree), self._stored[id(tree)][1])

        def number_of_state(client: str) -> int | None:
            reference = chunk.held[client].reference if client in chunk.held else None
            return None if reference is None else states.number(reference, reference)

        turns = [
            Turn(
                replace(job, instruction=job.instruction.with_trees([{}] * len(job.instruction.trees))),
                tuple(map(number, job.instruction.trees)),
                number_of_state(job.client),
            )
            for job in chunk.jobs
        ]
        call = self._pool.actors[place].run.options(num_returns=2)
        reply, kept = call.remote(self._setup, turns, len(trees.items), *trees.items, *states.items)
        return _Call(place, chunk, reply, kept, [reply, kept])


class _Numbered:
    """Distinct things and their numbers."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def number(self, key: Any, item: Any) -> int:
        """The item's number; two with one key are the same."""
        if key not in self._numbers:
            self._numbers[key] = len(self.items)
            self.items.append(item)
        return self._numbers[key]


def _sent(tree: Params) -> Any:
    """What a call takes a tree as: a reference to the store, or if it is small the tree, which costs no put."""
    return tree if nbytes([tree]) < SMALL else _put(tree)


def _put(value: Any) -> Any:
    """A reference to the value in the store. Raises ClientMemoryError where that has no room."""
    try:
        return ray.put(value)
    except FULL as error:
        raise no_room(error) from error
