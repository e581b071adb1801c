"""Clients in Ray actors, each pinned to its share of CPUs and GPU."""

import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray
import torch

from mfed_ray.algorithms.contract import Algorithm
from mfed_ray.errors import ClientError, MfedError
from mfed_ray.federation.backend import Fitted
from mfed_ray.messages import ClientReport, ClientSpec, Instruction, Params, State
from mfed_ray.runtime.placement import Placement
from mfed_ray.runtime.worker import TrainerFactory, Worker


class ClientActor:
    """A worker in its own process. Parameters and states come as references and are fetched here.

    Every call brings the reference of the run that it belongs to (``setup``): so an actor that Ray restarted needs
    nothing that it lost, and an actor serves one run after another. The worker of the last run is kept.
    """

    def __init__(self, gpus: float, path: Sequence[str]) -> None:
        import_from(path)
        if 0 < gpus < 1 and torch.cuda.is_available():
            # Ray's fractions do not limit memory; a twentieth is left to the processes' CUDA contexts
            torch.cuda.set_per_process_memory_fraction(0.95 * gpus)
        self._run: str | None = None
        self._worker: Worker

    def fit(
        self,
        setup: list[Any],
        instruction: Instruction,
        load: list[Any],
        anchor: list[Any],
        state: State,
        evaluate: bool,
    ) -> tuple[Fitted, State]:
        """``Worker.fit``, its two results as two objects, so that the state need not travel to the driver."""
        return self._worker_of(setup).fit(_complete(instruction, load, anchor), state, evaluate=evaluate)

    def evaluate(self, setup: list[Any], instruction: Instruction, load: list[Any], state: State) -> ClientReport:
        """``Worker.evaluate``."""
        return self._worker_of(setup).evaluate(_complete(instruction, load, []), state)

    def _worker_of(self, setup: list[Any]) -> Worker:
        run = setup[0].hex()
        if self._run != run:
            self._worker, self._run = Worker(*ray.get(setup[0])), run
        return self._worker


def _complete(instruction: Instruction, load: list[Any], anchor: list[Any]) -> Instruction:
    return Instruction(instruction.client, instruction.round, tuple(ray.get(load)), tuple(ray.get(anchor)))


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

    def close(self) -> None:
        """End the actors; Ray itself goes on."""
        for actor in self.actors:
            ray.kill(actor)


class RayBackend:
    """Runs clients on a pool of actors.

    ``fit`` and ``evaluate`` are pure, so Ray may restart an actor, ``max_retries`` times, and retry its calls. What
    clients keep stays in the object store as what their actors returned, which outlives the actors.
    """

    def __init__(
        self,
        pool: ActorPool,
        clients: Sequence[ClientSpec],
        algorithm: Algorithm,
        make_trainer: TrainerFactory,
        threads: int,
    ) -> None:
        self._pool = pool
        # held as long as the run lasts: an actor that is restarted fetches it again
        self._setup = [ray.put(({client.name: client for client in clients}, algorithm, make_trainer, threads))]
        self._states: dict[str, ray.ObjectRef[State]] = {}
        self._stored: dict[int, tuple[Params, Any]] = {}
        self._last_actor: dict[str, int] = {}

    def fit(self, instructions: Sequence[Instruction], *, evaluate: bool) -> Iterator[Fitted]:
        """Train the clients on whichever actor is free; yields as they finish."""

        def submit(actor: Any, instruction: Instruction) -> Any:
            load, anchor = self._references(instruction.load), self._references(instruction.anchor)
            bare = Instruction(instruction.client, instruction.round)
            state = self._states.get(instruction.client, State())
            fitted, kept = actor.fit.options(num_returns=2).remote(self._setup, bare, load, anchor, state, evaluate)
            self._states[instruction.client] = kept
            return fitted

        self._store([*(i.load for i in instructions), *(i.anchor for i in instructions)])
        yield from self._run(instructions, submit)

    def evaluate(self, instructions: Sequence[Instruction]) -> Iterator[ClientReport]:
        """Evaluate the clients on whichever actor is free; yields as they finish."""

        def submit(actor: Any, instruction: Instruction) -> Any:
            bare = Instruction(instruction.client, instruction.round)
            state = self._states.get(instruction.client, State())
            return actor.evaluate.remote(self._setup, bare, self._references(instruction.load), state)

        self._store([i.load for i in instructions])
        yield from self._run(instructions, submit)

    def states(self) -> Mapping[str, State]:
        """Every client's state, fetched."""
        return dict(zip(self._states, ray.get(list(self._states.values())), strict=True))

    def restore(self, states: Mapping[str, State]) -> None:
        """Take over the clients' states of a checkpoint."""
        self._states = {client: ray.put(state) for client, state in states.items()}

    def _store(self, groups: Sequence[tuple[Params, ...]]) -> None:
        """Put each distinct tree once, whatever the number of clients that get it; forget those of earlier rounds."""
        trees = {id(tree): tree for group in groups for tree in group}
        self._stored = {key: self._stored.get(key) or (tree, ray.put(tree)) for key, tree in trees.items()}

    def _references(self, trees: Sequence[Params]) -> list[Any]:
        return [self._stored[id(tree)][1] for tree in trees]

    def _run(self, instructions: Sequence[Instruction], submit: Any) -> Iterator[Any]:
        waiting, idle = deque(instructions), deque(range(len(self._pool.actors)))
        running: dict[Any, tuple[int, str]] = {}
        while waiting or running:
            while waiting and idle:
                actor = idle.popleft()
                instruction = self._next(waiting, actor)
                running[submit(self._pool.actors[actor], instruction)] = (actor, instruction.client)
            done, _ = ray.wait(list(running), num_returns=1)
            actor, client = running.pop(done[0])
            idle.append(actor)
            yield _fetch(done[0], client)

    def _next(self, waiting: deque[Instruction], actor: int) -> Instruction:
        """A client that this actor served before, if one waits: its images and kernels are warm here."""
        chosen = next((i for i in waiting if self._last_actor.get(i.client, actor) == actor), waiting[0])
        waiting.remove(chosen)
        self._last_actor[chosen.client] = actor
        return chosen


def _fetch(reference: Any, client: str) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, MfedError):
            raise error.cause from None
        raise ClientError(f"client {client} failed: {error.cause!r}") from error
    except ray.exceptions.RayError as error:
        raise ClientError(f"client {client}: its actor died and no retry helped: {error}") from error
