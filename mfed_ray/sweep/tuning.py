"""Ray Tune, set up for a sweep: trials, their resources, who stops them, who is told."""

import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from mfed_ray.errors import ConfigError
from mfed_ray.runtime.cluster import nodes
from mfed_ray.storage import below
from mfed_ray.sweep.distributions import Distribution
from mfed_ray.sweep.ledger import Entry, Ledger, State
from mfed_ray.sweep.planning import Plan, actors_of
from mfed_ray.sweep.points import Point, experiment_at, folder_name
from mfed_ray.sweep.schema import Sweep
from mfed_ray.sweep.trial import FAILED, OBJECTIVE, POINT, ROUND, Setting, Trial, resources

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
QUIET = {"RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_DISABLE_SIGINT_HANDLER": "1"}
"""Tune's own reports and files are for a person who works with Tune; Ctrl-C is ours."""


@dataclass(frozen=True)
class TrialEvent:
    """A trial's entry as it now stands; ``ended`` of ``total`` trials of the sweep have ended."""

    entry: Entry
    rounds: int
    ended: int
    total: int


OnEvent = Callable[[TrialEvent], None]


def check_packages(sweep: Sweep) -> None:
    """Raises ConfigError for an optional package that the sweep needs and that is not installed."""
    needed: dict[str, tuple[str, str]] = {f"log_to: {name}": (PACKAGES[name], name) for name in sweep.log_to}
    if sweep.search.method == "optuna":
        needed["search.method: optuna"] = ("optuna", "optuna")
    for place, (package, extra) in needed.items():
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"{place} needs the package {package}: pip install 'mfed-ray[{extra}]'")


class Tuning:
    """Runs trials in the sweep's folder at ``place``, and keeps its ledger; relative paths start from ``directory``."""

    def __init__(
        self, sweep: Sweep, planned: Plan, place: str, directory: Path, ledger: Ledger, on_event: OnEvent
    ) -> None:
        self._sweep, self._planned, self._ledger = sweep, planned, ledger
        self._place, self._directory = place, directory
        self._notes = _Notes(self, ledger, on_event)

    @property
    def points(self) -> list[Point]:
        """Those that are known: of Optuna's the baselines, and what it has proposed in this space."""
        return [*self._planned.points, *(self._proposed() if self._searches else [])]

    @property
    def total(self) -> int:
        """How many trials there will have been."""
        return len(self._planned.points) + (self._sweep.search.samples or 0 if self._searches else 0)

    def rounds(self, point: Point) -> int:
        """How many rounds the point's run has."""
        return experiment_at(self._sweep, point).rounds

    @property
    def _searches(self) -> bool:
        return self._sweep.search.method == "optuna"

    def _proposed(self) -> list[Point]:
        space = {key: one for key, one in self._sweep.space.items() if isinstance(one, Distribution)}
        points = [entry.point for entry in self._ledger if entry.point.keys() == space.keys()]
        return [point for point in points if all(space[key].holds(value) for key, value in point.items())]

    def fit(self, points: Sequence[Point]) -> None:
        """Run these points to their end."""
        if points:
            self._fit({POINT: tune.grid_search(list(points))}, tune.TuneConfig(scheduler=FIFOScheduler()))

    def adapt(self) -> None:
        """Run the sweep's points under its scheduler and search."""
        settings: dict[str, Any] = {"metric": OBJECTIVE, "mode": "max", "scheduler": self._scheduler()}
        if not self._searches:
            self._fit({POINT: tune.grid_search(list(self._planned.then))}, tune.TuneConfig(**settings))
            return
        space = {key: one.domain() for key, one in self._sweep.space.items() if isinstance(one, Distribution)}
        settings |= {"search_alg": self._optuna(), "num_samples": self._sweep.search.samples}
        self._fit({POINT: space}, tune.TuneConfig(**settings))

    def _scheduler(self) -> TrialScheduler:
        s, rounds = self._sweep.scheduler, max(one.rounds for one in self._planned.experiments.values())
        if s.name == "asha":
            return AsyncHyperBandScheduler(
                ROUND, max_t=rounds, grace_period=s.grace_rounds, reduction_factor=s.reduction_factor
            )
        if s.name == "median":
            return MedianStoppingRule(ROUND, grace_period=s.grace_rounds, min_samples_required=s.min_trials)
        return FIFOScheduler()

    def _optuna(self) -> Any:
        """TPE, which proposes the points of a sweep that is resumed again first, and learns what came out."""
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        again = [{f"{POINT}/{key}": value for key, value in point.items()} for point in self._proposed()]
        seed = self._sweep.search.seed + len(again)  # with the old one it would propose the old points anew
        return OptunaSearch(seed=seed, points_to_evaluate=again or None)

    def _fit(self, space: dict[str, Any], config: tune.TuneConfig) -> None:
        config.reuse_actors = True
        config.max_concurrent_trials = self._sweep.max_concurrent
        os.environ.update(QUIET)
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what fails is told by the notes
        with ExitStack() as stack:
            logs = below(self._place, "logs")
            if not self._sweep.log_to:
                logs = stack.enter_context(tempfile.TemporaryDirectory(prefix="mfed_ray_"))
            run_config = tune.RunConfig(
                name=self._sweep.name,
                storage_path=logs,
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # a run's folder has its own
                failure_config=tune.FailureConfig(max_failures=self._sweep.retries),
                callbacks=[self._notes, *self._loggers()],
            )
            tune.Tuner(self._trainable(), param_space=space, tune_config=config, run_config=run_config).fit()

    def _trainable(self) -> Any:
        ended = {folder_name(entry.point): entry.round for entry in self._ledger if entry.state == "stopped"}
        setting = Setting(self._sweep, self._place, self._directory, sys.path, ended)
        sweep, found = self._sweep, nodes()

        def request(config: dict[str, Any]) -> tune.PlacementGroupFactory:
            experiment = experiment_at(sweep, config[POINT])
            return resources(experiment, actors_of(experiment, found))

        return tune.with_resources(tune.with_parameters(Trial, setting=setting), request)

    def _loggers(self) -> list[tune.Callback]:
        """Tune's own callbacks."""
        from ray.air.integrations.mlflow import MLflowLoggerCallback
        from ray.air.integrations.wandb import WandbLoggerCallback
        from ray.tune.logger import TBXLoggerCallback

        make: dict[str, Callable[[], tune.Callback]] = {
            "tensorboard": TBXLoggerCallback,
            "mlflow": lambda: MLflowLoggerCallback(experiment_name=self._sweep.name),
            "wandb": lambda: WandbLoggerCallback(project=self._sweep.name),
        }
        return [make[name]() for name in self._sweep.log_to]


class _Notes(tune.Callback):  # type: ignore[misc]
    """Tune's events into the ledger, and out to whoever watches."""

    def __init__(self, tuning: Tuning, ledger: Ledger, on_event: OnEvent) -> None:
        self._tuning, self._ledger, self._on_event = tuning, ledger, on_event

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles what it was set up with, which no one reads again; a sweep resumes from its ledger."""
        return {}

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:
        """A trial starts, or starts again."""
        self._tell(self._ledger.note(_entry(trial, "running")))

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:
        """A round was evaluated."""
        self._tell(_entry(trial, "running", result))

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
        """A trial has reached its last round, was stopped by the scheduler, or cannot run with its input."""
        result = trial.last_result
        done: State = "finished" if result[ROUND] == self._tuning.rounds(trial.config[POINT]) else "stopped"
        self._tell(self._ledger.note(_entry(trial, "failed" if FAILED in result else done, result, result.get(FAILED))))

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:
        """A trial failed once more than it is retried."""
        message = _sentence(trial.get_pickled_error())
        self._tell(self._ledger.note(_entry(trial, "failed", trial.last_result, message)))

    def _tell(self, entry: Entry) -> None:
        entries = (self._ledger.get(point) for point in self._tuning.points)
        ended = sum(one is not None and one.state != "running" for one in entries)
        self._on_event(TrialEvent(entry, self._tuning.rounds(entry.point), ended, self._tuning.total))


def _entry(trial: Any, state: State, result: dict[str, Any] | None = None, message: str | None = None) -> Entry:
    result = result or {}
    point = trial.config[POINT]
    objective = result.get(OBJECTIVE)
    known = objective if objective is not None and objective == objective else None
    return Entry(point, folder_name(point), state, result.get(ROUND, 0), known, message)


def _sentence(error: BaseException | None) -> str:
    """The last line of what a trial's process said, if it came to that."""
    told = "" if error is None or isinstance(error, ray.exceptions.RayActorError) else str(error).strip()
    return told.splitlines()[-1] if told else "the process of its driver died"
