"""Ditto: FedAvg's model and local training's side by side, and a pull between them that is there and exact."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from mfed_ray.algorithms.contract import Algorithm, Fit
from mfed_ray.algorithms.ditto import Ditto
from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.algorithms.local import Local
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.models import make_initial
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.messages import ClientSpec, Params, State, Update
from mfed_ray.training import Trainer

MakeExperiment = Callable[..., Experiment]
SEG, PARTS = "semantic_segmentation", "human_parts"
SGD = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0}
KEEPING = {"local": {"optimizer_state": "keep", "max_steps": 1}, "model": {"normalisation": "local"}}


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


@pytest.mark.parametrize(
    ("fields", "segmentation", "parts"),
    [
        ({}, (4, 8), (7, 9)),  # (1 * 1 + 3 * 5) / 4, (1 * 2 + 3 * 10) / 4; p0 is alone
        ({"weighting": "uniform"}, (3, 6), (7, 9)),
        ({"scope": "all"}, (4.6, 8), (4.6, 9)),  # (7 + 1 * 1 + 3 * 5) / 5
        ({"server": {"name": "momentum", "learning_rate": 0.5}}, (2, 4), (3.5, 4.5)),  # half a step from 0
    ],
)
def test_round_by_hand(fields: dict[str, Any], segmentation: tuple[float, float], parts: tuple[float, float]) -> None:
    algorithm = Ditto.model_validate(fields)
    state, diagnostics = algorithm.aggregate(algorithm.init(CLIENTS, INITIAL), UPDATES, no_probe)
    for client, expected in zip(CLIENTS, (parts, segmentation, segmentation), strict=True):
        anchor = algorithm.instruct(state, client, 2).anchor
        assert [float(value[0]) for tree in anchor for value in tree.values()] == pytest.approx(expected)
    assert diagnostics.correlations == {}


def test_instruction_loads_nothing_and_shares_the_anchor() -> None:
    state = Ditto().init(CLIENTS, INITIAL)
    one, other = (Ditto().instruct(state, client, 1) for client in CLIENTS[1:])
    assert one.load == ()
    assert [list(tree) for tree in one.anchor] == [["encoder.w"], [f"decoders.{SEG}.w"]]
    assert [id(tree) for tree in one.anchor] == [id(tree) for tree in other.anchor]


def first_trainer(make: MakeExperiment, **sections: Any) -> tuple[Trainer, State]:
    """The first client's trainer, and a Ditto server's state."""
    experiment = make(**sections)
    client = make_clients(experiment)[0]
    return TrainerFactory(experiment)(client), Ditto().init([client], make_initial(experiment, [client]))


def same(a: Params, b: Params) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(value, b[name]) for name, value in a.items())


def test_personal_step_moves_by_the_pull(tiny: MakeExperiment) -> None:
    """v1 = v0 - lr (g + lambda (v0 - w_t)), with v0 = w_t + 1 everywhere: lambda > 0 adds -lr lambda."""
    trainer, server = first_trainer(tiny, local={**SGD, "learning_rate": 0.5, "max_steps": 1})
    state = State({"model": {name: value + np.float32(1) for name, value in trainer.model.initial.items()}})
    fits = {}
    for weight in (0.0, 0.25):
        algorithm = Ditto(proximal_weight=weight)
        fits[weight] = algorithm.fit(trainer, algorithm.instruct(server, trainer.spec, 1), state)
    plain, pulled = (fit.state.params["model"] for fit in fits.values())
    assert plain.keys() == trainer.model.initial.keys()
    for name in plain:
        np.testing.assert_allclose(pulled[name] - plain[name], -0.5 * 0.25, atol=1e-5)
    # lambda/2 ||1||^2; the global model feels nothing of it
    size = sum(value.size for value in plain.values())
    metrics = fits[0.25].metrics[trainer.spec.group]
    assert metrics["proximal_penalty"] == pytest.approx(0.125 * size, rel=1e-5)
    assert same(fits[0.0].params, fits[0.25].params)


def test_personal_model_is_left_in_the_trainer(tiny: MakeExperiment) -> None:
    """It is what is evaluated before aggregation, and after it: nothing is loaded over it."""
    trainer, server = first_trainer(tiny)
    state = State({"model": {name: value + np.float32(0.1) for name, value in trainer.model.initial.items()}})
    instruction = Ditto().instruct(server, trainer.spec, 1)
    fit = Ditto().fit(trainer, instruction, state)
    before = trainer.shared()
    assert same(before, fit.state.params["model"])
    assert not same(before, fit.params)
    trainer.start(fit.state, *instruction.load)
    assert same(trainer.shared(), before)


def test_both_models_see_the_same_batches(tiny: MakeExperiment) -> None:
    trainer, server = first_trainer(tiny)
    seen: list[Tensor] = []
    hook = trainer.model.module.encoder.register_forward_pre_hook(lambda _, images: seen.append(images[0]))
    Ditto().fit(trainer, Ditto().instruct(server, trainer.spec, 1), State())
    hook.remove()
    one, two, again_one, again_two = seen
    assert one.equal(again_one)
    assert two.equal(again_two)
    assert not one.equal(two)


def rounds(algorithm: Algorithm, trainer: Trainer, initial: Params) -> list[Fit]:
    """Two rounds of one client, in which the server's model is moved on by half of what the client learned."""
    client, state = trainer.spec, State()
    server = algorithm.init([client], {client.group: initial})
    fits = []
    for number in (1, 2):
        fits.append(algorithm.fit(trainer, algorithm.instruct(server, client, number), state))
        state = fits[-1].state
        server, _ = algorithm.aggregate(server, [Update(client.name, client.group, 1, fits[-1].params)], no_probe)
    return fits


def test_without_a_pull_it_is_fedavg_beside_local_bit_for_bit(tiny: MakeExperiment) -> None:
    """Two optimizer states and two sets of private BatchNorm go on side by side, neither touching the other."""
    trainer, _ = first_trainer(tiny, **KEEPING)
    initial = make_initial(tiny(**KEEPING), [trainer.spec])[trainer.spec.group]
    half = {"name": "momentum", "learning_rate": 0.5}
    ditto, fedavg, local = (
        rounds(algorithm, trainer, initial)
        for algorithm in (
            Ditto.model_validate({"proximal_weight": 0, "server": half}),
            FedAvg.model_validate({"server": half}),
            Local(),
        )
    )
    for ours, shared, own in zip(ditto, fedavg, local, strict=True):
        assert same(ours.params, shared.params)
        trees = {f"global/{name}": tree for name, tree in shared.state.params.items()} | dict(own.state.params)
        assert ours.state.params.keys() == trees.keys()
        assert all(same(tree, trees[name]) for name, tree in ours.state.params.items())
        assert ours.metrics == own.metrics
    last = ditto[1].state.params
    assert set(last) == {"model", "optimizer", "global/model", "global/optimizer"}
    assert not same(last["optimizer"], last["global/optimizer"])
    name = "encoder.bn1.running_var"
    assert not np.array_equal(last["model"][name], last["global/model"][name])


def test_with_a_pull_it_is_not_local(tiny: MakeExperiment) -> None:
    """In the first round both start from the initial model; from its second step on the pull must matter."""
    trainer, server = first_trainer(tiny, local={**SGD, "learning_rate": 0.05})
    instruction = Ditto().instruct(server, trainer.spec, 1)
    pulled, free = (Ditto(proximal_weight=weight).fit(trainer, instruction, State()) for weight in (1.0, 0.0))
    assert pulled.metrics[trainer.spec.group]["proximal_penalty"] > 0
    assert not same(pulled.state.params["model"], free.state.params["model"])


def test_negative_weight() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        Ditto(proximal_weight=-1)
