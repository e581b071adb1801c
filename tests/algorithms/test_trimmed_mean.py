"""Medians and trimmed means on numbers that can be checked by hand; a client that sends garbage."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from mfed_ray.algorithms.averaging import Weighting, client_weight, mean_of
from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.algorithms.mfed import MFed
from mfed_ray.algorithms.trimmed_mean import Trimmed, trimmed_mean
from mfed_ray.averages import weighted_mean
from mfed_ray.errors import ConfigError
from mfed_ray.experiment.parsing import parse_experiment
from mfed_ray.messages import ClientSpec, Params, Update
from tests.algorithms.toy_federation import no_probe


def trees(*values: Sequence[float]) -> list[Params]:
    return [{"encoder.w": np.array(value, np.float32)} for value in values]


@pytest.mark.parametrize(
    ("trim", "values", "expected"),
    [
        (0.2, [1, 2, 3, 6, 1000], 11 / 3),  # 1 of 5 at either end: (2 + 3 + 6) / 3
        (0.21, [1, 2, 3, 6, 1000], 3),  # 1.05 of 5 are 2
        (0.1, [1, 2, 3, 6], 2.5),  # 0.4 of 4 is 1
        (0.5, [9, 1, 5], 5),
        (0.5, [9, 1, 5, 6], 5.5),
        (0.5, [1, 5], 3),
        (0.5, [7], 7),
        (0.3, [0] * 3 + [4] * 4 + [100] * 3, 4),  # 3 of 10, and not 4 by 0.3 * 10 > 3
    ],
)
def test_by_hand(trim: float, values: list[float], expected: float) -> None:
    assert trimmed_mean(trees(*([value] for value in values)), trim)["encoder.w"].tolist() == [np.float32(expected)]


def test_each_number_has_its_own_ends() -> None:
    assert trimmed_mean(trees([0, 9, 5], [1, 8, 500], [5, 0, 4]), 0.5)["encoder.w"].tolist() == [1, 8, 5]


def test_untrimmed_it_is_the_plain_mean_bit_for_bit() -> None:
    models = trees(*np.random.default_rng(0).normal(size=(7, 50)))
    plain = weighted_mean(models, [1.0] * 7)
    assert np.array_equal(trimmed_mean(models, 0.0)["encoder.w"], plain["encoder.w"])


def test_the_order_of_clients_changes_no_bit() -> None:
    models = trees(*np.random.default_rng(0).normal(size=(4, 50)))
    found = {trimmed_mean(order, 0.25)["encoder.w"].tobytes() for order in permutations(models)}
    assert len(found) == 1


def clients() -> list[ClientSpec]:
    return [ClientSpec.of(f"a-{n}", ("a",), "d", ("i",) * n) for n in (1, 2, 3, 4, 5)]


def updates(spoilt: float) -> list[Update]:
    values = [1.0, 2.0, 3.0, 4.0, spoilt]
    models: list[Params] = [
        {"encoder.w": np.array([value], np.float32), "decoders.a.w": np.array([-value], np.float32)} for value in values
    ]
    return [Update(c.name, "a", c.examples, model) for c, model in zip(clients(), models, strict=True)]


@pytest.mark.parametrize("spoilt", [1e30, -1e30])
@pytest.mark.parametrize(("weighting", "least", "most"), [("median", 2, 3), ({"trim": 0.2}, 2, 3)])
@pytest.mark.parametrize("kind", [FedAvg, MFed])
def test_one_clients_garbage_leaves_the_mean_among_the_others(
    kind: type[FedAvg | MFed], weighting: Any, least: float, most: float, spoilt: float
) -> None:
    """Of 1, 2, 3, 4 and garbage the median is 3 or 2, the trimmed mean (2 + 3 + 4) / 3 or (1 + 2 + 3) / 3."""
    algorithm = kind.model_validate({"weighting": weighting})
    assert {algorithm.weight(client) for client in clients()} == {None}
    zeros = {"encoder.w": np.zeros(1, np.float32), "decoders.a.w": np.zeros(1, np.float32)}
    state, diagnostics = algorithm.aggregate(algorithm.init(clients(), {"a": zeros}), updates(spoilt), no_probe)
    assert least <= state.params["encoder/a"]["encoder.w"][0] <= most
    assert state.params["decoder/a"]["decoders.a.w"][0] == -state.params["encoder/a"]["encoder.w"][0]
    assert [block.agreement for block in diagnostics.blocks] == [None] * len(diagnostics.blocks)
    assert abs(mean_of(updates(spoilt), "uniform")["encoder.w"][0]) > 1e29


@pytest.mark.parametrize(
    ("weighting", "message"),
    [
        ("mode", r"^algorithm\.weighting: input should be 'examples', 'uniform' or 'median', found 'mode'$"),
        ({"trim": 0.6}, r"^algorithm\.weighting\.trim: input should be less than or equal to 0\.5, found 0\.6$"),
        ({"trim": 0.1, "ends": 2}, r"^algorithm\.weighting\.ends: unknown key \(allowed: trim\)$"),
    ],
)
def test_wrong_weightings(tiny_tree: dict[str, Any], weighting: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_experiment({**tiny_tree, "algorithm": {"name": "fedavg", "weighting": weighting}})


@pytest.mark.parametrize("weighting", ["median", Trimmed(trim=0.2)])
def test_of_each_client_the_server_needs_its_update(weighting: Weighting) -> None:
    assert client_weight(clients()[2], weighting) is None
    assert client_weight(clients()[2], "examples") == 3.0
    assert mean_of([*updates(0)[:1]], weighting)["encoder.w"].tolist() == [1.0]
