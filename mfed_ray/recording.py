"""A run's rounds into its folder, written beside the next round."""

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from mfed_ray.errors import RunFolderError, StorageError
from mfed_ray.evaluation import AFTER_AGGREGATION, Headline, Stage
from mfed_ray.federation import checkpoint
from mfed_ray.federation.backend import Backend
from mfed_ray.federation.checkpoint import Checkpoint, Checkpoints
from mfed_ray.federation.events import Evaluated, Event, Failure, Progress, Resumed, Step, Trained, Waiting
from mfed_ray.federation.simulation import Simulation
from mfed_ray.messages import RunIdentity
from mfed_ray.results.failures import absent, append
from mfed_ray.results.parts import has_parts
from mfed_ray.results.recorder import Recorder, is_evaluated
from mfed_ray.results.run_folder import ENVIRONMENT, PARTITION, SKIPPED, RunFolder


def recorded(
    simulation: Simulation,
    backend: Backend,
    folder: RunFolder,
    config: Mapping[str, Any],
    run: RunIdentity,
    started: Mapping[str, Any],
    headlines: Mapping[str, Headline],
    checkpoints: Checkpoints,
    keep: Callable[[], None],
) -> Generator[Event, None, None]:
    """Run the rounds that are left. What a round came to is told when it is in the folder, and kept (``keep``).

    Raises RunFolderError where the folder's run had other shards, StorageError where the folder cannot be written.
    """
    shards = {client.name: list(client.train_ids) for client in simulation.clients}
    skipped = {client.name: list(client.skipped) for client in simulation.clients if client.skipped}
    problems: list[str] = []
    latest = checkpoint.load_latest(folder.checkpoints, problems.append)
    if latest and (folder.read_json(PARTITION), folder.read_json(SKIPPED) or {}) != (shards, skipped):
        raise RunFolderError(f"{folder.path}: the data's images or their order changed since this run began; use --out")
    if problems:
        yield Resumed(latest.round if latest else 0, problems)
    with _written_to(folder, latest):
        if not latest:
            folder.write_config(config)
            folder.write_json(PARTITION, shards)
            if skipped:
                folder.write_json(SKIPPED, skipped)
        folder.append_json(ENVIRONMENT, started)
    gone = absent(folder.path)
    recorder = Recorder(folder, run, simulation.everybody, config, headlines)
    evaluated = recorder.resume(latest.round) if latest else False

    saved = latest

    def write(event: Trained | Evaluated | Failure, state: Checkpoint | None) -> None:
        nonlocal saved
        with _written_to(folder, saved):
            if isinstance(event, Failure):
                append(folder.path, run.run_id, event)
            else:
                recorder.record(event)
            if state is not None and (state.round % checkpoints.every == 0 or state.round == simulation.rounds):
                # after the tables: it says that its round is whole there
                checkpoint.save(folder.checkpoints, state, saved, checkpoints.keep)
                saved = state
        keep()

    yield from written(simulation.run(backend, latest, evaluated, gone), write)
    with _written_to(folder, saved):
        recorder.finish()
    keep()


@contextmanager
def _written_to(folder: RunFolder, saved: Checkpoint | None) -> Iterator[None]:
    """Tell what the disk refuses in words."""
    try:
        yield
    except OSError as error:
        left = f"from round {saved.round}, whose checkpoint is whole" if saved else "from the start"
        raise StorageError(
            f"{folder.path}: cannot be written to ({error}); make room there, and the same command goes on {left}"
        ) from error


def is_finished(folder: RunFolder, rounds: int, stages: Collection[Stage]) -> bool:
    """Whether the folder's run has its last round, evaluated if that was asked for, and whole tables.

    Raises RunFolderError.
    """
    if checkpoint.latest_round(folder.checkpoints) != rounds or has_parts(folder.path):
        return False
    return AFTER_AGGREGATION not in stages or is_evaluated(folder, rounds)


def written(
    steps: Generator[Step, None, None], write: Callable[[Trained | Evaluated | Failure, Checkpoint | None], None]
) -> Generator[Event, None, None]:
    """What is told of the steps: each round once ``write`` has returned for it. One at a time, in order, in a thread.

    Meanwhile the next round goes on: at most one event waits behind the one that is being written. Nothing goes on
    before a failure is written. Where the steps raise, what a write behind them failed with is a note of their error.
    """
    with ThreadPoolExecutor(1, "writer") as writer:
        waiting: deque[tuple[Event, Future[None]]] = deque()
        try:
            for step in steps:
                if isinstance(step, Progress | Waiting):
                    yield step
                else:
                    while len(waiting) > 1:
                        yield _when_written(waiting)
                    event, state = step if isinstance(step, tuple) else (step, None)
                    before = waiting[-1][1] if waiting else None
                    waiting.append((event, writer.submit(_after, before, write, event, state)))
                while waiting and (isinstance(step, Failure) or waiting[0][1].done()):
                    yield _when_written(waiting)
            while waiting:
                yield _when_written(waiting)
        except BaseException as error:
            unwritten = waiting[-1][1].exception() if waiting else None  # the last fails with what any before it did
            if unwritten is not None and unwritten is not error:
                error.add_note(f"Besides, {unwritten}")
            raise
        finally:
            steps.close()


def _after(
    before: Future[None] | None,
    write: Callable[[Trained | Evaluated | Failure, Checkpoint | None], None],
    event: Trained | Evaluated | Failure,
    state: Checkpoint | None,
) -> None:
    if before is not None:
        before.result()  # raises: nothing is written after what could not be
    write(event, state)


def _when_written(waiting: deque[tuple[Event, Future[None]]]) -> Event:
    event, writing = waiting.popleft()
    writing.result()
    return event
