"""The evidence for fusing, and the rule: by hand, and against the truth under noise of known strength."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from mfed_ray.algorithms.agreement import Clients, View, agreed, measure, partners, squared_lengths, view, within
from mfed_ray.averages import weighted_mean
from mfed_ray.messages import Params


def tree(values: Sequence[float]) -> Params:
    return {"encoder.w": np.array(values, np.float32)}


Encoders = Sequence[tuple[float, Params]]
"""Clients' weights and encoders."""


def clients(*moves: Sequence[float], weights: Sequence[float] = (1, 1)) -> Encoders:
    return [(weight, tree(move)) for weight, move in zip(weights, moves, strict=False)]


def told(members: Encoders, start: Params) -> Clients:
    """What the server gets of each client beside the mean."""
    return [(weight, squared_lengths(encoder, start)) for weight, encoder in members]


def views(groups: Mapping[str, Encoders]) -> dict[str, View]:
    """All from the origin."""
    means = {
        group: weighted_mean([encoder for _, encoder in members], [weight for weight, _ in members])
        for group, members in groups.items()
    }
    origins = {group: {name: np.zeros_like(value) for name, value in mean.items()} for group, mean in means.items()}
    return {group: view(means, origins[group], told(members, origins[group])) for group, members in groups.items()}


def test_evidence_by_hand() -> None:
    # from the origin: the mean of a's clients is (2, 0, 0), of b's (1, 0, 1)
    seen = views({"a": clients([2, 2, 0], [2, -2, 0]), "b": clients([0, 0, 1], [2, 0, 1])})
    assert seen["a"].gram == {("a", "a"): 4, ("b", "b"): 2, ("a", "b"): 2, ("b", "a"): 2}
    assert (seen["a"].noise, seen["a"].clients) == ((8 + 8) / 4, 2)
    found, rho = measure(seen)
    # between: <(2,0,0), (1,0,1)> / (2 sqrt 2) = 1 / sqrt 2
    assert found == {("a", "b"): pytest.approx(1 / np.sqrt(2)), ("b", "a"): pytest.approx(1 / np.sqrt(2))}
    # within a: (4 - (8 + 8) / 4) / (4 (1 - 1/2)) = 0, the product of its two clients, <(2,2,0), (2,-2,0)>;
    # within b: (2 - (1 + 5) / 4) / (2 (1 - 1/2)) = 1/2, and indeed <(0,0,1), (2,0,1)> = 1 = 1/2 of 2;
    # as the cosine of two clients: 1/2 = 2 rho / (1 + rho), rho = 1/3; the mean of 0 and 1/3: 1/6
    assert rho == pytest.approx(1 / 6)


def test_displacements_start_from_the_group_that_would_move() -> None:
    """Groups that went apart: what counts is where s is seen from t's start, not what s did in the round."""
    means = {"a": tree([1, 0]), "b": tree([0, 5])}
    from_a, from_b = (
        view(means, start, told(clients(end), start)) for start, end in ((tree([0, 0]), [1, 0]), (tree([0, 4]), [0, 5]))
    )
    assert from_a.gram == {("a", "a"): 1, ("a", "b"): 0, ("b", "a"): 0, ("b", "b"): 25}
    assert from_b.gram["a", "a"] == 17  # (1, 0) - (0, 4) = (1, -4)
    assert from_b.gram["a", "b"] == -4  # (1, -4) . (0, 1)


def test_clients_count_with_their_weights_in_the_mean() -> None:
    # (3 (1, 0) + 1 (1, 4)) / 4 = (1, 1); noise 9/16 * 1 + 1/16 * 17 = 26/16; m = 1 / (10/16) = 1.6
    one = views({"a": clients([1, 0], [1, 4], weights=(3, 1))})["a"]
    assert (one.gram["a", "a"], one.noise, one.clients) == (2, 26 / 16, 1.6)


def test_agreement_within_grows_with_the_number_of_clients() -> None:
    # 1 / (1 + (1/rho - 1) / m): rho = 0.2: 0.2 / 1; 0.4 / 1.2; 0.8 / 1.6; 0.32 / 1.12
    assert [within(m, 0.2) for m in (1, 2, 4, 1.6)] == pytest.approx([0.2, 1 / 3, 0.5, 0.32 / 1.12])
    assert within(2, -0.2) == 0.0


def orthogonal(groups: str) -> dict[tuple[str, str], float]:
    return {(r, s): 1.0 if r == s else 0.0 for r in groups for s in groups}


@pytest.mark.parametrize(("between", "joined"), [(0.40, ("t",)), (0.42, ("s", "t"))])
def test_the_threshold_for_two_equal_groups(between: float, joined: tuple[str, ...]) -> None:
    """Orthogonal updates of length 1, agreement w within and b between: ahead if (w + b) / sqrt(2) > w."""
    towards = {"s": between * 0.01, "t": 0.01}
    assert partners("t", orthogonal("st"), towards, {"s": 1.0, "t": 1.0}) == joined


def test_the_best_group_joins_first_and_one_that_only_dilutes_does_not() -> None:
    towards = {"a": 0.1, "b": 0.02, "c": -0.1, "t": 0.1}
    # alone 0.1; with a 0.2 / sqrt 2 = 0.141; with a and b 0.22 / sqrt 3 = 0.127; with b alone 0.12 / sqrt 2 = 0.085
    assert partners("t", orthogonal("abct"), towards, dict.fromkeys("abct", 1.0)) == ("a", "t")
    del towards["a"]  # has no block in common with t
    assert partners("t", orthogonal("abct"), towards, dict.fromkeys("abct", 1.0)) == ("t",)


def test_without_agreement_within_tasks_nothing_is_fused() -> None:
    assert partners("t", orthogonal("st"), {"s": 0.5, "t": 0.0}, {"s": 1.0, "t": 1.0}) == ("t",)


def test_no_group_of_two_leaves_rho_open() -> None:
    found, rho = measure(views({"a": clients([1, 0]), "b": clients([0, 1])}))
    assert set(found) == {("a", "b"), ("b", "a")}
    assert rho is None


def test_statistics_do_not_count() -> None:
    moved = {"encoder.w": np.ones(2, np.float32), "encoder.bn.running_var": np.full(2, 1e6, np.float32)}
    start = {name: np.zeros(2, np.float32) for name in moved}
    one = view({"a": moved}, start, told([(1.0, moved)], start))
    assert (one.gram["a", "a"], one.noise) == (2.0, 2.0)


def noisy(rng: np.random.Generator, direction: int, size: int, own: int = 0) -> Encoders:
    """Two clients that agree on one unit, with noise eight times as long; ``own`` numbers are of no other group."""
    signal = np.zeros(size)
    signal[direction] = 1.0
    moves = signal + 8 / np.sqrt(size) * rng.standard_normal((2, size))
    extra = 8 / np.sqrt(size) * rng.standard_normal((2, own))
    return [
        (1.0, {**tree(move.tolist()), f"encoder.layer.{direction}.w": np.array(more, np.float32)})
        for move, more in zip(moves, extra, strict=True)
    ]


@pytest.mark.parametrize("own", [0, 4000])
def test_evidence_tells_tasks_that_agree_from_tasks_that_do_not_under_heavy_noise(own: int) -> None:
    """Two tasks with one direction, a third with another; as well where encoders have as much that is not shared.

    Unbiased: over 200 rounds the agreement between the two equals that within, and that with the third is zero. Two
    clients of a task have the cosine |g|^2 / (|g|^2 + |e|^2) = 1 / 65, means of two 1 / (1 + 64 / 2) = 1 / 33.
    """
    rng = np.random.default_rng(0)
    rhos, ab, ac = [], [], []
    for _ in range(200):
        seen = views({"a": noisy(rng, 0, 1000, own), "b": noisy(rng, 0, 1000), "c": noisy(rng, 1, 1000, own)})
        found, rho = measure(seen)
        assert rho is not None
        rhos.append(rho)
        ab.append(found["b", "a"])
        ac.append(found["c", "a"])
    assert np.mean(rhos) == pytest.approx(1 / 65, abs=0.002)
    assert np.mean(ab) == pytest.approx(within(2, 1 / 65), abs=0.006)
    assert np.mean(ac) == pytest.approx(0.0, abs=0.006)
    weights = dict.fromkeys("abc", 1.0)
    mean = {pair: float(np.mean(ab if "c" not in pair else ac)) for pair in found}
    chosen = {t: set(row) for t, row in agreed(seen, mean, float(np.mean(rhos)), weights).items()}
    assert chosen == {"a": {"a", "b"}, "b": {"a", "b"}, "c": {"c"}}
