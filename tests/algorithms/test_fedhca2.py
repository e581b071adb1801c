"""FedHCA2's server half on numbers that can be checked by hand; its client half on a real model."""

import json
from collections.abc import Callable, Mapping
from math import log, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray

from mfed_ray.algorithms.fedhca2 import FedHCA2
from mfed_ray.errors import ConfigError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.models import make_initial
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.messages import ClientSpec, Params, State, Update
from mfed_ray.params import STATISTICS, is_output_head

MakeExperiment = Callable[..., Experiment]
A, B, C = "saliency", "human_parts", "surface_normals"


def no_probe(group: str, encoder: Params, images: int) -> NDArray[np.float32]:
    raise AssertionError(f"not asked for: {group} {len(encoder)} {images}")


def tree(values: Mapping[str, object]) -> Params:
    return {name: np.array(value, np.float32) for name, value in values.items()}


def client(name: str, *tasks: str) -> ClientSpec:
    return ClientSpec.of(name, tasks, "scenes", ("1",), ("2",))


def update(spec: ClientSpec, values: Mapping[str, object]) -> Update:
    return Update(spec.name, spec.group, spec.examples, tree(values))


def aggregate(algorithm: FedHCA2, state: State, *updates: Update) -> State:
    return algorithm.aggregate(state, updates, no_probe)[0]


PAIR = [client("a", A), client("b", B)]
START = {
    A: tree({"encoder.w": [1, 1], f"decoders.{A}.conv.weight": [[0, 0], [0, 0]]}),
    B: tree({"encoder.w": [1, 1], f"decoders.{B}.conv.weight": [[5, 5], [5, 5]]}),
}
X, Y = sqrt(2 * log(3)), sqrt(2 * log(2))
UPDATES = [
    update(PAIR[0], {"encoder.w": [7, 1], f"decoders.{A}.conv.weight": [[X, 0], [0, 0]]}),
    update(PAIR[1], {"encoder.w": [1, 9], f"decoders.{B}.conv.weight": [[5, 5 + Y], [5, 5]]}),
]


def test_round_by_hand() -> None:
    """Encoders: they moved by (6, 0) and (0, 8). c' = 0.4 * |(3, 4)| = 2; w* = (1, 0), as test_conflict_averse works
    out; U = ((3, 4) + 2 (1, 0)) / 1.16 = (5, 4) / 1.16, and each client takes a quarter of it.

    Decoders, d = 4: a moved by X in its first number, b by Y in its second. Scores <Delta_i, Delta_j> / 2 are log 3 of
    a with a, log 2 of b with b, 0 of a with b; so p_a = (3, 1) / 4 and p_b = (1, 2) / 3. Each takes half of that.
    """
    algorithm = FedHCA2(encoder_weight=0.25, decoder_weight=0.5)
    state = aggregate(algorithm, algorithm.init(PAIR, START), *UPDATES)
    u = np.array([5, 4]) / 1.16
    expected = {
        "encoder/a": [7 + u[0] / 4, 1 + u[1] / 4],
        "encoder/b": [1 + u[0] / 4, 9 + u[1] / 4],
        "decoder/a": [[X + X * 3 / 8, Y / 8], [0, 0]],
        "decoder/b": [[5 + X / 6, 5 + Y + Y / 3], [5, 5]],
    }
    for key, numbers in expected.items():
        (value,) = state.params[key].values()
        assert value.dtype.name == "float32"
        np.testing.assert_allclose(value, np.array(numbers), rtol=1e-6)
    assert state.params["encoder_step/a"] is state.params["encoder_step/b"]  # stored once
    load = algorithm.instruct(state, PAIR[1], 2).load
    assert load[0] is state.params["encoder/b"]
    assert load[1] is state.params["decoder/b"]


def test_weights_of_zero_give_back_the_very_values() -> None:
    algorithm = FedHCA2(encoder_weight=0, decoder_weight=0, hyper_learning_rate=0)
    state = algorithm.init(PAIR, START)
    generator = np.random.default_rng(0)
    for _ in range(3):
        updates = [
            Update(one.client, one.group, 1, tree({k: generator.normal(size=v.shape) for k, v in one.params.items()}))
            for one in UPDATES
        ]
        state = aggregate(algorithm, state, *updates)
        for one in updates:
            loaded = {**state.params[f"encoder/{one.client}"], **state.params[f"decoder/{one.client}"]}
            assert loaded.keys() == one.params.keys()
            assert all(loaded[name] is value for name, value in one.params.items())


def test_weights_learn_by_hand() -> None:
    """One client, c = 0.5: U = 1.5 / 1.25 Delta = 1.2 Delta, and A = Delta. Rate 0.1, momentum 0.5.

    Encoder: sent 0, returned 1: U = 1.2; with alpha = 0.25 it is sent 1.3. Returned 2.3: gradient
    (1.3 - 2.3) 1.2 = -1.2, alpha = 0.25 + 0.12 = 0.37, U = 1.2 again, sent 2.3 + 0.37 * 1.2 = 2.744. Returned 0.744:
    gradient 2 * 1.2 = 2.4, m = 0.5 (-1.2) + 2.4 = 1.8, alpha = 0.37 - 0.18 = 0.19.

    Decoder: weight and bias of one layer share a beta, 0.5 at first. Both sent 0, returned 2 and 1: sent 3 and 1.5.
    Returned 2 and 3.5: gradient (3 - 2) 2 + (1.5 - 3.5) 1 = 0: beta stays. A = (-1, 2), sent 1.5 and 4.5. Returned 3.5
    and 4.5: gradient (-2) (-1) = 2, beta = 0.5 - 0.2 = 0.3. The other layer never moves, nor does its beta.
    """
    spec = client("a", A)
    weight, bias, still = (f"decoders.{A}.{name}" for name in ("body.0.weight", "body.0.bias", "body.1.weight"))
    algorithm = FedHCA2(
        conflict_aversion=0.5, encoder_weight=0.25, decoder_weight=0.5, hyper_learning_rate=0.1, hyper_momentum=0.5
    )
    state = algorithm.init([spec], {A: tree({"encoder.w": [0], weight: [0], bias: [0], still: [7]})})
    seen, sent = [], []
    for returned in ((1, 2, 1), (2.3, 2, 3.5), (0.744, 3.5, 4.5)):
        moved = dict(zip(("encoder.w", weight, bias), ([value] for value in returned), strict=True))
        state = aggregate(algorithm, state, update(spec, {**moved, still: [7]}))
        seen.append(state.values["weights"]["a"])
        sent.append(
            [float(value[0]) for part in ("encoder", "decoder") for value in state.params[f"{part}/a"].values()]
        )
    layers = ["encoder", f"decoders.{A}.body.0", f"decoders.{A}.body.1"]
    assert [list(one) for one in seen] == [layers] * 3
    np.testing.assert_allclose(
        [list(one.values()) for one in seen], [[0.25, 0.5, 0.5], [0.37, 0.5, 0.5], [0.19, 0.3, 0.5]]
    )
    np.testing.assert_allclose(sent[:2], [[1.3, 3, 1.5, 7], [2.744, 1.5, 4.5, 7]], rtol=1e-6)
    assert json.loads(json.dumps(state.values)) == state.values


def test_weights_outside_of_the_unit_interval_are_clamped_and_have_no_gradient() -> None:
    """As above with rate 1: alpha = 0.25 + 1.2 = 1.45, all of U is taken: sent 2.3 + 1.2 = 3.5. Then the gradient is 0,
    m = 0.5 (-1.2) = -0.6 and alpha = 2.05, wherever the client went.
    """
    spec = client("a", A)
    algorithm = FedHCA2(conflict_aversion=0.5, encoder_weight=0.25, hyper_learning_rate=1, hyper_momentum=0.5)
    state = algorithm.init([spec], {A: tree({"encoder.w": [0]})})
    for returned in (1, 2.3):
        state = aggregate(algorithm, state, update(spec, {"encoder.w": [returned]}))
    assert state.params["encoder/a"]["encoder.w"] == pytest.approx([3.5])
    assert state.values["weights"]["a"]["encoder"] == pytest.approx(1.45)
    state = aggregate(algorithm, state, update(spec, {"encoder.w": [-4]}))
    assert state.values["weights"]["a"]["encoder"] == pytest.approx(2.05)


def steps(clients: list[ClientSpec], moves: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, list[float]]]:
    """A by client and parameter, of decoders that moved so from 0."""
    moved = {name: {"encoder.w": np.array([1], np.float32), **tree(values)} for name, values in moves.items()}
    initial = {one.group: {key: np.zeros_like(value) for key, value in moved[one.name].items()} for one in clients}
    algorithm = FedHCA2()
    state = aggregate(algorithm, algorithm.init(clients, initial), *(update(one, moved[one.name]) for one in clients))
    return {
        one.name: {key: value.tolist() for key, value in state.params[f"decoder_step/{one.name}"].items()}
        for one in clients
    }


def test_decoders_of_another_shape_attend_within_their_task() -> None:
    """d = 1: a0 and a1 moved by x and 0, so p_a0 = (e^(x x), 1) / (e^(x x) + 1) = (3, 1) / 4, p_a1 = (1, 1) / 2.

    b has a1's first layer, but another second one: alone, it attends to itself, A = Delta. Likewise c of other names.
    """
    x = sqrt(log(3))
    clients = [client("a0", A), client("a1", A), client("b", B), client("c", C)]
    moves: dict[str, dict[str, object]] = {
        "a0": {f"decoders.{A}.0.weight": [x], f"decoders.{A}.1.weight": [0, 0]},
        "a1": {f"decoders.{A}.0.weight": [0], f"decoders.{A}.1.weight": [0, 0]},
        "b": {f"decoders.{B}.0.weight": [4], f"decoders.{B}.1.weight": [0, 0, 0]},
        "c": {f"decoders.{C}.0.weight": [4], f"decoders.{C}.2.weight": [0, 0]},
    }
    found = steps(clients, moves)
    assert found["a0"][f"decoders.{A}.0.weight"] == pytest.approx([x * 3 / 4])
    assert found["a1"][f"decoders.{A}.0.weight"] == pytest.approx([x / 2])
    assert found["b"] == {f"decoders.{B}.0.weight": [4.0], f"decoders.{B}.1.weight": [0.0, 0.0, 0.0]}
    assert found["c"] == {f"decoders.{C}.0.weight": [4.0], f"decoders.{C}.2.weight": [0.0, 0.0]}


def test_each_decoder_of_a_client_takes_part() -> None:
    """d = 1, moves x, 0 and 0 of a client's two decoders and another's: p = (3, 1, 1) / 5 and (1, 1, 1) / 3."""
    x = sqrt(log(3))
    clients = [client("a", A, B), client("b", B)]
    found = steps(clients, {"a": {f"decoders.{A}.w": [x], f"decoders.{B}.w": [0]}, "b": {f"decoders.{B}.w": [0]}})
    assert found["a"] == {f"decoders.{A}.w": pytest.approx([x * 3 / 5]), f"decoders.{B}.w": pytest.approx([x / 3])}
    assert found["b"] == {f"decoders.{B}.w": pytest.approx([x / 3])}


def test_who_stays_away_keeps_everything_and_changes_nothing() -> None:
    algorithm, trio = FedHCA2(hyper_learning_rate=0.5), [*PAIR, client("c", B)]
    state = aggregate(
        algorithm,
        algorithm.init(trio, START),
        *UPDATES,
        Update("c", B, 1, {**UPDATES[1].params, **tree({"encoder.w": [2, 2]})}),
    )
    after = aggregate(algorithm, state, *UPDATES)
    for name in ("encoder/c", "decoder/c", "encoder_step/c", "decoder_step/c"):
        assert after.params[name] is state.params[name]
    for kind in ("weights", "momenta"):
        assert after.values[kind]["c"] == state.values[kind]["c"]
        assert after.values[kind]["a"] != state.values[kind]["a"]
    # the same round without c in the federation
    without = State({key: value for key, value in state.params.items() if not key.endswith("/c")}, state.values)
    alone = aggregate(algorithm, without, *UPDATES)
    for key, value in alone.params.items():
        assert all(np.array_equal(after.params[key][name], array) for name, array in value.items())
    # c's own weights wait for its return: they learn from what it was sent then
    back = aggregate(algorithm, after, Update("c", B, 1, UPDATES[1].params))
    assert back.values["weights"]["c"] != state.values["weights"]["c"]


def test_result_does_not_depend_on_who_comes_first() -> None:
    algorithm = FedHCA2(hyper_learning_rate=0.5)
    first, second = ([*UPDATES], UPDATES[::-1])
    states = []
    for updates in (first, second):
        state = aggregate(algorithm, algorithm.init(PAIR, START), *updates)
        states.append(aggregate(algorithm, state, *updates))
    for key, values in states[0].params.items():
        for name, value in values.items():
            np.testing.assert_allclose(states[1].params[key][name], value, rtol=1e-6, atol=1e-9)


def test_one_encoder_for_all() -> None:
    initial = {A: tree({"encoder.w": [1]}), B: tree({"encoder.w": [1, 2]})}
    with pytest.raises(ConfigError, match=r"fedhca2 shares one encoder among all clients, but encoder\.w is \(1,\) at"):
        FedHCA2().init(PAIR, initial)


def test_heads_and_statistics_never_travel(tiny: MakeExperiment) -> None:
    experiment = tiny(model={"normalisation": "average"}, local={"max_steps": 1})
    clients = sorted(make_clients(experiment), key=lambda one: one.name)
    algorithm, factory = FedHCA2(), TrainerFactory(experiment)
    server = algorithm.init(clients, make_initial(experiment, clients))
    states, updates = {}, []
    for one in clients:
        fit = algorithm.fit(factory(one), algorithm.instruct(server, one, 1), State())
        states[one.name] = fit.state
        updates.append(Update(one.name, one.group, one.examples, fit.params))
        everything, kept = factory(one).shared(), fit.state.params["model"]
        assert {*fit.params} | {*kept} == {*everything}
        stays = {name for name in everything if is_output_head(name) or name.endswith(STATISTICS)}
        assert {*kept} == stays
        assert any(name.endswith("classifier.weight") for name in stays)
        assert any(name.endswith("running_var") for name in stays)
    server = aggregate(algorithm, server, *updates)
    for one, sent in zip(clients, updates, strict=True):
        load = algorithm.instruct(server, one, 2).load
        assert {name for part in load for name in part} == {*sent.params}
        trainer = factory(one)
        trainer.start(states[one.name], *load)
        deployed = trainer.shared()
        assert all(np.array_equal(deployed[n], v) for n, v in states[one.name].params["model"].items())
        # bodies of one shape attend to each other: what is deployed is not what was sent
        bodies = [name for name in load[1] if name in deployed]
        assert bodies
        assert all(not np.array_equal(deployed[name], sent.params[name]) for name in bodies)
