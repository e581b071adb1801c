"""Experiments: the configuration, and what is built from it."""

from collections.abc import Sequence
from pathlib import Path

from mfed_ray.experiment.loading import load_tree
from mfed_ray.experiment.parsing import parse_experiment
from mfed_ray.experiment.schema import Experiment

__all__ = ["Experiment", "load_experiment", "parse_experiment"]


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """An experiment's YAML file with ``key=value`` overrides on top. Raises ConfigError."""
    return parse_experiment(load_tree(Path(path), overrides))
