"""Clients in Ray actors, each pinned to its share of CPUs and GPU."""

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray

from mfed_ray.algorithms.contract import Algorithm
from mfed_ray.averages import PartialMean
from mfed_ray.errors import ClientError, ClientLostError, MfedError
from mfed_ray.federation.backend import Done, Failed, Job, Late
from mfed_ray.messages import ClientReport, ClientSpec, Params, State, Update
from mfed_ray.params import nbytes
from mfed_ray.runtime.chunks import chunks
from mfed_ray.runtime.placement import Placement

SMALL = 64 * 1024
"""Bytes of a tree below which it travels within the call. (Ray itself stores arguments from 100 KB on.)"""


@dataclass(frozen=True)
class Turn:
    """A job as it travels: its trees and its client's state are numbers among the call's."""

    job: Job
    trees: tuple[int, ...]
    state: int | None

    def whole(self, trees: Sequence[Params]) -> Job:
        """The job with its trees."""
        return replace(self.job, instruction=self.job.instruction.with_trees([trees[n] for n in self.trees]))


@dataclass(frozen=True)
class Reply:
    """What a call gives back at once. Its second object, what clients keep, need not travel to the driver."""

    reports: tuple[ClientReport, ...]
    updates: tuple[Update, ...]
    means: Mapping[str, Sequence[PartialMean]]
    keeping: tuple[str, ...]
    errors: Mapping[int, MfedError]


class ClientActor:
    """A worker in its own process. Parameters, but for small trees, and states travel as references to the store.

    Every call brings the reference of the run that it belongs to (``setup``): so an actor that Ray restarted needs
    nothing that it lost, and an actor serves one run after another. The worker of the last run is kept.
    """

    def __init__(self, gpus: float, path: Sequence[str]) -> None:
        import_from(path)
        # here alone: whoever asks for actors needs neither torch nor models
        import torch

        import mfed_ray.experiment.trainers  # noqa: F401 - its seconds pass while the run's data are indexed

        if 0 < gpus < 1 and torch.cuda.is_available():
            # Ray's fractions do not limit memory; a twentieth is left to the processes' CUDA contexts
            torch.cuda.set_per_process_memory_fraction(0.95 * gpus)
        self._run: str | None = None
        self._worker: Any = None

    def run(
        self, setup: list[Any], turns: Sequence[Turn], trees: int, *values: Any
    ) -> tuple[Reply, Mapping[str, State]]:
        """``Worker.run``, its results as two objects. ``values``: so many ``trees``, then what clients keep."""
        jobs = [turn.whole(values[:trees]) for turn in turns]
        held = values[trees:]
        clients = {turn.job.client: held[turn.state][turn.job.client] for turn in turns if turn.state is not None}
        outcome = self._worker_of(setup).run(jobs, clients)
        reply = Reply(
            tuple(outcome.reports), tuple(outcome.updates), outcome.means, tuple(outcome.states), outcome.errors
        )
        return reply, outcome.states

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function here."""
        return function(*arguments)

    def _worker_of(self, setup: list[Any]) -> Any:
        from mfed_ray.runtime.worker import Worker

        run = setup[0].hex()
        if self._run != run:
            self._worker, self._run = Worker(*ray.get(setup[0])), run
        return self._worker


def import_from(path: Sequence[str]) -> None:
    """Look for modules in the caller's folders as well: an algorithm of the user's own is pickled by reference."""
    sys.path.extend(folder for folder in path if folder not in sys.path)


class ActorPool:
    """Client actors where a placement puts them, started at once; ``actors`` serve any number of runs."""

    def __init__(self, placement: Placement, cpus: float, gpus: float, max_retries: int) -> None:
        # calls are retried for as long as there are restarts: until Ray sees that a node is lost, it fails them at once
        remote = ray.remote(ClientActor).options(
            num_cpus=cpus, num_gpus=gpus, max_restarts=max_retries, max_task_retries=-1 if max_retries else 0
        )
        self.actors = [remote.remote(gpus, sys.path) for _ in range(placement.actors)]

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function in the first actor. Raises what it raises, ClientLostError where the actor died."""
        try:
            return ray.get(self.actors[0].call.remote(function, *arguments))
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, MfedError) else error) from None
        except ray.exceptions.RayError as error:
            raise ClientLostError(
                f"a client's process died before the first round and no retry helped: {error}"
            ) from error

    def close(self) -> None:
        """End the actors; Ray itself goes on."""
        for actor in self.actors:
            ray.kill(actor)


@dataclass(frozen=True)
class _Running:
    """A chunk that an actor works on."""

    actor: int
    jobs: tuple[Job, ...]
    states: Any
    """Reference of what its clients will keep."""


class RayBackend:
    """Runs clients on a pool of actors, some of them in each call.

    Calls are pure, so Ray may restart an actor, ``max_retries`` times, and repeat its calls. What clients keep stays in
    the object store as what their actors returned, which outlives the actors.
    """

    def __init__(
        self,
        pool: ActorPool,
        clients: Sequence[ClientSpec],
        algorithm: Algorithm,
        make_trainer: Callable[[ClientSpec], Any],
        threads: int,
    ) -> None:
        """``make_trainer`` builds clients' trainers in the actors (``runtime.worker.TrainerFactory``)."""
        self._pool = pool
        # held as long as the run lasts: an actor that is restarted fetches it again
        self._setup = [ray.put(({client.name: client for client in clients}, algorithm, make_trainer, threads))]
        self._groups = {client.name: client.group for client in clients}
        self._states: dict[str, Any] = {}
        self._fetched: dict[str, tuple[Any, State]] = {}
        self._stored: dict[int, tuple[Params, Any]] = {}
        self._waiting: list[tuple[tuple[Job, ...], dict[str, Any]]] = []
        self._running: dict[Any, _Running] = {}
        self._failed: deque[Failed] = deque()
        self._seconds: dict[str, dict[str, float]] = {"fit": {}, "evaluate": {}}
        self._served: dict[str, int] = {}

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take on jobs and start as many as there are actors free."""
        self._store([tree for job in jobs for tree in job.instruction.trees])
        ordered = sorted(jobs, key=lambda job: (self._groups[job.client], job.place))
        for kind in ("fit", "evaluate"):
            mine = [job for job in ordered if job.kind == kind]
            for chunk in chunks(mine, self._seconds[kind], len(self._pool.actors)):
                held = {job.client: self._states[job.client] for job in chunk if job.client in self._states}
                self._waiting.append((chunk, held))
        self._waiting.sort(key=lambda item: item[0][0].kind != "fit")
        self._start()

    def completed(self, timeout: float | None = None) -> Done | Failed | Late:
        """The next chunk that is finished, then those of its clients that failed."""
        if self._failed:
            return self._failed.popleft()
        finished, _ = ray.wait(list(self._running), num_returns=1, timeout=timeout)
        if not finished:
            return Late(tuple(job for chunk in self._running.values() for job in chunk.jobs))
        chunk = self._running.pop(finished[0])
        self._start()
        try:
            reply: Reply = ray.get(finished[0])
        except (ray.exceptions.RayTaskError, ray.exceptions.RayError) as error:
            return Failed(chunk.jobs, _told(error, chunk.jobs))
        self._failed += [Failed((chunk.jobs[number],), error) for number, error in reply.errors.items()]
        jobs = tuple(job for number, job in enumerate(chunk.jobs) if number not in reply.errors)
        if not jobs:
            return self._failed.popleft()
        for job, report in zip(jobs, reply.reports, strict=True):
            self._seconds[job.kind][job.client] = report.seconds
        states = dict.fromkeys(reply.keeping, chunk.states)
        return Done(jobs, reply.reports, reply.updates, reply.means, states)

    def abandon(self, jobs: Sequence[Job], again: bool = False) -> None:
        """Not there yet."""
        raise NotImplementedError

    def accept(self, done: Done) -> None:
        """Keep the references of what the clients that trained keep."""
        for job in done.jobs:
            if job.kind == "fit":
                self._states.pop(job.client, None)
        self._states.update(done.states)

    def states(self) -> Mapping[str, State]:
        """The state of every client that keeps anything; fetched where it changed since this was last asked."""
        changed = {
            client: reference
            for client, reference in self._states.items()
            if client not in self._fetched or self._fetched[client][0] != reference
        }
        distinct = list(dict.fromkeys(changed.values()))
        held = dict(zip(distinct, ray.get(distinct), strict=True))
        self._fetched |= {client: (reference, held[reference][client]) for client, reference in changed.items()}
        return {client: self._fetched[client][1] for client in self._states}

    def restore(self, states: Mapping[str, State]) -> None:
        """Take over the clients' states of a checkpoint."""
        self._states = {client: ray.put({client: state}) for client, state in states.items()}

    def _store(self, trees: Sequence[Params]) -> None:
        """Make each distinct tree ready once, whoever gets it; forget those that nobody needs."""
        waiting = [tree for chunk, _ in self._waiting for job in chunk for tree in job.instruction.trees]
        running = [tree for chunk in self._running.values() for job in chunk.jobs for tree in job.instruction.trees]
        needed = {id(tree): tree for tree in (*trees, *waiting, *running)}
        self._stored = {key: self._stored.get(key) or (tree, _sent(tree)) for key, tree in needed.items()}

    def _start(self) -> None:
        """Give every actor that is free a chunk."""
        busy = {chunk.actor for chunk in self._running.values()}
        for actor in range(len(self._pool.actors)):
            if actor not in busy and self._waiting:
                chunk, held = self._waiting.pop(self._choice(actor))
                reply, states = self._call(actor, chunk, held)
                self._running[reply] = _Running(actor, chunk, states)
                self._served |= {job.client: actor for job in chunk}

    def _choice(self, actor: int) -> int:
        """A chunk whose first client this actor served before, if one is next: its images and kernels are warm here."""
        kind = self._waiting[0][0][0].kind
        alike = [number for number, (chunk, _) in enumerate(self._waiting) if chunk[0].kind == kind]
        served = (n for n in alike if self._served.get(self._waiting[n][0][0].client, actor) == actor)
        return next(served, 0)

    def _call(self, actor: int, chunk: Sequence[Job], held: Mapping[str, Any]) -> tuple[Any, Any]:
        trees, states = _Numbered(), _Numbered()

        def number(tree: Params) -> int:
            return trees.number(id(tree), self._stored[id(tree)][1])

        turns = [
            Turn(
                replace(job, instruction=job.instruction.with_trees([{}] * len(job.instruction.trees))),
                tuple(map(number, job.instruction.trees)),
                states.number(held[job.client], held[job.client]) if job.client in held else None,
            )
            for job in chunk
        ]
        call = self._pool.actors[actor].run.options(num_returns=2)
        reply, kept = call.remote(self._setup, turns, len(trees.items), *trees.items, *states.items)
        return reply, kept


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
    return tree if nbytes([tree]) < SMALL else ray.put(tree)


def _told(error: Exception, jobs: Sequence[Job]) -> MfedError:
    """What the clients' error is to the run."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, MfedError):
        return cause
    names = ", ".join(job.client for job in jobs)
    who = f"client {names}: its" if len(jobs) == 1 else f"clients {names}: their"
    if isinstance(error, ray.exceptions.RayTaskError):
        return ClientError(f"{who} process failed: {cause!r}")
    return ClientLostError(f"{who} actor died and no retry helped: {error}")
