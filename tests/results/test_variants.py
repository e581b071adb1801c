from typing import Any

import pytest

from mfed_ray.results.variants import differing, flatten, variant_names

LOCAL = {"algorithm.name": "local"}


def config(**keys: Any) -> dict[str, Any]:
    return {"name": "tiny", "algorithm.name": "mfed", **keys}


def test_keys_are_dotted_and_entries_of_lists_numbered() -> None:
    tree = {
        "rounds": 3,
        "algorithm": {"name": "mfed", "correlation_matrix": {"a": {"b": 0.5}}},
        "clients": [{"tasks": ["saliency"], "count": 2}, {"tasks": ["edges", "parts"], "count": 1}],
        "augmentation": {"scale": [0.8, 1.25]},
        "local": {"loss_weights": {}, "max_steps": None},
    }
    assert flatten(tree) == {
        "rounds": 3,
        "algorithm.name": "mfed",
        "algorithm.correlation_matrix.a.b": 0.5,
        "clients.0.tasks": '["saliency"]',
        "clients.0.count": 2,
        "clients.1.tasks": '["edges", "parts"]',
        "clients.1.count": 1,
        "augmentation.scale": "[0.8, 1.25]",
        "local.max_steps": None,
    }


@pytest.mark.parametrize(
    ("configs", "expected"),
    [
        ([config(), config()], []),
        ([config(seed=0), config(seed=1, **{"runtime.backend": "ray"})], []),
        ([config(rounds=1), config(rounds=2)], ["rounds"]),
        ([config(b=1, a=1), config(b=2, a=2)], ["a", "b"]),
        ([config(a=1), config()], ["a"]),  # one algorithm, another setting
        ([config(a=1), config(**LOCAL)], []),  # another algorithm, another set of keys
        ([config(a=1), config(a=2, **{"algorithm.name": "fedprox"})], ["a"]),
        ([config(a=1), {}], []),  # a run without config
    ],
)
def test_which_keys_differ(configs: list[dict[str, Any]], expected: list[str]) -> None:
    assert differing(configs) == expected


def test_names_have_the_keys_in_which_runs_of_an_experiment_and_algorithm_differ() -> None:
    runs = [
        ("x", "mfed", config(seed=0, **{"algorithm.tau": 0.5, "algorithm.momentum": 0.0, "model.encoder": "resnet18"})),
        ("x", "mfed", config(seed=1, **{"algorithm.tau": "judged", "algorithm.momentum": 0.0, "model.encoder": None})),
        ("x", "local", config(**LOCAL, **{"model.encoder": "resnet18"})),
        ("y", "mfed", config(**{"algorithm.tau": 0.25})),
    ]
    assert variant_names(runs) == [
        "mfed model.encoder=resnet18 tau=0.5",
        "mfed model.encoder=null tau=judged",
        "local",
        "mfed",
    ]


def test_all_digits_of_a_value_are_told() -> None:
    runs = [
        ("x", "mfed", config(a=value, b=flag)) for value, flag in ((0.1234567, True), (0.1234568, False), (1e-05, True))
    ]
    assert variant_names(runs) == ["mfed a=0.1234567 b=true", "mfed a=0.1234568 b=false", "mfed a=1e-05 b=true"]


def test_a_key_that_a_run_lacks_is_not_in_its_name() -> None:
    assert variant_names([("x", "mfed", config()), ("x", "mfed", config(fpn="auto"))]) == ["mfed", "mfed fpn=auto"]
