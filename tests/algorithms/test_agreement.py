"""The evidence for fusing, and the rule: by hand, and against the truth under noise of known strength."""

from collections.abc import Sequence

import numpy as np
import pytest

from mfed_ray.algorithms.agreement import Evidence, Gram, displacements, measure, partners, within
from mfed_ray.messages import Params, Update
from mfed_ray.params import weighted_mean


def tree(values: Sequence[float]) -> Params:
    return {"encoder.w": np.array(values, np.float32)}


def updates(group: str, *moves: Sequence[float], examples: int = 1) -> list[Update]:
    return [Update(f"{group}-{k}", group, examples, tree(move)) for k, move in enumerate(moves)]


def evidence(groups: dict[str, list[Update]]) -> tuple[Gram, Evidence]:
    starts = dict.fromkeys(groups, tree([0.0] * len(next(iter(groups.values()))[0].params["encoder.w"])))
    means = {
        group: weighted_mean([one.params for one in members], [one.examples for one in members])
        for group, members in groups.items()
    }
    gram = displacements(means, starts)
    return gram, measure(gram, groups, starts)


def test_evidence_by_hand() -> None:
    # from the origin: the mean of a's clients is (2, 0, 0), of b's (1, 0, 1)
    groups = {"a": updates("a", [2, 2, 0], [2, -2, 0]), "b": updates("b", [0, 0, 1], [2, 0, 1])}
    gram, found = evidence(groups)
    assert [gram["a", r, s] for r, s in ("aa", "bb", "ab")] == [4, 2, 2]
    # between: <(2,0,0), (1,0,1)> / (2 sqrt 2) = 1 / sqrt 2
    assert found["b", "a"] == found["a", "b"] == pytest.approx(1 / np.sqrt(2))
    # within a: (4 - (8 + 8) / 4) / (4 (1 - 1/2)) = 0, the product of its two clients, <(2,2,0), (2,-2,0)>;
    # within b: (2 - (1 + 5) / 4) / (2 (1 - 1/2)) = 1/2, and indeed <(0,0,1), (2,0,1)> = 1 = 1/2 of 2;
    # as the cosine of two clients: 1/2 = 2 rho / (1 + rho), rho = 1/3; the mean of 0 and 1/3: 1/6
    assert found["a", "a"] == found["b", "b"] == pytest.approx(1 / 6)


def test_displacements_start_from_the_group_that_would_move() -> None:
    """Groups that went apart: what counts is where s is seen from t's start, not what s did in the round."""
    means, starts = {"a": tree([1, 0]), "b": tree([0, 5])}, {"a": tree([0, 0]), "b": tree([0, 4])}
    gram = displacements(means, starts)
    assert gram["a", "a", "b"] == 0  # (1, 0) . (0, 5)
    assert gram["a", "b", "b"] == 25
    assert gram["b", "a", "a"] == 17  # (1, 0) - (0, 4) = (1, -4)
    assert gram["b", "a", "b"] == -4  # (1, -4) . (0, 1)


def test_agreement_within_grows_with_the_number_of_clients() -> None:
    # 1 / (1 + (1/rho - 1) / m): rho = 0.2: one client 0.2; two 0.4 / 1.2; four 0.8 / 1.6; 1 and 3 images: m = 1.6
    assert within(updates("a", [0]), 0.2) == pytest.approx(0.2)
    assert within(updates("a", [0], [0]), 0.2) == pytest.approx(1 / 3)
    assert within(updates("a", [0], [0], [0], [0]), 0.2) == pytest.approx(0.5)
    uneven = [*updates("a", [0], examples=1), *updates("a", [0], examples=3)]
    assert within(uneven, 0.2) == pytest.approx(0.32 / 1.12)
    assert within(updates("a", [0], [0]), -0.2) == 0.0


def orthogonal(groups: str) -> Gram:
    return {("t", r, s): 1.0 if r == s else 0.0 for r in groups for s in groups}


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


def test_no_group_of_two_leaves_the_diagonal_open() -> None:
    _, found = evidence({"a": updates("a", [1, 0]), "b": updates("b", [0, 1])})
    assert set(found) == {("a", "b"), ("b", "a")}


def test_statistics_do_not_count() -> None:
    moved = {"encoder.w": np.ones(2, np.float32), "encoder.bn.running_var": np.full(2, 1e6, np.float32)}
    start = {name: np.zeros(2, np.float32) for name in moved}
    assert displacements({"a": moved}, {"a": start})["a", "a", "a"] == 2.0


def test_evidence_tells_tasks_that_agree_from_tasks_that_do_not_under_heavy_noise() -> None:
    """Two tasks with one direction, a third with another; each client's noise is eight times as long as its signal.

    Unbiased: over 200 rounds the agreement between the two equals that within, and that with the third is zero. Two
    clients of a task have the cosine |g|^2 / (|g|^2 + |e|^2) = 1 / 65, means of two 1 / (1 + 64 / 2) = 1 / 33.
    """
    rng = np.random.default_rng(0)
    size, directions = 4000, np.zeros((3, 4000))
    directions[0, 0] = directions[1, 0] = directions[2, 1] = 1.0
    total: dict[tuple[str, str], list[float]] = {}
    for _ in range(200):
        groups = {
            group: updates(group, *(directions[i] + 8 / np.sqrt(size) * rng.standard_normal((2, size))))
            for i, group in enumerate("abc")
        }
        for pair, value in evidence(groups)[1].items():
            total.setdefault(pair, []).append(value)
    mean = {pair: float(np.mean(values)) for pair, values in total.items()}
    assert mean["a", "a"] == pytest.approx(1 / 65, abs=0.001)
    assert within(groups["a"], mean["a", "a"]) == pytest.approx(1 / 33, abs=0.002)
    assert mean["a", "b"] == pytest.approx(1 / 33, abs=0.003)
    assert mean["a", "c"] == pytest.approx(0.0, abs=0.003)
