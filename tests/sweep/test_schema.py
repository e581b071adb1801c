"""A sweep's file: what is read, and what is refused."""

import datetime as dt
from itertools import permutations
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
    dotted = parse_sweep({**TREE, "space": {"algorithm.correlation_threshold": [0, "judged"], "seed": [1]}})
    nested = parse_sweep({**TREE, "space": {"algorithm": {"correlation_threshold": [0, "judged"]}, "seed": [1]}})
    assert dotted == nested
    assert dotted.space == {"algorithm.correlation_threshold": (0, "judged"), "seed": (1,)}


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
            {"space": {"experiment": {"choice": [3]}}, "search": {"method": "random", "samples": 1}},
            "^space: experiment: expected a list of mappings of an experiment's keys, each with a name, found 3$",
        ),
        (
            {"space": {"algorithm.name": ["fedavg"], "algorithm": {"name": ["local"]}}},
            r"^space.algorithm.name: set to \['fedavg'\] and to \['local'\]; allowed: one of them$",
        ),
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
        (
            {"scheduler": {"grace_rounds": 2}},
            "^scheduler.grace_rounds: 2 found, but scheduler fifo takes none; leave it out, or name asha, median$",
        ),
        (
            {"scheduler": {"name": "median", "reduction_factor": 2}, "objective": "saliency"},
            "^scheduler.reduction_factor: 2.0 found, but scheduler median takes none; leave it out, or name asha$",
        ),
        (
            {"scheduler": {"name": "asha", "min_trials": 2}, "objective": "saliency"},
            "^scheduler.min_trials: 2 found, but scheduler asha takes none; leave it out, or name median$",
        ),
        (
            {"search": {"method": "random", "samples": 2}},
            "^search.method: random found, but the space has lists only, nothing to draw; use grid$",
        ),
        ({"search": {"seed": 1}}, "^search.seed: 1 found, but method grid draws nothing; leave it out, or choose "),
        ({"search": {"sed": 1}}, r"^search.sed: unknown key; did you mean 'seed'\? \(allowed: method, samples, seed"),
        ({"scheduler": {"grace": 1}}, "^scheduler.grace: unknown key; did you mean 'grace_rounds'"),
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


def test_a_sweep_that_was_written_with_its_defaults_is_read_again() -> None:
    """Among them are keys of other schedulers and searches."""
    for change in ({}, {"scheduler": {"name": "median", "grace_rounds": 2}, "objective": "saliency"}):
        sweep = parse_sweep({**TREE, **change})
        assert parse_sweep(sweep.resolved()) == sweep


def written(tiny_file: Path, tmp_path: Path, **keys: Any) -> Path:
    path = tmp_path / "sweep.yaml"
    tree = {**TREE, "experiment": {"base": str(tiny_file), "name": "own", "rounds": 5}, **keys}
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def test_the_name_of_a_sweeps_experiment_is_no_kind(tiny_file: Path, tmp_path: Path) -> None:
    path = written(tiny_file, tmp_path)
    expected = load_sweep(path).experiment
    assert load_sweep(path, ["experiment.name=other"]).experiment == {**expected, "name": "other"}
    below = tmp_path / "below.yaml"
    below.write_text("base: sweep.yaml\nexperiment: {name: other}\n", encoding="utf-8")
    assert load_sweep(below).experiment == {**expected, "name": "other"}


def test_overrides_lie_over_the_sweeps_experiment_and_that_over_its_base(tiny_file: Path, tmp_path: Path) -> None:
    """The base names the algorithm that both change."""
    path = written(tiny_file, tmp_path, experiment={"algorithm": {"decoder_proximal_weight": 0.1}})
    overrides = [
        "experiment.algorithm.name=mfed",
        "experiment.algorithm.correlation_threshold=0.5",
        f"experiment.base={tiny_file}",
    ]
    for order in permutations(overrides):
        assert load_sweep(path, order).experiment["algorithm"] == {
            "name": "mfed",
            "decoder_proximal_weight": 0.1,
            "correlation_threshold": 0.5,
        }
    absent = written(tiny_file, tmp_path, experiment={"base": str(tiny_file), "clients": {9: {"count": 1}}})
    with pytest.raises(ConfigError, match=r"^experiment.clients.9: the list has 3 entries, 0 to 2$"):
        load_sweep(absent)
    empty = written(tiny_file, tmp_path, experiment=None)
    assert load_sweep(empty, overrides).experiment["rounds"] == 2


@pytest.mark.parametrize(
    "space",
    [
        {"algorithm.name": ["fedavg"], "algorithm.proximal_weight": [0.1], "seed": [0]},
        {"algorithm": {"name": ["fedavg"], "proximal_weight": [0.1]}, "seed": [0]},
    ],
)
def test_overrides_of_a_space_find_dotted_and_nested_keys(
    tiny_file: Path, tmp_path: Path, space: dict[str, Any]
) -> None:
    path = written(tiny_file, tmp_path, space=space)
    overrides = ["space.algorithm.name=[fedprox, ditto]", "space.seed.0=7", "space.rounds=[1]"]
    for order in permutations(overrides):
        assert load_sweep(path, order).space == {
            "algorithm.name": ("fedprox", "ditto"),
            "algorithm.proximal_weight": (0.1,),
            "seed": (7,),
            "rounds": (1,),
        }
    by_mapping = load_sweep(path, ["space={algorithm.name: [local], algorithm: {proximal_weight: [0.3]}}"]).space
    assert by_mapping == {"algorithm.name": ("local",), "algorithm.proximal_weight": (0.3,), "seed": (0,)}
    with pytest.raises(ConfigError, match=r"^space.algorithm.name: set to \['a'\] and to \['b'\]; allowed: one of th"):
        load_sweep(path, ["space.algorithm.name=[a]", "space={algorithm.name: [b]}"])


def test_an_entry_of_a_spaces_list_is_named_by_its_number(tiny_file: Path, tmp_path: Path) -> None:
    path = written(tiny_file, tmp_path, space={"algorithm": [{"name": "local"}, {"name": "fedprox"}]})
    sweep = load_sweep(path, ["space.algorithm.1.proximal_weight=0.7"])
    assert sweep.space == {"algorithm": ({"name": "local"}, {"name": "fedprox", "proximal_weight": 0.7})}
    assert load_sweep(path, ["space.algorithm.name=[mfed]"]).space == {"algorithm.name": ("mfed",)}
    with pytest.raises(ConfigError, match=r"^space.algorithm.2: the list has 2 entries, 0 to 1$"):
        load_sweep(path, ["space.algorithm.2.name=mfed"])


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_shipped_sweeps_say_how_to_run_them_and_are_right(path: Path) -> None:
    assert f"#   mfed sweep sweeps/{path.name}" in path.read_text(encoding="utf-8")
    sweep = load_sweep(path)
    assert sweep.name == path.stem
    assert sweep.space["seed"] == tuple(range(10 if path.stem == "mfed_lambda_tau" else 3))
    assert f"{len(plan(sweep).points)} trials" in path.read_text(encoding="utf-8")


def test_sweeps_are_shipped() -> None:
    assert {path.name for path in SWEEPS} >= {"algorithms.yaml", "client_count.yaml", "mfed_lambda_tau.yaml"}
