"""Clipping, noise, epsilon: sensitivity by hand, the noise's spread, the library's own numbers, the same bits again."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from opacus.accountants import RDPAccountant

from mfed_ray.algorithms.averaging import mean_of
from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.algorithms.privacy import Privacy
from mfed_ray.errors import ConfigError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.federation import make_simulation
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.messages import ClientSpec, Params, State, Update
from mfed_ray.runtime.serial import SerialBackend
from mfed_ray.runtime.worker import Worker
from tests.algorithms.toy_federation import no_probe
from tests.rounds import Round, whole

MakeExperiment = Callable[..., Experiment]
PRIVACY = Privacy(clip_norm=2.0, noise_multiplier=1.5, delta=1e-5)
START = ({"encoder.w": np.array([1, 1], np.float32)}, {"decoders.a.w": np.array([2], np.float32)})


def sent(*values: float) -> Params:
    return {"encoder.w": np.array(values[:2], np.float32), "decoders.a.w": np.array(values[2:], np.float32)}


def numbers(params: Params) -> list[float]:
    return [float(x) for value in params.values() for x in value]


def specs(count: int) -> list[ClientSpec]:
    return [ClientSpec.of(f"a-{n}", ("a",), "d", ("i",)) for n in range(count)]


def test_a_move_is_clipped_by_hand() -> None:
    # (2, 4, 4) from (1, 1, 2) has the norm 6: a third of it is left
    found = numbers(PRIVACY.clipped(sent(3, 5, 6), START))
    assert found == pytest.approx([1 + 2 / 3, 1 + 4 / 3, 2 + 4 / 3], abs=1e-6)
    near = sent(1, 2.5, 3)  # (0, 1.5, 1): 1.8
    assert PRIVACY.clipped(near, START) is near


def test_one_client_moves_the_mean_by_no_more_than_c_over_n() -> None:
    """Sensitivity: of four clients one sends anything, or what it loaded, as if it were not there."""
    generator = np.random.default_rng(0)
    others = [PRIVACY.clipped(sent(*(10 * generator.normal(size=3))), START) for _ in range(3)]
    nothing = numbers(_mean([*others, sent(1, 1, 2)]))
    for size in (1e-3, 1.0, 1e4):
        one = PRIVACY.clipped(sent(*(size * generator.normal(size=3))), START)
        assert np.linalg.norm(np.subtract(numbers(_mean([*others, one])), nothing)) <= 2.0 / 4 + 1e-6
    # far off, all of it is used: C / n
    assert np.linalg.norm(np.subtract(numbers(_mean([*others, one])), nothing)) == pytest.approx(0.5, abs=1e-5)


def _mean(models: Sequence[Params]) -> Params:
    return mean_of([Update(f"a-{n}", "a", 1, model) for n, model in enumerate(models)], "uniform")


def test_the_noise_has_the_spread_that_epsilon_is_for() -> None:
    """200,000 draws: the standard deviation 1.5 * 2 / 4 is met to 1 percent, the mean to 5 standard errors."""
    members = tuple(Update(client.name, "a", 1, {}) for client in specs(4))
    mean = Update("a", "a", 4, {"encoder.w": np.full(200_000, 3, np.float32)}, members=members)
    (noised,) = PRIVACY.noised([mean], seed=1)
    noise = noised.params["encoder.w"] - np.float32(3)
    assert noised.members == members
    assert np.std(noise) == pytest.approx(0.75, rel=0.01)
    assert abs(np.mean(noise)) < 5 * 0.75 / np.sqrt(200_000)
    (again,), (other,) = PRIVACY.noised([mean], seed=1), PRIVACY.noised([mean], seed=2)
    assert np.array_equal(noised.params["encoder.w"], again.params["encoder.w"])
    assert not np.array_equal(noised.params["encoder.w"], other.params["encoder.w"])
    groups = [Update(name, name, 4, mean.params, members=members) for name in ("a", "b")]
    a, b = PRIVACY.noised(groups, seed=1)
    assert abs(np.corrcoef(a.params["encoder.w"], b.params["encoder.w"])[0, 1]) < 0.02


def test_epsilon_is_the_librarys() -> None:
    """Ten rounds with 2 of 8 clients and five with 4 of 8; without sampling, fifteen with all."""
    algorithm = FedAvg(weighting="uniform", privacy=PRIVACY)
    state = algorithm.init(specs(8), {"a": sent(1, 1, 2)})
    for count in [2] * 10 + [4] * 5:
        members = tuple(Update(client.name, "a", 1, {}) for client in specs(count))
        mean = Update("a", "a", count, sent(1, 1, 2), members=members)
        past, state = state, algorithm.aggregate(state, [mean], no_probe)[0]
    _, diagnostics = algorithm.aggregate(past, [mean], no_probe)
    assert state.values == {"clients": {"a": 8}, "rounds": {"a": {"2": 10, "4": 5}}}
    expected = {
        "epsilon": _opacus([(1.5, 2 / 8, 10), (1.5, 4 / 8, 5)]),
        "epsilon_bound": _opacus([(1.5, 1.0, 15)]),
        "delta": 1e-5,
    }
    assert diagnostics.spent["a"] == pytest.approx(expected, rel=1e-6)
    assert 0 < expected["epsilon"] < expected["epsilon_bound"]


def test_who_was_drawn_and_failed_counts_as_sampled(tiny: MakeExperiment) -> None:
    """In round 1 one of two clients is left out: all of the group were drawn, so sampling helped nobody."""
    experiment = private(tiny, rounds=1)
    clients = make_clients(experiment)
    simulation = make_simulation(experiment, clients)
    by_name = {client.name: client for client in clients}
    backend = SerialBackend(Worker(by_name, experiment.algorithm, TrainerFactory(experiment), threads=1))
    rounds = whole(simulation.run(backend, None, absent={("fit", 1): {"semantic_segmentation-1"}}))
    assert "semantic_segmentation-1" not in [report.client for report in rounds[1][0].fitted]
    spent = rounds[1][0].diagnostics.spent["semantic_segmentation"]
    assert spent["epsilon"] == spent["epsilon_bound"]


def _opacus(history: list[tuple[float, float, int]]) -> float:
    accountant = RDPAccountant()
    accountant.history = history
    return float(accountant.get_epsilon(1e-5))


def private(tiny: MakeExperiment, **more: Any) -> Experiment:
    privacy = {"clip_norm": 0.5, "noise_multiplier": 0.01, "delta": 1e-5}
    algorithm = {"name": "fedavg", "weighting": "uniform", "privacy": privacy}
    return tiny(algorithm=algorithm, **more)


def test_a_run_and_a_resumed_one(tiny: MakeExperiment, serially: Callable[..., list[tuple[Round, Checkpoint]]]) -> None:
    experiment = private(tiny)
    clients = make_clients(experiment)
    rounds = serially(experiment, clients)
    (resumed,) = serially(experiment, clients, resume=rounds[1][1])
    for name, tree in rounds[2][1].server.params.items():
        assert all(np.array_equal(value, resumed[1].server.params[name][key]) for key, value in tree.items())
    assert resumed[1].server.values == rounds[2][1].server.values
    spent = [report.diagnostics.spent for report, _ in rounds]
    assert spent[0] == {}
    assert spent[1]["saliency"]["epsilon"] < spent[2]["saliency"]["epsilon"]
    assert resumed[0].diagnostics.spent == spent[2]


def test_what_is_refused(tiny: MakeExperiment) -> None:
    privacy = {"clip_norm": 1, "noise_multiplier": 1}
    message = (
        r"weighting: examples found, but privacy needs a mean that one client moves by clip_norm / clients at most"
    )
    for name in ("fedavg", "fedprox"):
        with pytest.raises(ConfigError, match=message):
            tiny(algorithm={"name": name, "privacy": privacy})
    with pytest.raises(ConfigError, match=r"^algorithm\.privacy: unknown key"):
        tiny(algorithm={"name": "mfed", "weighting": "uniform", "privacy": privacy})
    statistics = {"a": {**sent(1, 1, 2), "encoder.bn.running_var": np.ones(1, np.float32)}}
    message = r"^algorithm\.privacy: encoder\.bn\.running_var would be sent, .* allowed: model\.normalisation group"
    with pytest.raises(ConfigError, match=message):
        FedAvg(weighting="uniform", privacy=PRIVACY).init(specs(2), statistics)


def test_the_library_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mfed_ray.algorithms.privacy.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"^algorithm\.privacy needs Opacus, .*; pip install 'mfed-ray\[dp\]'$"):
        FedAvg(weighting="uniform", privacy=PRIVACY).init(specs(2), {"a": sent(1, 1, 2)})
    assert FedAvg().init(specs(2), {"a": sent(1, 1, 2)}).values == State().values
