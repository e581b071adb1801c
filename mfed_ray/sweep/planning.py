"""What a sweep is going to run, checked before anything starts."""

from collections.abc import Mapping, Sequence

from mfed_ray.errors import ConfigError, PlacementError
from mfed_ray.experiment import Experiment
from mfed_ray.runtime.placement import place
from mfed_ray.sweep.distributions import Distribution
from mfed_ray.sweep.points import Point, baselines, experiment_at, label, planned
from mfed_ray.sweep.schema import DELTA_M, Sweep


def experiments(sweep: Sweep) -> dict[str, Experiment]:
    """Every trial that is known before, by its label: baselines and points; of Optuna's space each end and choice.

    Raises ConfigError for the first that is no experiment, or that has no client for the objective.
    """
    points = [*baselines(sweep), *(_corners(sweep) if sweep.search.method == "optuna" else planned(sweep))]
    found = {label(point): experiment_at(sweep, point) for point in points}
    for name, experiment in found.items():
        _check_objective(sweep, name, experiment)
    return found


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


def actors_of(experiment: Experiment, nodes: Sequence[Mapping[str, float | str]]) -> int:
    """How many client actors a trial gets: as many as a run on these nodes. Raises PlacementError for none."""
    r = experiment.runtime
    if r.backend == "serial":
        return place(nodes, 1, r.cpus_per_client, r.gpus_per_client).actors
    clients = sum(one.count for one in experiment.clients)
    return place(nodes, clients, r.cpus_per_client, r.gpus_per_client, r.max_actors).actors


def check_placement(known: Mapping[str, Experiment], nodes: Sequence[Mapping[str, float | str]]) -> None:
    """Raises PlacementError for the first trial that the nodes could never hold."""
    for name, experiment in known.items():
        try:
            actors_of(experiment, nodes)
        except PlacementError as error:
            raise PlacementError(f"trial {name}: {error}") from error
