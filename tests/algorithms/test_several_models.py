"""Clients of one task with several models: what they have in common is averaged, by hand and in messages."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mfed_ray.algorithms import Algorithm
from mfed_ray.algorithms.centralised import Centralised
from mfed_ray.algorithms.ditto import Ditto
from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.algorithms.fedhca2 import FedHCA2
from mfed_ray.algorithms.fedper import FedPer
from mfed_ray.algorithms.fedprox import FedProx
from mfed_ray.algorithms.fedrep import FedRep
from mfed_ray.algorithms.fusion import check_in_common, common_names, fuse_within_tasks, in_common
from mfed_ray.algorithms.mfed import MFed
from mfed_ray.errors import ConfigError
from mfed_ray.messages import ClientSpec, Params, State, Update, group_name, tasks_of

SHARED, OWN = "encoder.layer1.0.w", "encoder.layer1.1.w"
"""Blocks of encoders: all have the one, `a@big` and b the other."""
TRUNK, CLASSIFIER = "decoders.a.trunk.0.w", "decoders.a.classifier.w"
"""Blocks of the decoder of a: `a@big` has a wider trunk."""


def params(**values: Any) -> Params:
    return {name: np.array(value, np.float32, ndmin=1) for name, value in values.items()}


def spec(name: str, task: str, examples: int, model: str = "") -> ClientSpec:
    return ClientSpec.of(name, (task,), "d", tuple(map(str, range(examples))), model=model)


CLIENTS = [spec("a0", "a", 1), spec("a1", "a", 3, "big"), spec("b0", "b", 12)]
SENT: Mapping[str, Params] = {
    "a0": params(**{SHARED: 2, TRUNK: 5, CLASSIFIER: 4}),
    "a1": params(**{SHARED: 6, OWN: 10, TRUNK: [1, 2], CLASSIFIER: 8}),
    "b0": params(**{SHARED: 17, OWN: 3, "decoders.b.w": 9}),
}
INITIAL = {one.group: {name: value * 0 for name, value in SENT[one.name].items()} for one in CLIENTS}
UPDATES = [Update(one.name, one.group, one.examples, SENT[one.name]) for one in CLIENTS]
WITHIN = {
    # shared by a0 and a1: (1 * 2 + 3 * 6) / 4 = 5, and the classifiers (1 * 4 + 3 * 8) / 4 = 7
    "encoder/a": {SHARED: [5]},
    "encoder/a@big": {SHARED: [5], OWN: [10]},
    "encoder/b": {SHARED: [17], OWN: [3]},
    "decoder/a": {TRUNK: [5], CLASSIFIER: [7]},
    "decoder/a@big": {TRUNK: [1, 2], CLASSIFIER: [7]},
    "decoder/b": {"decoders.b.w": [9]},
}


def no_probe(group: str, encoder: Params, images: int) -> NDArray[np.float32]:
    raise AssertionError(f"not asked for: {group} {len(encoder)} {images}")


def aggregated(algorithm: Algorithm, updates: list[Update] = UPDATES) -> dict[str, dict[str, list[float]]]:
    state, _ = algorithm.aggregate(algorithm.init(CLIENTS, INITIAL), updates, no_probe)
    return {tree: {name: value.tolist() for name, value in found.items()} for tree, found in state.params.items()}


def test_groups_are_named_by_tasks_and_model() -> None:
    assert [one.group for one in CLIENTS] == ["a", "a@big", "b"]
    assert group_name(("a", "b"), "big") == "a+b@big"
    assert tasks_of("a+b@big") == tasks_of("a+b") == "a+b"


@pytest.mark.parametrize("algorithm", [FedAvg(), FedProx(), Ditto(), MFed(correlation_threshold=2)])
def test_what_clients_of_a_task_have_in_common_is_averaged(algorithm: Algorithm) -> None:
    """Whatever the threshold."""
    assert aggregated(algorithm) == WITHIN


@pytest.mark.parametrize("algorithm", [FedPer(scope="task"), FedRep(scope="task")])
def test_where_decoders_stay_encoders_alone_are_averaged(algorithm: Algorithm) -> None:
    assert aggregated(algorithm) == {name: tree for name, tree in WITHIN.items() if name.startswith("encoder/")}


def test_one_encoder_for_all_beside_decoders_of_several_widths() -> None:
    """Scope `all`: (1 * 2 + 3 * 6 + 12 * 17) / 16 = 14; decoders as within tasks."""
    small = {name: {key: v for key, v in tree.items() if key != OWN} for name, tree in SENT.items()}
    initial = {one.group: small[one.name] for one in CLIENTS}
    algorithm = FedAvg(scope="all")
    updates = [Update(one.name, one.group, one.examples, small[one.name]) for one in CLIENTS]
    state, _ = algorithm.aggregate(algorithm.init(CLIENTS, initial), updates, no_probe)
    assert all(state.params[f"encoder/{one.group}"][SHARED].tolist() == [14] for one in CLIENTS)
    assert state.params["decoder/a"][CLASSIFIER].tolist() == [7]
    assert state.params["decoder/a@big"][TRUNK].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("settings", "shared_a", "shared_b", "own", "classifier"),
    [
        # a's clients have 1/4 and 3/4 of its weight 1: (2/4 + 18/4 + 17) / 2 = 11 = (5 + 17) / 2
        # a@big alone has a's other block, with 3/4: (3/4 * 10 + 3) / (7/4) = 6
        ({}, 11, 11, 6, 7),
        # 4 of 16 examples, and 3 of 15: (20 + 12 * 17) / 16, (3 * 10 + 12 * 3) / 15
        ({"fusion_weights": "examples"}, 14, 14, 66 / 15, 7),
        # clients of a task alike: (4 + 17) / 2, (1/2 * 10 + 3) / (3/2), (4 + 8) / 2
        ({"weighting": "uniform"}, 10.5, 10.5, 8 / 1.5, 6),
        # (5 + 17/2) / 1.5 for a, (17 + 5/2) / 1.5 for b; `own`: (3/4 * 10 + 3/2) / (3/4 + 1/2)
        (
            {"fusion": "soft", "correlation": "matrix", "correlation_matrix": {"a": {"b": 0.5}}},
            9,
            13,
            7.2,
            7,
        ),
    ],
)
def test_across_tasks_a_task_has_one_voice(
    settings: dict[str, Any], shared_a: float, shared_b: float, own: float, classifier: float
) -> None:
    found = aggregated(MFed.model_validate(settings))
    assert found["encoder/a"] == {SHARED: [shared_a]}
    assert found["encoder/a@big"] == {SHARED: [shared_a], OWN: [pytest.approx(own)]}
    assert found["encoder/b"][SHARED] == [shared_b]
    assert found["decoder/a"] == {TRUNK: [5], CLASSIFIER: [classifier]}
    assert found["decoder/a@big"] == {TRUNK: [1, 2], CLASSIFIER: [classifier]}
    assert found["decoder/b"] == WITHIN["decoder/b"]


def test_a_matrix_is_of_tasks() -> None:
    algorithm = MFed(correlation="matrix", correlation_matrix={"a": {"b": 0.25}}, correlation_threshold=0.5)
    _, diagnostics = algorithm.aggregate(algorithm.init(CLIENTS, INITIAL), UPDATES, no_probe)
    assert diagnostics.correlations["a@big", "b"] == diagnostics.correlations["b", "a"] == 0.25
    assert diagnostics.correlations["a@big", "a"] == 1.0
    assert diagnostics.fused == {("a", "a"), ("a", "a@big"), ("a@big", "a"), ("a@big", "a@big"), ("b", "b")}
    with pytest.raises(ConfigError, match=r"correlation_matrix: a@big is no task group here; groups: a, b$"):
        MFed(correlation="matrix", correlation_matrix={"a@big": {"b": 1}}).init(CLIENTS, INITIAL)


def test_groups_without_a_client_in_the_round_stand_still() -> None:
    found = aggregated(FedAvg(), UPDATES[1:])
    assert found["encoder/a"] == {SHARED: [0]}
    assert found["encoder/a@big"] == {SHARED: [6], OWN: [10]}


@pytest.mark.parametrize("algorithm", [FedAvg(), MFed(correlation_threshold=2)])
def test_models_that_are_alike_in_all_blocks_are_one_group_bit_for_bit(algorithm: Algorithm) -> None:
    rng = np.random.default_rng(0)
    names = (SHARED, TRUNK, CLASSIFIER)
    sent = [{name: rng.standard_normal(5).astype(np.float32) for name in names} for _ in range(2)]

    def mean(*clients: ClientSpec) -> State:
        updates = [Update(one.name, one.group, one.examples, tree) for one, tree in zip(clients, sent, strict=True)]
        initial = {one.group: sent[0] for one in clients}
        return algorithm.aggregate(algorithm.init(clients, initial), updates, no_probe)[0]

    together, apart = mean(spec("a0", "a", 1), spec("a1", "a", 3)), mean(spec("a0", "a", 1), spec("a1", "a", 3, "x"))
    for part in ("encoder", "decoder"):
        assert apart.params[f"{part}/a"] is apart.params[f"{part}/a@x"]
        for name, value in together.params[f"{part}/a"].items():
            assert np.array_equal(value, apart.params[f"{part}/a"][name])


def test_a_group_alone_with_its_tasks_keeps_its_tree() -> None:
    models = {"a": params(**{SHARED: 1}), "b": params(**{SHARED: 2})}
    fused = fuse_within_tasks(models, {"a": 1.0, "b": 1.0})
    assert all(fused[group] is tree for group, tree in models.items())


def test_a_decoders_normalisation_goes_with_its_convolution() -> None:
    """A sequence of layers is one block; so are the layers that have no number."""
    wide = params(**{"decoders.a.trunk.c2.0.weight": [1, 2], "decoders.a.trunk.c2.1.bias": 1, CLASSIFIER: 1})
    narrow = params(**{"decoders.a.trunk.c2.0.weight": 1, "decoders.a.trunk.c2.1.bias": 1, CLASSIFIER: 1})
    assert common_names(wide, narrow) == {CLASSIFIER}
    other = {**narrow, **params(**{"decoders.b.classifier.w": 1})}
    assert common_names(narrow, other) == set(narrow)


def test_what_groups_have_in_common_is_told() -> None:
    """Of a 2 of 3 numbers, the shared block and the classifier; of a@big 2 of 5."""
    assert in_common(INITIAL) == ["a and a@big have 66.7% and 40.0% of their parameters in common"]
    assert in_common({name: INITIAL[name] for name in ("a", "b")}) == []


def test_nothing_in_common_is_refused() -> None:
    models = {"a": params(**{SHARED: 1}), "a@big": params(**{SHARED: [1, 2]}), "b": params(**{SHARED: 1})}
    message = (
        r"^clients: a and a@big have the same tasks, but no block alike that could be averaged: encoder\.layer1\.0\.w "
        r"is \(1,\) at a and \(2,\) at a@big; give them encoders of one family"
    )
    for check in (lambda: check_in_common(models), lambda: FedAvg().init([], models), lambda: MFed().init([], models)):
        with pytest.raises(ConfigError, match=message):
            check()
    with_classifiers = {group: {**model, **params(**{CLASSIFIER: 1})} for group, model in models.items()}
    FedAvg().init([], with_classifiers)
    with pytest.raises(ConfigError, match=message):  # which stay where they are
        FedPer(scope="task").init([], with_classifiers)


@pytest.mark.parametrize(
    ("algorithm", "found"),
    [
        (Centralised(), "algorithm.name: centralised"),
        (Centralised(scope="task"), "algorithm.name: centralised"),
        (FedHCA2(), "algorithm.name: fedhca2"),
        (MFed(correlation_threshold="judged"), "algorithm.correlation_threshold: judged"),
        (MFed(fusion="sum"), "algorithm.fusion: sum"),
    ],
)
def test_several_models_of_a_task_are_refused_where_they_cannot_be_mixed(algorithm: Algorithm, found: str) -> None:
    message = rf"^{found} found, but the clients of a have several models \(a, a@big\); give them one encoder and one "
    with pytest.raises(ConfigError, match=message):
        algorithm.init(CLIENTS, INITIAL)
