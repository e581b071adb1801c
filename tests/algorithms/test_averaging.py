"""What the server does with models, on numbers that can be checked by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from mfed_ray.algorithms.averaging import (
    encoder_means,
    group_means,
    initial_encoders,
    initial_models,
    mean_of,
    model_means,
    model_of,
)
from mfed_ray.algorithms.server_optimizer import ServerOptimizer
from mfed_ray.errors import ConfigError
from mfed_ray.federation import checkpoint
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.messages import ClientSpec, Params, State, Update

SEG, PARTS = "semantic_segmentation", "human_parts"
MOVING = [
    ServerOptimizer(name="momentum"),
    ServerOptimizer(name="adam", learning_rate=0.1),
    ServerOptimizer(name="yogi", learning_rate=0.1),
]


def tree(**values: float) -> Params:
    return {name: np.array([value], np.float32) for name, value in values.items()}


def numbers(params: Params) -> dict[str, float]:
    return {name: float(value[0]) for name, value in params.items()}


def update(name: str, task: str, examples: int, encoder: float, decoder: float) -> Update:
    return Update(name, task, examples, tree(**{"encoder.w": encoder, f"decoders.{task}.w": decoder}))


UPDATES = [update("p0", PARTS, 4, 7, 3), update("s0", SEG, 1, 1, 2), update("s1", SEG, 3, 5, 10)]
INITIAL = {task: tree(**{"encoder.w": 0, f"decoders.{task}.w": 0}) for task in (SEG, PARTS)}


@pytest.mark.parametrize(
    ("settings", "targets", "expected"),
    [
        # m1 = 2, x1 = 1 + 0.5 * 2 = 2;  Delta = 4 - 2, m2 = 0.5 * 2 + 2 = 3, x2 = 2 + 0.5 * 3
        pytest.param(
            {"name": "momentum", "learning_rate": 0.5, "beta1": 0.5},
            [3, 4],
            [{"x": 2, "first/x": 2}, {"x": 3.5, "first/x": 3}],
            id="momentum",
        ),
        # v0 = tau^2 = 1.  Delta = 7: m1 = 3.5, v1 = 0.5 * 1 + 0.5 * 49 = 25, x1 = 1 + 6 * 3.5 / (5 + 1) = 4.5
        # Delta = 39.5 - 4.5 = 35: m2 = 1.75 + 17.5, v2 = 12.5 + 612.5 = 625, x2 = 4.5 + 6 * 19.25 / (25 + 1)
        pytest.param(
            {"name": "adam", "learning_rate": 6, "beta1": 0.5, "beta2": 0.5, "adaptivity": 1},
            [8, 39.5],
            [
                {"x": 4.5, "first/x": 3.5, "second/x": 25},
                {"x": 4.5 + 115.5 / 26, "first/x": 19.25, "second/x": 625},
            ],
            id="adam",
        ),
        # v0 = 1.  Delta = 4: m1 = 2, v1 = 1 + 0.5 * 16 = 9 (v0 < Delta^2), x1 = 1 + 2 * 2 / (3 + 1) = 2
        # Delta = 2: m2 = 1 + 1, v2 = 9 - 0.5 * 4 = 7 (v1 > Delta^2), x2 = 2 + 2 * 2 / (sqrt(7) + 1)
        pytest.param(
            {"name": "yogi", "learning_rate": 2, "beta1": 0.5, "beta2": 0.5, "adaptivity": 1},
            [5, 4],
            [{"x": 2, "first/x": 2, "second/x": 9}, {"x": 2 + 4 / (7**0.5 + 1), "first/x": 2, "second/x": 7}],
            id="yogi",
        ),
    ],
)
def test_two_steps_by_hand(settings: dict[str, Any], targets: list[float], expected: list[dict[str, float]]) -> None:
    optimizer, state = ServerOptimizer.model_validate(settings), State({"x": tree(w=1)})
    for target, trees in zip(targets, expected, strict=True):
        state = State(optimizer.step(state, {"x": tree(w=target)}))
        assert {name: float(params["w"][0]) for name, params in state.params.items()} == pytest.approx(trees)
        assert all(params["w"].dtype == np.float32 for params in state.params.values())


def test_the_encoder_alone_by_hand() -> None:
    """The encoder goes 1 + 0.5 (3 - 1) = 2, then 2 + 0.5 (0.5 * 2 + 4 - 2) = 3.5; the decoder's means are taken."""
    optimizer = ServerOptimizer(name="momentum", learning_rate=0.5, beta1=0.5, part="encoder")
    state = State({"x": tree(**{"encoder.w": 1, "decoders.w": 1})})
    for target, encoder in ((3, 2), (4, 3.5)):
        state = State(optimizer.step(state, {"x": tree(**{"encoder.w": target, "decoders.w": target})}))
        assert numbers(state.params["x"]) == {"encoder.w": encoder, "decoders.w": target}
        assert list(state.params["first/x"]) == ["encoder.w"]


def test_average_takes_the_trees_themselves() -> None:
    kept, target = tree(w=1), tree(w=3)
    after = ServerOptimizer().step(State({"x": tree(w=2), "y": kept}), {"x": target})
    assert after["x"] is target
    assert after["y"] is kept


@pytest.mark.parametrize("optimizer", MOVING, ids=lambda optimizer: optimizer.name)
class TestMoving:
    def test_statistics_are_taken_as_they_are(self, optimizer: ServerOptimizer) -> None:
        names = ("encoder.bn.weight", "encoder.bn.running_mean", "encoder.bn.running_var")
        state = State({"x": tree(**dict.fromkeys(names, 1.0))})
        for value in (5.0, 6.0):
            state = State(optimizer.step(state, {"x": tree(**dict.fromkeys(names, value))}))
            found = numbers(state.params["x"])
            assert list(found) == list(names)
            assert found["encoder.bn.running_mean"] == found["encoder.bn.running_var"] == value
        assert list(state.params["first/x"]) == ["encoder.bn.weight"]

    def test_names_of_one_tree_share_the_result(self, optimizer: ServerOptimizer) -> None:
        one, other = tree(w=1), tree(w=1)
        state = State({"a": one, "b": one, "c": other})
        for value in (2.0, 5.0):
            target = tree(w=value)
            state = State(optimizer.step(state, {"a": target, "b": target, "c": tree(w=value)}))
            for prefix in ("", "first/"):
                a, b, c = (state.params[f"{prefix}{name}"] for name in "abc")
                assert a is b
                assert a is not c
                assert a == c

    def test_one_target_for_different_trees_gives_different_steps(self, optimizer: ServerOptimizer) -> None:
        target = tree(w=3)
        after = optimizer.step(State({"a": tree(w=1), "b": tree(w=2)}), {"a": target, "b": target})
        assert numbers(after["first/a"]) != numbers(after["first/b"])

    def test_who_takes_no_part_keeps_model_and_moments(self, optimizer: ServerOptimizer) -> None:
        state = State({"a": tree(w=1), "b": tree(w=1)})
        state = State(optimizer.step(state, {"a": tree(w=2), "b": tree(w=3)}))
        after = optimizer.step(state, {"a": tree(w=4)})
        assert after.keys() == state.params.keys()
        assert all((after[name] is before) == name.endswith("b") for name, before in state.params.items())

    def test_moments_survive_a_checkpoint(self, optimizer: ServerOptimizer, tmp_path: Path) -> None:
        one, target = tree(w=1), tree(w=2)
        state = State(optimizer.step(State({"a": one, "b": one}), {"a": target, "b": target}))
        checkpoint.save(tmp_path, Checkpoint(1, state, {}))
        loaded = checkpoint.load_latest(tmp_path)
        assert loaded is not None
        assert loaded.server.params.keys() == state.params.keys()
        target = tree(w=5)
        after, again = (optimizer.step(s, {"a": target, "b": target}) for s in (state, loaded.server))
        assert after == again
        assert again["a"] is again["b"]
        fresh = optimizer.step(State({"a": state.params["a"]}), {"a": target})
        assert numbers(fresh["a"]) != numbers(after["a"])  # without its moments the step would be another


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learning_rate": 0.1}, "average has no learning_rate; leave it out, or choose another optimizer"),
        ({"part": "encoder"}, "average has no part; leave it out"),
        ({"name": "momentum", "beta2": 0.9}, "momentum has no beta2; leave it out"),
        ({"name": "momentum", "adaptivity": 0.1}, "momentum has no adaptivity; leave it out"),
        ({"name": "adam", "adaptivity": 0}, "greater than 0"),
        ({"name": "adam", "beta1": 1}, "less than 1"),
        ({"name": "adagrad"}, "Input should be 'average', 'momentum', 'adam' or 'yogi'"),
    ],
)
def test_wrong_fields(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ServerOptimizer.model_validate(fields)


@pytest.mark.parametrize("optimizer", [ServerOptimizer(), *MOVING], ids=lambda optimizer: optimizer.name)
def test_fields_round_trip(optimizer: ServerOptimizer) -> None:
    assert ServerOptimizer.model_validate(optimizer.model_dump()) == optimizer


@pytest.mark.parametrize("name", ["adam", "yogi"])
def test_default_steps_are_of_the_length_of_what_clients_learn(name: Any) -> None:
    """Means that move by 0.01 every round, as those of the texture boards do in their first rounds.

    The first step is 0.01 m / (sqrt(v) + tau), m = 0.001, v = tau^2 + 0.01 (0.01^2 - tau^2) = 1.99e-6: 0.00415.
    Yogi's v is 2e-6.
    """
    optimizer = ServerOptimizer(name=name)
    assert optimizer.model_dump()["learning_rate"] == 0.01
    state, moves = State({"x": tree(w=0)}), list[float]()
    for _ in range(20):
        x = float(state.params["x"]["w"][0])
        state = State(optimizer.step(state, {"x": tree(w=x + 0.01)}))
        moves.append(float(state.params["x"]["w"][0]) - x)
    assert moves[0] == pytest.approx(0.00415, rel=2e-3)
    assert 0.4 < min(moves) / 0.01 < max(moves) / 0.01 < 2
    assert ServerOptimizer.model_validate({"name": name, "learning_rate": 1.0}).learning_rate == 1.0


def test_means_by_hand() -> None:
    # by examples: encoder (1 * 1 + 3 * 5) / 4 = 4, decoder (1 * 2 + 3 * 10) / 4 = 8; alike: 3 and 6
    segmentation = UPDATES[1:]
    assert numbers(mean_of(segmentation, "examples")) == {"encoder.w": 4, f"decoders.{SEG}.w": 8}
    assert numbers(mean_of(segmentation, "uniform")) == {"encoder.w": 3, f"decoders.{SEG}.w": 6}


def test_means_within_groups() -> None:
    state = State(initial_models("x", INITIAL, "task"))
    means = {name: numbers(params) for name, params in model_means(state, UPDATES, "examples", "task").items()}
    assert means == {
        f"encoder/{PARTS}": {"encoder.w": 7},
        f"encoder/{SEG}": {"encoder.w": 4},
        f"decoder/{PARTS}": {f"decoders.{PARTS}.w": 3},
        f"decoder/{SEG}": {f"decoders.{SEG}.w": 8},
    }


@pytest.mark.parametrize(
    # (4 * 7 + 1 * 1 + 3 * 5) / 8 = 5.5;  (7 + 1 + 5) / 3
    ("weighting", "encoder", "decoder"),
    [("examples", 5.5, 8), ("uniform", 13 / 3, 6)],
)
def test_means_over_all(weighting: Any, encoder: float, decoder: float) -> None:
    state = State(initial_models("x", INITIAL, "all"))
    means = model_means(state, UPDATES, weighting, "all")
    assert means[f"encoder/{SEG}"] is means[f"encoder/{PARTS}"]
    assert numbers(means[f"encoder/{SEG}"]) == {"encoder.w": pytest.approx(encoder)}
    assert numbers(means[f"decoder/{SEG}"]) == {f"decoders.{SEG}.w": decoder}
    assert numbers(means[f"decoder/{PARTS}"]) == {f"decoders.{PARTS}.w": 3}


def test_one_encoder_for_all_moves_for_absent_groups_too() -> None:
    """In a round without clients of a group its decoders stand still; an encoder of all must not fall behind there."""
    state = State(initial_models("x", INITIAL, "all"))
    means = model_means(state, UPDATES[1:], "examples", "all")
    assert set(means) == {f"encoder/{SEG}", f"encoder/{PARTS}", f"decoder/{SEG}"}
    assert numbers(means[f"encoder/{PARTS}"]) == {"encoder.w": 4}
    apart = encoder_means(State(initial_encoders("x", INITIAL, "task")), UPDATES[1:], "examples", "task")
    assert set(apart) == {f"encoder/{SEG}"}


@pytest.mark.parametrize("optimizer", [ServerOptimizer(), *MOVING], ids=lambda optimizer: optimizer.name)
def test_one_encoder_for_all_stays_one(optimizer: ServerOptimizer) -> None:
    state = State(initial_models("x", INITIAL, "all"))
    for updates in (UPDATES, UPDATES[1:], UPDATES[:1]):
        state = State(optimizer.step(state, model_means(state, updates, "examples", "all")))
        assert state.params[f"encoder/{SEG}"] is state.params[f"encoder/{PARTS}"]


def test_no_updates_change_nothing() -> None:
    state = State(initial_models("x", INITIAL, "all"))
    assert model_means(state, [], "examples", "all") == {}


def test_models_before_the_first_round() -> None:
    together, apart = (State(initial_models("x", INITIAL, scope)) for scope in ("all", "task"))
    assert together.params.keys() == apart.params.keys()
    assert together.params[f"encoder/{SEG}"] is together.params[f"encoder/{PARTS}"]
    client = ClientSpec.of("s0", (SEG,), "d", ("1",), ())
    encoder, decoder = model_of(apart, client)
    assert ([*encoder], [*decoder]) == (["encoder.w"], [f"decoders.{SEG}.w"])


def test_encoders_that_differ_cannot_be_averaged_over_all() -> None:
    initial = {**INITIAL, PARTS: {"encoder.w": np.zeros(2, np.float32)}}
    message = (
        r"algorithm.name: fedper with scope: all shares one encoder among all clients, but encoder.w is \(1,\) at "
        r"semantic_segmentation and \(2,\) at human_parts"
    )
    with pytest.raises(ConfigError, match=message):
        initial_encoders("fedper", initial, "all")
    assert initial_encoders("fedper", initial, "task")[f"encoder/{PARTS}"]["encoder.w"].shape == (2,)


def test_group_means_by_hand() -> None:
    means = group_means(UPDATES, "examples")
    assert numbers(means[SEG]) == {"encoder.w": 4, f"decoders.{SEG}.w": 8}
    assert numbers(means[PARTS]) == {"encoder.w": 7, f"decoders.{PARTS}.w": 3}
