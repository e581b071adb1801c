"""A sweep's file: what is read, and what is refused."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import yaml

from mfed_ray.errors import ConfigError
from mfed_ray.sweep import load_sweep, parse_sweep
from mfed_ray.sweep.distributions import Distribution
from mfed_ray.sweep.planning import plan

SWEEPS = sorted((Path(__file__).resolve().parents[2] / "sweeps").glob("*.yaml"))
TREE: dict[str, Any] = {"name": "s", "experiment": {}, "space": {"seed": [0, 1]}}
LOCAL = {"algorithm": {"name": "local"}}


def test_dotted_and_nested_keys_are_the_same() -> None:
    dotted = parse_sweep({**TREE, "space": {"algorithm.correlation_threshold": [0, "auto"], "seed": [1]}})
    nested = parse_sweep({**TREE, "space": {"algorithm": {"correlation_threshold": [0, "auto"]}, "seed": [1]}})
    assert dotted == nested
    assert dotted.space == {"algorithm.correlation_threshold": (0, "auto"), "seed": (1,)}


def test_distributions_are_read_and_written_as_they_stand() -> None:
    space = {"local.learning_rate": {"log_uniform": [0.001, 0.1]}, "algorithm.name": {"choice": ["fedavg", "local"]}}
    sweep = parse_sweep({**TREE, "space": space, "search": {"method": "random", "samples": 2}})
    assert sweep.space["local.learning_rate"] == Distribution(log_uniform=(0.001, 0.1))
    assert sweep.resolved()["space"] == space
    assert parse_sweep(sweep.resolved()) == sweep


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spaces": {}}, r"^spaces: unknown key; did you mean 'space'\? \(allowed: name, experiment, space"),
        ({"space": {}}, "^space: dictionary should have at least 1 item"),
        ({"space": {"seed": []}}, "^space: seed has no values; expected a list of at least one$"),
        ({"space": {"seed": 3}}, r"^space: seed is 3; expected a list of values, or a distribution as \{uniform: "),
        ({"space": {"experiment": [{"rounds": 3}]}}, "^space: experiment: expected a list of mappings of an exp"),
        (
            {"space": {"x": [dt.date(2024, 1, 1)]}},
            "^space: object of type date is not JSON serializable, found in ",
        ),
        ({"search": {"method": "grib"}}, "^search.method: input should be 'grid', 'random' or 'optuna', found 'grib'$"),
        ({"search": {"samples": 3}}, "^search.samples: 3 found, but method grid has no samples, it tries every"),
        ({"search": {"method": "random"}}, "^search.samples: None found, but method random needs search.samples$"),
        (
            {"search": {"method": "optuna", "samples": 2}, "objective": "saliency"},
            r"^space.seed: search.method optuna expects a distribution, as \{choice: \[...\]\}$",
        ),
        ({"space": {"seed": {"integers": [0, 3]}}}, "^space.seed: search.method grid expects a list of values$"),
        ({"scheduler": {"name": "asha"}}, "^objective: missing, but scheduler.name asha needs one: delta_m, sem"),
        ({"objective": "salency"}, "^objective: 'salency' is not one of delta_m, semantic_segmentation"),
        ({"objective": "delta_m"}, r"^objective: delta_m found, but no baseline to compare with; add \{algorithm: "),
        ({"log_to": ["tensorbored"]}, "^log_to.0: input should be 'tensorboard', 'mlflow' or 'wandb', found"),
        ({"retries": -1}, "^retries: input should be greater than or equal to 0, found -1$"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_sweep({**TREE, **change})


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"uniform": [1, 0]}, r"uniform \[1.0, 0.0\]: expected \[low, high\] with low below high"),
        ({"log_uniform": [0, 1]}, r"log_uniform \[0.0, 1.0\]: expected \[low, high\] with low above 0 and below high"),
        (
            {"uniform": [0, 1], "choice": [1]},
            r"expected one of uniform, log_uniform, integers, choice, found uniform \[0.0, 1.0\], choice \[1\]",
        ),
    ],
)
def test_what_is_wrong_with_a_distribution(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_sweep({**TREE, "space": {"x": space}, "search": {"method": "random", "samples": 1}})


def test_an_experiment_is_no_sweep(tiny_file: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"tiny.yaml: is an experiment, not a sweep; use mfed run, or name it as a sweep's"
    ):
        load_sweep(tiny_file)


def test_base_lies_beside_the_sweep_and_overrides_reach_into_both(tiny_file: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "tiny.yaml").write_text(tiny_file.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "base.yaml").write_text("base: tiny.yaml\nname: over_tiny\n", encoding="utf-8")  # as paper configs are
    path = tmp_path / "sub" / "sweep.yaml"
    path.write_text(yaml.safe_dump({**TREE, "experiment": {"base": "../base.yaml", "rounds": 5}}), encoding="utf-8")
    sweep = load_sweep(path, ["experiment.seed=3", "experiment.clients.0.count=1", "space.local.max_steps=[1]"])
    assert sweep.experiment["name"] == "over_tiny"
    assert sweep.experiment["rounds"] == 5
    assert sweep.experiment["seed"] == 3
    assert sweep.experiment["clients"][0]["count"] == 1
    assert sweep.space == {"seed": (0, 1), "local.max_steps": (1,)}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_shipped_sweeps_say_how_to_run_them_and_are_right(path: Path) -> None:
    assert f"#   mfed sweep sweeps/{path.name}" in path.read_text(encoding="utf-8")
    sweep = load_sweep(path)
    assert sweep.name == path.stem
    assert sweep.space["seed"] == (0, 1, 2)
    assert f"{len(plan(sweep).points)} trials" in path.read_text(encoding="utf-8")


def test_sweeps_are_shipped() -> None:
    assert {path.name for path in SWEEPS} >= {"algorithms.yaml", "client_count.yaml", "mfed_lambda_tau.yaml"}
