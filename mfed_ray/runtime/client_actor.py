"""A process that clients take turns in: what a call brings it, and what it gives back."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray

from mfed_ray.averages import PartialMean
from mfed_ray.errors import MfedError
from mfed_ray.federation.backend import Job
from mfed_ray.messages import ClientReport, Params, State, Update


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
    """What a call gives back beside its second object, which is what clients keep."""

    reports: tuple[ClientReport, ...]
    updates: tuple[Update, ...]
    means: Mapping[str, Sequence[PartialMean]]
    keeping: tuple[str, ...]
    errors: Mapping[int, MfedError]


class ClientActor:
    """A worker in its own process. Parameters, but for small trees, and states travel as references to the store.

    Every call brings the reference of the run that it belongs to (``setup``): so an actor that takes the place of
    another needs nothing of it, and an actor serves one run after another. The worker of the last run is kept.
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

    def answer(self) -> None:
        """Say that this process is there."""

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
