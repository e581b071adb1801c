"""What a sweep is going to run, checked before anything starts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mfed_ray.errors import ConfigError, PlacementError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.identity import identity as run_identity
from mfed_ray.runtime.placement import Node, place
from mfed_ray.sweep.distributions import Distribution
from mfed_ray.sweep.points import Point, baselines, experiment_at, label, planned
from mfed_ray.sweep.schema import DELTA_M, Sweep


@dataclass(frozen=True)
class Plan:
    """The points that are known before: baselines, which come first, and those of a grid or random search."""

    first: Sequence[Point]
    then: Sequence[Point]
    experiments: Mapping[str, Experiment]
    """By label; of Optuna's space instead one at each end of a range and for each choice."""

    @property
    def points(self) -> list[Point]:
        """All of them."""
        return [*self.first, *self.then]


def plan(sweep: Sweep) -> Plan:
    """Raises ConfigError for a point that is no experiment, that has no client for the objective, or that is another's
    run under another name; a point that is a baseline's run is left to the baseline."""
    first = baselines(sweep)
    _check_samples(sweep)
    others = _corners(sweep) if sweep.search.method == "optuna" else planned(sweep)
    points = [*first, *others]
    kept: dict[str, int] = {}
    experiments: dict[str, Experiment] = {}
    for index, point in enumerate(points):
        experiment, name = experiment_at(sweep, point), label(point)
        _check_objective(sweep, name, experiment)
        same = kept.setdefault(run_identity(experiment).run_id, index)
        if same == index:
            experiments[name] = experiment
        elif not same < len(first) <= index:
            raise ConfigError(f"trial {name}: would be the same run as {label(points[same])}; leave one of them out")
    then = [points[index] for index in kept.values() if index >= len(first)]
    return Plan(first, [] if sweep.search.method == "optuna" else then, experiments)


def _check_samples(sweep: Sweep) -> None:
    choices = [one.choice for one in sweep.space.values() if isinstance(one, Distribution)]
    if sweep.search.method == "optuna" and all(choices):
        points = math.prod(len(one or ()) for one in choices)
        if (sweep.search.samples or 0) > points:
            raise ConfigError(
                f"search.samples: {sweep.search.samples} found, but the space has {points} points; use method grid"
            )


def _corners(sweep: Sweep) -> list[Point]:
    """A point with the first value of each distribution, and from there each other value alone."""
    values = {key: one.corners() for key, one in sweep.space.items() if isinstance(one, Distribution)}
    first = {key: ends[0] for key, ends in values.items()}
    return [first, *({**first, key: value} for key, ends in values.items() for value in ends[1:])]


def _check_objective(sweep: Sweep, name: str, experiment: Experiment) -> None:
    tasks = {task for clients in experiment.clients for task in clients.tasks}
    if sweep.objective not in (None, DELTA_M, *tasks):
        raise ConfigError(
            f"objective: {sweep.objective} found, but no client of trial {name} has this task; "
            f"allowed: {', '.join((DELTA_M, *sorted(tasks)))}"
        )
    if sweep.scheduler.grace_rounds > experiment.rounds:
        raise ConfigError(
            f"scheduler.grace_rounds: {sweep.scheduler.grace_rounds} found, but trial {name} has {experiment.rounds} "
            "rounds"
        )


def actors_of(experiment: Experiment, nodes: Sequence[Node]) -> int:
    """How many client actors a trial gets: as many as a run on these nodes. Raises PlacementError for none."""
    r = experiment.runtime
    if r.backend == "serial":
        return place(nodes, 1, r.cpus_per_client, r.gpus_per_client).actors
    return place(nodes, experiment.client_count, r.cpus_per_client, r.gpus_per_client, r.max_actors).actors


def check_placement(experiments: Mapping[str, Experiment], nodes: Sequence[Node]) -> None:
    """Raises PlacementError for the first trial, by label, that the nodes could never hold."""
    for name, experiment in experiments.items():
        try:
            actors_of(experiment, nodes)
        except PlacementError as error:
            raise PlacementError(f"trial {name}: {error}") from error
