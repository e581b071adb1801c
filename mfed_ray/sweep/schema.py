"""The configuration of a sweep: every key, its type, its default and what is allowed."""

from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from mfed_ray.errors import ConfigError
from mfed_ray.experiment.loading import WHOLE, Tree, load_tree, merge, one_tree, overrides_tree
from mfed_ray.experiment.parsing import sentences
from mfed_ray.section import Section
from mfed_ray.sweep.distributions import Distribution, is_distribution, plain
from mfed_ray.tasks import TASKS

CONFIG = "sweep.yaml"
"""A sweep's file in its folder."""
DELTA_M = "delta_m"


class Search(Section):
    """Which points are tried.

    ``grid``: every combination of the lists. ``random``: ``samples`` draws of the distributions, each with every
    combination of the lists. ``optuna``: ``samples`` points that Optuna's TPE proposes; distributions only.
    """

    method: Literal["grid", "random", "optuna"] = "grid"
    samples: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _draws_what_is_seeded(self) -> "Search":
        if self.method == "grid" and self.seed != 0:
            raise ConfigError(
                f"search.seed: {self.seed} found, but method grid draws nothing; leave it out, or choose random, optuna"
            )
        return self


class Scheduler(Section):
    """Which trials are stopped early, by their objective. Rounds count as an experiment's rounds do.

    ``asha``: asynchronous successive halving (Li et al., MLSys 2020). ``median``: a trial whose best objective is
    below the median of the others' running averages (Golovin et al., KDD 2017).
    """

    name: Literal["fifo", "asha", "median"] = "fifo"
    grace_rounds: int = Field(1, ge=1)
    """No trial is stopped before it has finished so many."""
    reduction_factor: float = Field(3, gt=1)
    """ASHA: one in so many trials goes on at each rung."""
    min_trials: int = Field(3, ge=1)
    """Median: so many trials must have come as far."""

    @model_validator(mode="after")
    def _takes_what_is_set(self) -> "Scheduler":
        takers = {"grace_rounds": ("asha", "median"), "reduction_factor": ("asha",), "min_trials": ("median",)}
        for key, names in takers.items():
            value = getattr(self, key)
            if self.name not in names and value != type(self).model_fields[key].default:
                raise ConfigError(
                    f"scheduler.{key}: {value} found, but scheduler {self.name} takes none; leave it out, or name "
                    f"{', '.join(names)}"
                )
        return self


class Sweep(Section):
    """One experiment at many points."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    experiment: dict[str, Any]
    """An experiment's keys; ``base``, an experiment's file that they change, lies relative to the sweep's file."""
    space: dict[str, tuple[Any, ...] | Distribution] = Field(min_length=1)
    """By dotted key: a list of values, or a distribution. The key ``experiment`` sets several keys at once: a list of
    trees, each with a name. The order of keys does not matter to what a point runs with."""
    baselines: tuple[dict[str, Any], ...] = ()
    """Experiments' keys, merged over ``experiment``: each runs once for every combination of the values that the space
    gives to keys outside of ``algorithm``, and first."""
    search: Search = Search()
    objective: str | None = None
    """What schedulers and Optuna improve: a task, by its headline metric, or ``delta_m``, by the local baseline."""
    scheduler: Scheduler = Scheduler()
    retries: int = Field(1, ge=0)
    """How often a failed trial is started again, from its last finished round."""
    max_concurrent: int | None = Field(None, ge=1)
    """Trials at a time; None: as many as the cluster's resources allow."""
    log_to: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()

    @field_validator("space", mode="before")
    @classmethod
    def _flat(cls, space: Any) -> Any:
        if not isinstance(space, Mapping):
            return space
        return {key: _choices(key, value) for key, value in _by_dotted_key(space).items()}

    @field_validator("space")
    @classmethod
    def _trees_have_names(cls, space: dict[str, Any]) -> dict[str, Any]:
        trees = space.get(WHOLE, ())
        for tree in trees.corners() if isinstance(trees, Distribution) else trees:
            if not isinstance(tree, Mapping) or "name" not in tree:
                raise ValueError(
                    f"experiment: expected a list of mappings of an experiment's keys, each with a name, found {tree!r}"
                )
        return space

    @field_validator("objective")
    @classmethod
    def _known_objective(cls, objective: str | None) -> str | None:
        if objective not in (None, DELTA_M, *TASKS):
            raise ValueError(f"{objective!r} is not one of {', '.join((DELTA_M, *TASKS))}")
        return objective

    @property
    def adaptive(self) -> bool:
        """Whether what is tried, and for how long, depends on what came out."""
        return self.search.method == "optuna" or self.scheduler.name != "fifo"

    @model_validator(mode="after")
    def _has_an_objective(self) -> "Sweep":
        if self.adaptive and self.objective is None:
            key = "scheduler.name" if self.scheduler.name != "fifo" else "search.method"
            value = self.scheduler.name if self.scheduler.name != "fifo" else self.search.method
            raise ConfigError(f"objective: missing, but {key} {value} needs one: {', '.join((DELTA_M, *TASKS))}")
        if self.objective == DELTA_M and {"algorithm": {"name": "local"}} not in self.baselines:
            raise ConfigError(
                "objective: delta_m found, but no baseline to compare with; add {algorithm: {name: local}} to baselines"
            )
        return self

    @model_validator(mode="after")
    def _searchable(self) -> "Sweep":
        method, samples = self.search.method, self.search.samples
        if (samples is None) != (method == "grid"):
            told = "has no samples, it tries every combination" if method == "grid" else "needs search.samples"
            raise ConfigError(f"search.samples: {samples} found, but method {method} {told}")
        if method == "random" and not any(isinstance(choices, Distribution) for choices in self.space.values()):
            raise ConfigError("search.method: random found, but the space has lists only, nothing to draw; use grid")
        wrong = Distribution if method == "grid" else tuple if method == "optuna" else ()
        for key, choices in self.space.items():
            if isinstance(choices, wrong):
                expected = "a list of values" if method == "grid" else "a distribution, as {choice: [...]}"
                raise ConfigError(f"space.{key}: search.method {method} expects {expected}")
        return self

    def resolved(self) -> Tree:
        """Every key with its value, defaults included, as plain YAML and JSON types."""
        return self.model_dump(mode="json")


def _by_dotted_key(space: Mapping[Any, Any], leaves: Container[str] = ()) -> Tree:
    """What is tried, by dotted key, whether keys are dotted or nested; nothing below ``leaves`` is a key of its own.

    Raises ConfigError for a key that stands there twice with different values.
    """
    return one_tree(({key: value} for key, value in _dotted(space, leaves)), "space")


def _dotted(tree: Mapping[Any, Any], leaves: Container[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value and not is_distribution(value) and key not in leaves:
            yield from _dotted(value, leaves, f"{key}.")
        else:
            yield key, value


def _choices(key: str, value: Any) -> tuple[Any, ...] | Distribution:
    """What is tried at a key of the space. Raises ValueError for what is neither a list nor a distribution."""
    if isinstance(value, Distribution | tuple):
        return value
    if is_distribution(value):
        return Distribution.model_validate(value)
    if not isinstance(value, list):
        raise ValueError(f"{key} is {value!r}; expected a list of values, or a distribution as {{uniform: [0, 1]}}")
    if not value:
        raise ValueError(f"{key} has no values; expected a list of at least one")
    return plain(value)


def load_sweep(path: str | Path, overrides: Sequence[str] = ()) -> Sweep:
    """A sweep's YAML file with ``key=value`` overrides on top. Raises ConfigError."""
    path = Path(path)
    tree, over = _same_keys(load_tree(path), overrides_tree(overrides))
    if "space" not in tree and "space" not in over and "clients" in tree:
        raise ConfigError(
            f"{path}: is an experiment, not a sweep; use mfed run, or name it as a sweep's experiment.base"
        )
    return parse_sweep(_on_base(tree, over, path.parent))


def _same_keys(tree: Tree, over: Tree) -> tuple[Tree, Tree]:
    """Both with the keys of their space dotted, so that an override finds the file's key however that is written."""
    space, changes = tree.get("space"), over.get("space")
    if isinstance(space, Mapping):
        tree = {**tree, "space": _by_dotted_key(space)}
        if isinstance(changes, Mapping):
            over = {**over, "space": _by_dotted_key(changes, leaves=tree["space"])}
    return tree, over


def _on_base(tree: Tree, over: Tree, folder: Path) -> Tree:
    """``over`` on top of the sweep, whose experiment lies over its ``base``, if it or ``over`` names one."""
    merged = merge(tree, over)
    experiment = merged.get(WHOLE)
    if not isinstance(experiment, dict) or "base" not in experiment:
        return merged
    own = tree.get(WHOLE)
    based = merge(load_tree(folder / str(experiment["base"])), own if isinstance(own, dict) else {}, WHOLE)
    merged = merge({**tree, WHOLE: based}, over)
    return {**merged, WHOLE: {key: value for key, value in merged[WHOLE].items() if key != "base"}}


def parse_sweep(tree: Mapping[str, Any]) -> Sweep:
    """Check a plain tree. Raises ConfigError that names every wrong key, its value, and what is allowed."""
    try:
        return Sweep.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(sentences(error, Sweep)) from error
