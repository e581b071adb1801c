"""MaT-FL's grouping on numbers worked by hand; its client half on a real trainer."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from mfed_ray.algorithms.matfl import MaTFL
from mfed_ray.errors import ConfigError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.models import make_initial
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.messages import ClientSpec, Params, State, Update
from mfed_ray.params import decoders_of, encoder_of, nbytes

MakeExperiment = Callable[..., Experiment]
VARIANCE = "encoder.bn.running_var"


def no_probe(group: str, encoder: Params, images: int) -> NDArray[np.float32]:
    raise AssertionError(f"not asked for: {group} {len(encoder)} {images}")


def encoder(values: Sequence[float], variance: float = 1.0) -> Params:
    return {"encoder.w": np.array(values, np.float32), VARIANCE: np.array([variance], np.float32)}


def start(algorithm: MaTFL, names: str = "abcd") -> State:
    clients = [ClientSpec.of(name, (name,), "scenes", ("1",), ("2",)) for name in names]
    initial = {name: {**encoder([9, 9]), f"decoders.{name}.w": np.zeros(1, np.float32)} for name in names}
    return algorithm.init(clients, initial)


def mixed(algorithm: MaTFL, encoders: dict[str, Params]) -> dict[str, Params]:
    """Every client's encoder after a round of the clients in ``encoders``; examples must not matter."""
    updates = [Update(name, name, 1 + 5 * n, params) for n, (name, params) in enumerate(encoders.items())]
    state, diagnostics = algorithm.aggregate(start(algorithm), updates, no_probe)
    assert (diagnostics.correlations, diagnostics.fused) == ({}, frozenset())
    return dict(state.params)


def values(trees: dict[str, Params], name: str = "encoder.w") -> dict[str, list[float]]:
    """By client, rounded to what float32 is sure of."""
    return {client: [round(float(value), 5) for value in tree[name]] for client, tree in trees.items()}


THREE = {"a": encoder([4, 1]), "b": encoder([4, 3]), "c": encoder([1, 2])}
# Mean (3, 2). Deltas: a (1, -1), b (1, 1), c (-2, 0).
# Cosines: ab 0, ac -2 / (sqrt 2 * 2) = -1/sqrt 2, bc -1/sqrt 2.


def test_hard_groups_by_hand() -> None:
    found = mixed(MaTFL(), THREE)
    # two clusters: {a, b}, whose distance 1 - 0 is the least, and {c}; the mean of a and b is (4, 2)
    assert values(found) == {"a": [4, 2], "b": [4, 2], "c": [1, 2], "d": [9, 9]}
    assert found["a"] is found["b"]


@pytest.mark.parametrize(("groups", "expected"), [(1, [[3, 2]] * 3), (3, [[4, 1], [4, 3], [1, 2]])])
def test_number_of_groups(groups: int, expected: list[list[float]]) -> None:
    found = mixed(MaTFL(groups=groups), THREE)
    assert [values(found)[name] for name in "abc"] == expected
    assert values(mixed(MaTFL(groups=7), THREE)) == values(mixed(MaTFL(groups=3), THREE))


def test_average_linkage_cut_at_a_cosine() -> None:
    """{a, b} merge at cosine 0, then with c at the mean of -1/sqrt 2 and -1/sqrt 2."""

    def clusters(threshold: float) -> int:
        return len({id(tree) for name, tree in mixed(cut(threshold), THREE).items() if name != "d"})

    def cut(threshold: float) -> MaTFL:
        return MaTFL(groups=None, cosine_threshold=threshold)

    assert [clusters(threshold) for threshold in (0.01, -0.01, -0.70, -0.71)] == [3, 2, 2, 1]


def test_average_is_not_single_or_complete_linkage() -> None:
    """d joins {a, b} or not by its mean cosine with them."""
    # Mean of the four is (0, 0), so deltas are the encoders: angles 0, 60, 120 degrees, and one that balances them.
    # Unit vectors at 0, 60, 120 degrees sum to (1, sqrt 3), which d = -(1, sqrt 3) at 240 degrees cancels.
    # cosines: ab = bc = 1/2, ac = -1/2, da = -1/2, db = -1, dc = -1/2.
    # {a, b} merge at 1/2 (first of the two ties); c joins at the mean of -1/2 and 1/2: 0 (single: 1/2, complete: -1/2)
    root = 3**0.5
    four: dict[str, list[float]] = {"a": [1, 0], "b": [0.5, root / 2], "c": [-0.5, root / 2], "d": [-1, -root]}
    trees = {name: encoder(both) for name, both in four.items()}

    def together(threshold: float) -> int:
        found = mixed(MaTFL(groups=None, cosine_threshold=threshold), trees)
        return len({id(found[name]) for name in "abc"})

    assert [together(threshold) for threshold in (0.6, 0.4, 0.1, -0.1)] == [3, 2, 2, 1]


def test_soft_groups_by_hand() -> None:
    # S = max(C, 0) with 1 on the diagonal and nothing else above 0: each keeps its own
    assert values(mixed(MaTFL(grouping="soft"), THREE)) == {"a": [4, 1], "b": [4, 3], "c": [1, 2], "d": [9, 9]}
    # th = 1/2: rows (3/2, 1/2, 0), (1/2, 3/2, 0), (0, 0, 3/2), for -1/sqrt 2 + 1/2 < 0: a <- 3/4 (4, 1) + 1/4 (4, 3)
    found = mixed(MaTFL(grouping="soft", shift=0.5), THREE)
    assert values(found) == {"a": [4, 1.5], "b": [4, 2.5], "c": [1, 2], "d": [9, 9]}


def test_statistics_are_mixed_alike_but_do_not_count() -> None:
    wild = {"a": encoder([4, 1], 1000), "b": encoder([4, 3], 3000), "c": encoder([1, 2], 1000)}
    assert values(mixed(MaTFL(), wild)) == values(mixed(MaTFL(), THREE))
    assert values(mixed(MaTFL(), wild), VARIANCE) == {"a": [2000], "b": [2000], "c": [1000], "d": [1]}
    soft = mixed(MaTFL(grouping="soft", shift=0.5), wild)
    assert values(soft, VARIANCE) == {"a": [1500], "b": [2500], "c": [1000], "d": [1]}


ALL = [
    MaTFL(),
    MaTFL(groups=None, cosine_threshold=0.5),
    MaTFL(grouping="soft"),
    MaTFL(grouping="soft", shift=-0.5),
    MaTFL(grouping="soft", shift=1.0),
]


@pytest.mark.parametrize("algorithm", ALL, ids=str)
def test_equal_encoders_stay_as_they_are(algorithm: MaTFL) -> None:
    """Zero deltas have cosine 0 with each other; whatever the groups, a mean of equals is the same, to the bit."""
    equal = {name: encoder([0.1, -0.7]) for name in "abc"}
    found = mixed(algorithm, equal)
    assert all(np.array_equal(found[name]["encoder.w"], equal["a"]["encoder.w"]) for name in "abc")


@pytest.mark.parametrize("algorithm", ALL, ids=str)
def test_one_client_keeps_its_own_and_the_others_theirs(algorithm: MaTFL) -> None:
    alone = encoder([0.1, -0.7])
    state = start(algorithm)
    after, _ = algorithm.aggregate(state, [Update("b", "b", 3, alone)], no_probe)
    assert np.array_equal(after.params["b"]["encoder.w"], alone["encoder.w"])
    assert after.params["a"] is after.params["d"] is state.params["a"]


def test_different_encoders_are_refused() -> None:
    clients = [ClientSpec.of(name, (name,), "scenes", ("1",), ("2",)) for name in "ab"]
    with pytest.raises(ConfigError, match="matfl shares one encoder among all clients"):
        MaTFL().init(clients, {"a": encoder([0, 0]), "b": encoder([0, 0, 0])})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cosine_threshold": 0.1}, r"needs either groups \(2\) or cosine_threshold \(0\.1\); set one of them"),
        ({"groups": None}, r"needs either groups \(None\) or cosine_threshold \(None\); set one of them"),
        ({"grouping": "soft", "cosine_threshold": 0.1}, "cosine_threshold: 0.1 goes with grouping: hard"),
        ({"groups": None, "cosine_threshold": 1.1}, "less than or equal to 1"),
        ({"grouping": "soft", "shift": -1}, "greater than -1"),
        ({"groups": 0}, "greater than or equal to 1"),
    ],
)
def test_wrong_fields(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MaTFL.model_validate(fields)


def test_bytes_and_what_is_loaded_sent_and_kept(tiny: MakeExperiment) -> None:
    """|E| up, |E| down; the client starts from the server's encoder and its own decoder, and keeps the decoder."""
    torch.set_num_threads(1)
    experiment = tiny(local={"max_steps": 1, "optimizer": "sgd", "learning_rate": 1e-30, "weight_decay": 0.0})
    clients = make_clients(experiment)
    trainer = TrainerFactory(experiment)(clients[0])
    initial = MaTFL().init(clients, make_initial(experiment, clients))
    ones = {name: np.ones_like(value) for name, value in initial.params[clients[0].name].items()}
    told = MaTFL().instruct(State({**initial.params, clients[0].name: ones}), clients[0], 1)
    trainer.start(State())
    decoder = {name: np.full_like(value, 0.5) for name, value in decoders_of(trainer.shared()).items()}
    fit = MaTFL().fit(trainer, told, State({"model": decoder}))
    # steps of 1e-30 move nothing: what comes back is what was loaded
    assert {float(value.min()) for value in fit.params.values()} == {1.0}
    kept = fit.state.params["model"]
    assert list(kept) == list(decoder)
    assert all(np.array_equal(kept[name], value) for name, value in decoder.items())
    size = nbytes([encoder_of(trainer.shared())])
    assert nbytes([fit.params]) == nbytes([*told.load, *told.anchor]) == size > 0
