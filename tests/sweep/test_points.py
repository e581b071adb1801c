"""Which points a sweep has, what they are called, and the experiments that they make."""

from collections.abc import Mapping
from typing import Any

import pytest

from mfed_ray.errors import ConfigError
from mfed_ray.seeds import generator
from mfed_ray.sweep import parse_sweep
from mfed_ray.sweep.planning import plan
from mfed_ray.sweep.points import Point, baselines, experiment_at, folder_name, label, planned
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
        (
            {"algorithm.proximal_weight": [0.5], "algorithm.name": ["fedprox", "fedavg"]},
            {},
            r"^trial proximal_weight=0.5 algorithm=fedavg: algorithm.proximal_weight: unknown key.* \(allowed: name, ",
        ),
        (
            {"algorithm": [{"name": "local"}], "algorithm.scope": ["all"]},
            {},
            r"^trial algorithm=local scope=all: algorithm.scope: unknown key \(allowed: name\)$",
        ),
        (
            {"data.scenes.images": [9], "data.scenes.format": ["coco"], "data.scenes.root": ["b"]},
            {},
            "^trial data.scenes.images=9 .*: data.scenes.images: unknown key .allowed: format, root.$",
        ),
        (
            {"algorithm": [{"name": "fedavg"}], "algorithm.name": ["fedprox"]},
            {},
            "^trial algorithm=fedavg algorithm=fedprox: algorithm.name: set to 'fedavg' and to 'fedprox'; ",
        ),
        (
            {"rounds": [3], "experiment": [{"name": "few", "rounds": 2}]},
            {},
            "^trial rounds=3 experiment=few: rounds: set to 3 and to 2; allowed: one of them$",
        ),
        (
            {"experiment": [{"name": "few", "rounds": 2}]},
            {"baselines": [{"algorithm": {"name": "local"}, "rounds": 3}]},
            "^trial algorithm=local rounds=3 experiment=few: rounds: set to 3 and to 2; allowed: one of them$",
        ),
        (
            {"experiment": [{"name": "few", "algorithm": {"name": "fedavg"}}]},
            {"baselines": [LOCAL]},
            "^trial algorithm=local experiment=few: algorithm.name: set to 'local' and to 'fedavg'; ",
        ),
        (
            {"rounds": [2, 3]},
            {"baselines": [LOCAL, {"algorithm": {"name": "local"}, "rounds": 3}]},
            "^baselines.1.rounds: set to 3 and to 2; allowed: one of them$",
        ),
        (
            {"clients": [[{"tasks": ["saliency"], "data": "scenes"}]], "clients.1.count": [2]},
            {},
            r"^trial clients=\[.*\] clients.1.count=2: clients.1: the list has 1 entries, 0 to 0$",
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
    with pytest.raises(ConfigError, match=r"^trial clients.7.count=1: clients.7: the list has 3 entries, 0 to 2$"):
        plan(tiny_sweep({"clients.7.count": [1]}))


def test_a_baseline_may_say_what_the_point_says(tiny_sweep: MakeSweep) -> None:
    found = plan(tiny_sweep({"rounds": [2]}, baselines=[{"algorithm": {"name": "local"}, "rounds": 2}]))
    assert [label(point) for point in found.points] == ["algorithm=local rounds=2", "rounds=2"]


def at(resolved: Any, key: str) -> Any:
    """What stands at a dotted key of a resolved experiment."""
    for part in key.split("."):
        resolved = resolved[int(part)] if isinstance(resolved, list) else resolved[part]
    return resolved


def holds(resolved: Any, value: Any) -> bool:
    """Whether the value stands there; of a mapping, each of its keys, and of a list each of its entries."""
    if isinstance(value, Mapping):
        return all(holds(at(resolved, key), inner) for key, inner in value.items())
    if isinstance(value, list):
        return len(resolved) == len(value) and all(map(holds, resolved, value))
    return bool(resolved == value)


def check_told(point: Point, resolved: Any) -> None:
    """Each of a point's values is what the experiment runs with."""
    for key, value in point.items():
        found = resolved if key == "experiment" else at(resolved, key)
        assert holds(found, value), f"{label(point)}: runs with {key}={found}"


BY_PARTS: dict[str, Any] = {
    "algorithm.proximal_weight": [0.7, 0.2],
    "algorithm.name": ["fedprox", "ditto"],
    "algorithm.server.learning_rate": [0.5],
    "algorithm.server.name": ["adam"],
    "data.scenes.images": [12],
    "data.scenes.root": ["drawn"],
    "data.scenes.format": ["generated"],
    "clients.1.count": [1, 2],
    "clients": [[{"tasks": ["saliency"], "data": "scenes"}, {"tasks": ["edge_detection"], "data": "scenes"}]],
    "clients.0.tasks.0": ["saliency"],
    "local": [{"epochs": 3}],
    "local.max_steps": [5],
}
BY_TREES: dict[str, Any] = {
    "experiment": [
        {"name": "few", "clients": {"0": {"count": 1}}, "algorithm": {"scope": "all"}},
        {"name": "many", "clients": {"0": {"count": 4}}, "data": {"scenes": {"format": "coco", "root": "b"}}},
    ],
    "algorithm": [{"name": "fedavg"}, {"name": "fedprox", "proximal_weight": 0.7}],
    "algorithm.weighting": ["uniform"],
    "clients.1.count": [3],
    "data.scenes": [{"root": "b"}],
    "seed": [0, 1],
}


@pytest.mark.parametrize("space", [BY_PARTS, BY_TREES])
def test_labels_tell_the_truth_in_any_order_of_the_space(tiny_sweep: MakeSweep, space: dict[str, Any]) -> None:
    keys, rng = list(space), generator(0, "orders")
    first: dict[str, Any] = {}
    for _ in range(36):
        sweep = tiny_sweep({keys[index]: space[keys[index]] for index in rng.permutation(len(keys))})
        found = {}
        for point in planned(sweep):
            resolved = found[folder_name(point)] = experiment_at(sweep, point).resolved()
            check_told(point, resolved)
        first = first or found
        assert found == first
    assert len(first) == 8


def test_labels_of_baselines_tell_the_truth(tiny_sweep: MakeSweep) -> None:
    """A hyper-parameter may stand before the name of its algorithm, and a point beside them set several keys."""
    space = {"experiment": [{"name": "few", "clients": {"0": {"count": 1}}}], "local": [{"epochs": 2}], "seed": [3]}
    prox = {"local": {"max_steps": 1}, "algorithm": {"proximal_weight": 0.7, "name": "fedprox"}}
    sweep = tiny_sweep(space, baselines=[LOCAL, prox])
    found = baselines(sweep)
    assert [label(point) for point in found] == [
        "algorithm=local experiment=few local={epochs:2} seed=3",
        "local.max_steps=1 proximal_weight=0.7 algorithm=fedprox experiment=few local={epochs:2} seed=3",
    ]
    for point in found:
        check_told(point, experiment_at(sweep, point).resolved())
