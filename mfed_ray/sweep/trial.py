"""One point of a sweep as Ray Tune runs it: an actor that drives it, and its client actors, in one placement group."""

import math
import socket
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune

from mfed_ray.errors import MfedError, PlacementError, RunFolderError
from mfed_ray.execution import simulate
from mfed_ray.experiment import Experiment
from mfed_ray.federation.events import Event, ends_round
from mfed_ray.results.curves import Curve, read_curve
from mfed_ray.results.delta import delta_m, gain
from mfed_ray.runtime.client_actor import import_from
from mfed_ray.runtime.hosts import RayHost, SerialHost
from mfed_ray.runtime.placement import Placement
from mfed_ray.runtime.pool import ActorPool
from mfed_ray.storage import below, is_remote, shown
from mfed_ray.sweep.points import Point, baseline_of, experiment_at, folder_name
from mfed_ray.sweep.schema import CONFIG, DELTA_M, Sweep

POINT, ROUND, OBJECTIVE, FAILED = "point", "round", "objective", "failed"
"""Keys of a trial's config and results."""
PATIENCE = 86_400.0
"""Seconds that a trial waits for another that has the same point: Optuna may propose one twice."""


@dataclass(frozen=True)
class Setting:
    """What the trials of a sweep share. ``folder``: the sweep's; ``ended``: by trial's folder, the round at which a
    scheduler has ended it before."""

    sweep: Sweep
    folder: str
    directory: Path
    path: Sequence[str]
    ended: Mapping[str, int] = field(default_factory=dict)

    def place(self, point: Point) -> str:
        """The folder of the point's run."""
        return below(self.folder, f"trials/{folder_name(point)}")


def resources(experiment: Experiment, actors: int) -> tune.PlacementGroupFactory:
    """What a trial waits for, and gets as a whole: a share for each client actor; the driver takes none of its own."""
    r = experiment.runtime
    share = {"CPU": r.cpus_per_client, **({"GPU": r.gpus_per_client} if r.gpus_per_client else {})}
    if r.backend == "serial":
        return tune.PlacementGroupFactory([share])
    return tune.PlacementGroupFactory([{}] + [share] * actors)


class Trial(tune.Trainable):  # type: ignore[misc]
    """A step is the rounds up to the next that was evaluated. Rounds that the folder holds already are told again, so
    that schedulers and searches of a resumed sweep know them."""

    def setup(self, config: dict[str, Any], setting: Setting) -> None:
        """Take over a point; nothing is read before the first step."""
        import_from(setting.path)
        self._setting = setting
        self._pool: ActorPool | None = None
        self._pool_of: tuple[float, ...] = ()
        self._begin(config)

    def _begin(self, config: dict[str, Any]) -> None:
        self._point: Point = config[POINT]
        self._place = self._setting.place(self._point)
        self._events: Generator[Event, None, None] | None = None
        self._curve = Curve()
        self._told = -1

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take over the next point; the client actors stay where it asks for the same ones."""
        self._leave()
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        """Tune stops the trial's actor."""
        self._leave()
        self._drop_pool()

    def step(self) -> dict[str, Any]:
        """The next evaluated round's result. What would come again ends the trial: wrong input, a client's own error.

        What may pass is left to Tune, which starts the trial again from its last round.
        """
        try:
            return self._step()
        except MfedError as error:
            if error.may_pass:
                raise
            return {ROUND: max(self._told, 0), OBJECTIVE: math.nan, FAILED: str(error), "done": True}

    def _step(self) -> dict[str, Any]:
        experiment = experiment_at(self._setting.sweep, self._point)
        if self._events is None:
            check_shared(self._setting.folder)
            self._curve = read_curve(self._place)
            self._events = self._simulate(experiment)
        while not (ahead := sorted(number for number in self._curve.rounds if number > self._told)):
            self._advance()
        self._told = ahead[0]
        if self._told == experiment.rounds:
            self._finish()
        values = self._curve.rounds[self._told]
        last = min(experiment.rounds, self._setting.ended.get(folder_name(self._point), experiment.rounds))
        return {
            **{f"{task} {self._curve.headlines[task].metric}": value for task, value in values.items()},
            ROUND: self._told,
            OBJECTIVE: self._objective(),
            "done": self._told >= last,
        }

    def _advance(self) -> None:
        """One round further."""
        assert self._events is not None  # noqa: S101 - set by the caller
        last = next((event.round for event in self._events if ends_round(event)), None)
        self._curve = read_curve(self._place)
        newest = max(self._curve.rounds, default=-1)
        if last is None and newest <= self._told:  # else another process has just finished it
            raise RunFolderError(
                f"{shown(self._place)}: its tables end before its last checkpoint; move the folder away"
            )

    def _finish(self) -> None:
        """Let the run come to its end: tables that a kill left may be a round ahead of the last checkpoint."""
        assert self._events is not None  # noqa: S101 - set by the caller
        for _ in self._events:
            pass

    def _objective(self) -> float:
        """Of the round told last; more is better."""
        name, values, headlines = self._setting.sweep.objective, self._curve.rounds[self._told], self._curve.headlines
        if name is None:
            return math.nan
        if name == DELTA_M:
            local = read_curve(self._setting.place(baseline_of(self._point))).rounds.get(self._told, {})
            base = [local.get(task, math.nan) for task in values]
            return delta_m(gain(list(values.values()), base, [headlines[task].higher_is_better for task in values]))
        if name not in values:
            return math.nan
        return values[name] if headlines[name].higher_is_better else -values[name]

    def _simulate(self, experiment: Experiment) -> Generator[Event, None, None]:
        """The point's run, on client actors in the trial's placement group, which outlive it unless it fails."""
        directory = self._setting.directory
        if experiment.runtime.backend == "serial":
            yield from simulate(experiment, self._place, SerialHost(), directory, PATIENCE)
            return
        pool = self._pool_for(experiment)
        try:
            yield from simulate(experiment, self._place, RayHost(pool), directory, PATIENCE)
        except Exception:
            self._drop_pool()
            raise

    def _pool_for(self, experiment: Experiment) -> ActorPool:
        r = experiment.runtime
        actors = reserved(r.cpus_per_client, r.gpus_per_client)
        made_for = (actors, r.cpus_per_client, r.gpus_per_client, r.max_retries, r.start_timeout)
        if self._pool is None or self._pool_of != made_for:
            self._drop_pool()
            placement = Placement({"the trial's placement group": actors}, experiment.client_count)
            self._pool = ActorPool(placement, r.cpus_per_client, r.gpus_per_client, r.max_retries, r.start_timeout)
            self._pool_of = made_for
        return self._pool

    def _drop_pool(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _leave(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None


def check_shared(folder: str) -> None:
    """Raises RunFolderError where this process's machine does not see what the sweep began on another."""
    if not is_remote(folder) and not (Path(folder) / CONFIG).exists():
        raise RunFolderError(
            f"{folder}: not to be seen on {socket.gethostname()}, where a trial was placed; choose with --out a folder "
            "that all nodes mount, or a URI as s3://bucket/folder"
        )


def reserved(cpus: float, gpus: float) -> int:
    """How many client actors the placement group of this process holds. Raises PlacementError for none: one actor more
    than its bundles would wait for ever."""
    group = ray.util.get_current_placement_group()
    bundles = group.bundle_specs if group else []
    fitting = sum(bool(one.get("CPU", 0) >= cpus and one.get("GPU", 0) >= gpus) for one in bundles)
    if not fitting:
        raise PlacementError(
            f"runtime.cpus_per_client: {cpus:g}, runtime.gpus_per_client: {gpus:g}: none of the {len(bundles)} bundles "
            f"of the trial's placement group ({bundles}) holds a client"
        )
    return fitting
