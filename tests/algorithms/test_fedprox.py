"""FedProx: one round by hand, and a proximal gradient that is there and exact."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.algorithms.fedprox import FedProx
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.models import make_initial
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.messages import ClientSpec, Params, State, Update
from mfed_ray.params import nbytes
from mfed_ray.training import Trainer

MakeExperiment = Callable[..., Experiment]
SEG, PARTS = "semantic_segmentation", "human_parts"
SGD = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 0.05}


def no_probe(group: str, encoder: Params, images: int) -> NDArray[np.float32]:
    raise AssertionError(f"not asked for: {group} {len(encoder)} {images}")


def model(task: str, encoder: float, decoder: float) -> Params:
    return {"encoder.w": np.array([encoder], np.float32), f"decoders.{task}.w": np.array([decoder], np.float32)}


INITIAL = {SEG: model(SEG, 0, 0), PARTS: model(PARTS, 0, 0)}
CLIENTS = [
    ClientSpec.of("p0", (PARTS,), "d", ("5",), ()),
    ClientSpec.of("s0", (SEG,), "d", ("1",), ()),
    ClientSpec.of("s1", (SEG,), "d", ("2", "3", "4"), ()),
]
UPDATES = [
    Update("p0", PARTS, 1, model(PARTS, 7, 9)),
    Update("s0", SEG, 1, model(SEG, 1, 2)),
    Update("s1", SEG, 3, model(SEG, 5, 10)),
]


def test_round_by_hand() -> None:
    # s0 has 1 image, s1 has 3: encoder (1 * 1 + 3 * 5) / 4 = 4, decoder (1 * 2 + 3 * 10) / 4 = 8; p0 is alone
    algorithm = FedProx()
    state, diagnostics = algorithm.aggregate(algorithm.init(CLIENTS, INITIAL), UPDATES, no_probe)
    assert state.params == {
        f"encoder/{SEG}": {"encoder.w": np.array([4], np.float32)},
        f"decoder/{SEG}": {f"decoders.{SEG}.w": np.array([8], np.float32)},
        f"encoder/{PARTS}": {"encoder.w": np.array([7], np.float32)},
        f"decoder/{PARTS}": {f"decoders.{PARTS}.w": np.array([9], np.float32)},
    }
    assert diagnostics.correlations == {}


def test_encoders_of_all_clients_by_hand() -> None:
    # alike: (7 + 1 + 5) / 3 for both groups, decoders within them; half a step of it from 0: server eta = 0.5
    fields = {"scope": "all", "weighting": "uniform", "server": {"name": "momentum", "learning_rate": 0.5}}
    algorithm = FedProx.model_validate(fields)
    state, _ = algorithm.aggregate(algorithm.init(CLIENTS, INITIAL), UPDATES, no_probe)
    assert state.params[f"encoder/{SEG}"] is state.params[f"encoder/{PARTS}"]
    assert float(state.params[f"encoder/{SEG}"]["encoder.w"][0]) == pytest.approx(0.5 * 13 / 3)
    assert float(state.params[f"decoder/{SEG}"][f"decoders.{SEG}.w"][0]) == 0.5 * 6


def test_the_anchor_is_what_is_loaded_and_sent_once() -> None:
    algorithm = FedProx(proximal_weight=0.1)
    state = algorithm.init(CLIENTS, INITIAL)
    one, other = (algorithm.instruct(state, client, 1) for client in CLIENTS[1:])
    assert [list(tree) for tree in one.load] == [["encoder.w"], [f"decoders.{SEG}.w"]]
    assert [id(tree) for tree in one.anchor] == [id(tree) for tree in one.load] == [id(tree) for tree in other.load]
    assert nbytes([*one.load, *one.anchor]) == 2 * 4
    assert FedProx(proximal_weight=0).instruct(state, CLIENTS[0], 1).anchor == ()


def fit(make: MakeExperiment, algorithm: FedProx | FedAvg, **local: Any) -> tuple[Params, dict[str, float], Trainer]:
    """What the first client sends after its first round, its metrics, its trainer."""
    experiment = make(local={**SGD, **local})
    client = make_clients(experiment)[0]
    trainer = TrainerFactory(experiment)(client)
    server = algorithm.init([client], make_initial(experiment, [client]))
    found = algorithm.fit(trainer, algorithm.instruct(server, client, 1), State())
    return found.params, dict(found.metrics[client.group]), trainer


def test_second_step_moves_by_the_proximal_gradient(tiny: MakeExperiment) -> None:
    """The first step starts on the anchor w0. The second adds -lr mu (w1 - w0), to every learned parameter."""
    plain, without, _ = fit(tiny, FedProx(proximal_weight=0), max_steps=2)
    pulled, metrics, _ = fit(tiny, FedProx(proximal_weight=10), max_steps=2)
    first, _, trainer = fit(tiny, FedProx(proximal_weight=10), max_steps=1)
    start = trainer.model.initial
    gone = {name: first[name] - start[name] for name in first}
    assert min(np.abs(gone[name]).max() for name in ("encoder.conv1.weight", f"decoders.{SEG}.classifier.bias")) > 1e-4
    for name, value in gone.items():
        np.testing.assert_allclose(pulled[name] - plain[name], -0.05 * 10 * value, rtol=1e-3, atol=1e-6)
    # mean over the steps: (0 + mu/2 ||w1 - w0||^2) / 2
    squares = sum(float(np.square(value, dtype=np.float64).sum()) for value in gone.values())
    assert metrics["proximal_penalty"] == pytest.approx(10 / 4 * squares, rel=1e-4)
    assert without["proximal_penalty"] == 0


@pytest.mark.parametrize("weight", [0.0, 10.0])
def test_without_a_pull_it_is_fedavg_bit_for_bit(tiny: MakeExperiment, weight: float) -> None:
    ours, _, _ = fit(tiny, FedProx(proximal_weight=weight), max_steps=2)
    fedavg, _, _ = fit(tiny, FedAvg(), max_steps=2)
    assert ours.keys() == fedavg.keys()
    assert all(np.array_equal(value, ours[name]) for name, value in fedavg.items()) == (weight == 0)


def test_negative_weight() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        FedProx(proximal_weight=-1)
