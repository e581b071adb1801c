"""Which points a sweep has, what they are called, and the experiments that they make."""

from typing import Any

import pytest

from mfed_ray.errors import ConfigError
from mfed_ray.sweep import parse_sweep
from mfed_ray.sweep.planning import plan
from mfed_ray.sweep.points import baselines, experiment_at, folder_name, label, planned
from tests.sweep.conftest import MakeSweep

LOCAL = {"algorithm": {"name": "local"}}


def sweep_of(space: dict[str, Any], **keys: Any) -> Any:
    return parse_sweep({"name": "s", "experiment": {}, "space": space, **keys})


def test_a_grid_is_every_combination_in_the_order_of_the_file() -> None:
    points = planned(sweep_of({"a": [1, 2], "seed": [0, 1]}))
    assert points == [{"a": 1, "seed": 0}, {"a": 1, "seed": 1}, {"a": 2, "seed": 0}, {"a": 2, "seed": 1}]


def test_a_value_that_stands_twice_is_one_point() -> None:
    assert planned(sweep_of({"a": [1, 1]})) == [{"a": 1}]


def test_random_draws_cross_with_lists_and_more_samples_keep_the_first() -> None:
    space = {"x": {"uniform": [0, 1]}, "seed": [0, 1]}
    two = planned(sweep_of(space, search={"method": "random", "samples": 2}))
    three = planned(sweep_of(space, search={"method": "random", "samples": 3}))
    other = planned(sweep_of(space, search={"method": "random", "samples": 2, "seed": 1}))
    assert [point["seed"] for point in two] == [0, 1, 0, 1]
    assert two[0]["x"] == two[1]["x"] != two[2]["x"]
    assert three[:4] == two
    assert not {point["x"] for point in two} & {point["x"] for point in other}


@pytest.mark.parametrize(
    ("distribution", "low", "high"),
    [({"uniform": [2, 3]}, 2, 3), ({"log_uniform": [1e-4, 1e-2]}, 1e-4, 1e-2), ({"integers": [1, 3]}, 1, 3)],
)
def test_draws_stay_within_their_ends(distribution: dict[str, Any], low: float, high: float) -> None:
    points = planned(sweep_of({"x": distribution}, search={"method": "random", "samples": 200}))
    drawn = [point["x"] for point in points]
    assert low <= min(drawn) < max(drawn) <= high
    if "integers" in distribution:
        assert set(drawn) == {1, 2, 3}
    if "log_uniform" in distribution:  # half of them below the geometric mean: binomial(200, 0.5), five sigma
        assert 65 <= sum(value < 1e-3 for value in drawn) <= 135


def test_a_baseline_runs_once_for_each_setting_outside_of_the_algorithm() -> None:
    space = {"algorithm.correlation_threshold": [0, 1], "model.encoder": ["a", "b"], "seed": [0, 1]}
    found = baselines(sweep_of(space, baselines=[LOCAL, {"algorithm": {"name": "fedprox", "proximal_weight": 0.1}}]))
    assert found[:4] == [
        {"algorithm.name": "local", "model.encoder": encoder, "seed": seed} for encoder in "ab" for seed in (0, 1)
    ]
    assert found[4] == {
        "algorithm.name": "fedprox",
        "algorithm.proximal_weight": 0.1,
        "model.encoder": "a",
        "seed": 0,
    }
    assert len(found) == 8


def test_baselines_of_optuna_need_settings_that_are_known_before() -> None:
    keys = {"baselines": [LOCAL], "search": {"method": "optuna", "samples": 2}, "objective": "delta_m"}
    found = baselines(sweep_of({"algorithm.step": {"uniform": [0, 1]}, "seed": {"choice": [3, 4]}}, **keys))
    assert found == [{"algorithm.name": "local", "seed": 3}, {"algorithm.name": "local", "seed": 4}]
    with pytest.raises(ConfigError, match=r"^space.local.learning_rate: a baseline runs once for each of its values"):
        baselines(sweep_of({"local.learning_rate": {"uniform": [0, 1]}}, **keys))


@pytest.mark.parametrize(
    ("point", "told"),
    [
        ({"algorithm.decoder_proximal_weight": 0.01, "seed": 0}, "decoder_proximal_weight=0.01 seed=0"),
        ({"algorithm.name": "local", "model.encoder": "resnet18"}, "algorithm=local model.encoder=resnet18"),
        ({"algorithm": {"name": "fedprox", "proximal_weight": 0.1}}, "algorithm=fedprox{proximal_weight:0.1}"),
        ({"experiment": {"name": "few", "rounds": 3}, "seed": 1}, "experiment=few seed=1"),
        ({}, "as it stands"),
    ],
)
def test_labels(point: dict[str, Any], told: str) -> None:
    assert label(point) == told


def test_folder_names_are_safe_distinct_and_do_not_depend_on_the_order_of_keys() -> None:
    a, b = {"algorithm.name": "my.module:Mine", "x": [1, 2]}, {"x": [1, 2], "algorithm.name": "my.module:Mine"}
    assert folder_name(a).startswith("algorithm=my.module_Mine_x=_1_2_-")
    assert folder_name(a) == folder_name(b)
    assert folder_name({"x": "a b"}) != folder_name({"x": "a_b"})
    assert len(folder_name({"x": "y" * 500})) < 120


def test_a_point_is_the_experiment_with_its_values(tiny_sweep: MakeSweep) -> None:
    sweep = tiny_sweep({"seed": [5], "algorithm.name": ["mfed"], "algorithm.correlation_threshold": [0.5]})
    (experiment,) = plan(sweep).experiments.values()
    assert (experiment.seed, experiment.algorithm_name) == (5, "mfed")
    assert experiment.resolved()["algorithm"]["correlation_threshold"] == 0.5
    counted = experiment_at(sweep, {"experiment": {"name": "few", "clients": {"0": {"count": 1}}}})
    assert (counted.name, counted.clients[0].count, counted.clients[1].count) == ("few", 1, 1)


@pytest.mark.parametrize(
    ("space", "keys", "message"),
    [
        ({"rounds": [0]}, {}, "^trial rounds=0: rounds: input should be greater than or equal to 1, found 0$"),
        ({"algorithm.step": [1]}, {}, "^trial step=1: algorithm.step: unknown key"),
        ({"model.encodr": ["resnet10"]}, {}, "^trial model.encodr=resnet10: model.encodr: unknown key; did you mean"),
        (
            {"seed": [0]},
            {"objective": "human_parts", "scheduler": {"name": "asha"}},
            "^objective: human_parts found, but no client of trial seed=0 has this task; allowed: delta_m, saliency, ",
        ),
        (
            {"seed": [0]},
            {"objective": "saliency", "scheduler": {"name": "asha", "grace_rounds": 3}},
            "^scheduler.grace_rounds: 3 found, but trial seed=0 has 1 rounds$",
        ),
        (
            {"local.learning_rate": {"uniform": [-1, 1]}},
            {"objective": "saliency", "search": {"method": "optuna", "samples": 2}},
            "^trial local.learning_rate=-1.0: local.learning_rate: input should be greater than 0, found -1.0$",
        ),
        ({"rounds": [2, 2.0]}, {}, r"^trial rounds=2.0: would be the same run as rounds=2; leave one of them out$"),
        (
            {"runtime.max_actors": [1, 2]},
            {},
            r"^trial runtime.max_actors=2: would be the same run as runtime.max_actors=1",
        ),
        (
            {"seed": {"choice": [0, 1]}, "rounds": {"choice": [1, 2]}},
            {"objective": "saliency", "search": {"method": "optuna", "samples": 5}},
            "^search.samples: 5 found, but the space has 4 points; use method grid$",
        ),
    ],
)
def test_every_trial_is_checked_before_anything_starts(
    tiny_sweep: MakeSweep, space: dict[str, Any], keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(tiny_sweep(space, **keys))


def test_a_point_that_is_a_baseline_is_left_to_it(tiny_sweep: MakeSweep) -> None:
    space = {"algorithm": [{"name": "local"}, {"name": "fedavg"}], "seed": [0, 1]}
    found = plan(tiny_sweep(space, baselines=[LOCAL]))
    assert [label(point) for point in found.first] == ["algorithm=local seed=0", "algorithm=local seed=1"]
    assert [label(point) for point in found.then] == ["algorithm=fedavg seed=0", "algorithm=fedavg seed=1"]
    assert len(found.experiments) == 4


def test_a_list_entry_that_is_not_there_is_named(tiny_sweep: MakeSweep) -> None:
    with pytest.raises(ConfigError, match=r"^trial clients.7.count=1: "):
        plan(tiny_sweep({"clients.7.count": [1]}))
