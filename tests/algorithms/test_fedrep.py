"""FedRep: who stands still in which step; what is averaged is the encoder, as in FedPer."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mfed_ray.algorithms.fedper import FedPer
from mfed_ray.algorithms.fedrep import FedRep
from mfed_ray.errors import ClientError, ConfigError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.models import make_initial
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.messages import ClientSpec, Params, State, Update
from mfed_ray.params import decoders_of, encoder_of
from mfed_ray.training import Trainer

MakeExperiment = Callable[..., Experiment]
SEG, PARTS = "semantic_segmentation", "human_parts"
SGD = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.05}


def no_probe(group: str, encoder: Params, images: int) -> NDArray[np.float32]:
    raise AssertionError(f"not asked for: {group} {len(encoder)} {images}")


def array(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


INITIAL = {task: {"encoder.w": array(0), f"decoders.{task}.w": array(0)} for task in (SEG, PARTS)}
CLIENTS = [
    ClientSpec.of("p0", (PARTS,), "d", ("1", "2"), ()),
    ClientSpec.of("s0", (SEG,), "d", ("3",), ()),
    ClientSpec.of("s1", (SEG,), "d", ("4",), ()),
]
UPDATES = [
    Update(client.name, client.group, client.examples, {"encoder.w": array(value)})
    for client, value in zip(CLIENTS, (8, 2, 6), strict=True)
]


@pytest.mark.parametrize(
    ("fields", "segmentation", "parts"),
    [
        ({}, 6, 6),  # (2 * 8 + 2 + 6) / 4
        ({"weighting": "uniform"}, 16 / 3, 16 / 3),  # (8 + 2 + 6) / 3
        ({"scope": "task"}, 4, 8),  # (2 + 6) / 2; 8
        ({"server": {"name": "momentum", "learning_rate": 0.5}}, 3, 3),  # 0 + 0.5 (6 - 0)
    ],
)
def test_round_by_hand(fields: dict[str, Any], segmentation: float, parts: float) -> None:
    algorithm = FedRep.model_validate(fields)
    state, _ = algorithm.aggregate(algorithm.init(CLIENTS, INITIAL), UPDATES, no_probe)
    instructions = [algorithm.instruct(state, client, 2) for client in CLIENTS]
    assert [list(tree) for i in instructions for tree in i.load] == [["encoder.w"]] * 3
    assert [i.anchor for i in instructions] == [()] * 3
    found = [float(i.load[0]["encoder.w"][0]) for i in instructions]
    assert found == pytest.approx([parts, segmentation, segmentation])
    assert instructions[1].load[0] is instructions[2].load[0]


def test_encoders_that_differ_need_scope_task() -> None:
    initial = {**INITIAL, PARTS: {"encoder.w": array(0, 0)}}
    with pytest.raises(ConfigError, match="fedrep with scope: all shares one encoder among all clients"):
        FedRep().init(CLIENTS, initial)
    (encoder,) = FedRep(scope="task").instruct(FedRep(scope="task").init(CLIENTS, initial), CLIENTS[0], 1).load
    assert encoder["encoder.w"].shape == (2,)


def first_trainer(make: MakeExperiment, **sections: Any) -> tuple[Trainer, Params]:
    experiment = make(**sections)
    client = make_clients(experiment)[0]
    return TrainerFactory(experiment)(client), make_initial(experiment, [client])[client.group]


def fit(trainer: Trainer, algorithm: FedRep | FedPer, initial: Params) -> Params:
    """One round from the initial encoder; the client's encoder as sent, and its decoder as kept."""
    server = algorithm.init([trainer.spec], {trainer.spec.group: initial})
    found = algorithm.fit(trainer, algorithm.instruct(server, trainer.spec, 1), State())
    assert found.params.keys() == encoder_of(found.params).keys()
    assert found.state.params["model"].keys() >= decoders_of(trainer.shared()).keys()
    return {**found.params, **decoders_of(found.state.params["model"])}


@pytest.mark.parametrize(
    ("turns", "steps", "moving"), [(1, 2, "DE"), (1, 4, "DDEE"), (2, 3, "DDE"), (3, 4, "DDDE"), (1, 3, "DEE")]
)
def test_decoders_move_first_and_then_the_encoder(tiny: MakeExperiment, turns: int, steps: int, moving: str) -> None:
    """Weight decay, too, leaves the part alone that stands still."""
    local = {**SGD, "weight_decay": 0.1, "batch_size": 1, "max_steps": steps}
    trainer, initial = first_trainer(tiny, local=local)
    seen: list[Params] = []
    hook = trainer.model.module.encoder.register_forward_pre_hook(lambda *_: seen.append(trainer.shared()))
    fit(trainer, FedRep(decoder_turns=turns), initial)
    hook.remove()
    seen.append(trainer.shared())
    found = ""
    for before, after in pairwise(seen):
        moved = {name for name in before if not np.array_equal(before[name], after[name])}
        found += "D" * any(name in decoders_of(before) for name in moved)
        found += "E" * any(name in encoder_of(before) for name in moved)
    assert found == moving


def test_decoders_step_is_the_one_of_joint_training(tiny: MakeExperiment) -> None:
    """One decoder step from the same start, on the same batch: freezing the encoder changes nothing in its gradient."""
    trainer, initial = first_trainer(tiny, local={**SGD, "max_steps": 2})
    apart = fit(trainer, FedRep(), initial)
    trainer, initial = first_trainer(tiny, local={**SGD, "max_steps": 1})
    together = fit(trainer, FedPer(), initial)
    for name, value in decoders_of(apart).items():
        np.testing.assert_allclose(value, together[name], rtol=1e-5, atol=1e-7)
    assert any(not np.array_equal(value, together[name]) for name, value in encoder_of(apart).items())


def test_optimizer_state_of_both_parts_is_kept(tiny: MakeExperiment) -> None:
    trainer, initial = first_trainer(tiny, local={"optimizer_state": "keep", "max_steps": 2})
    fit(trainer, FedRep(), initial)
    steps = {name: float(v) for name, v in trainer.state().params["optimizer"].items() if name.endswith("/step")}
    assert {name.removesuffix("/step") for name in steps} == set(initial)
    assert set(steps.values()) == {1.0}


def test_fewer_steps_than_turns(tiny: MakeExperiment) -> None:
    trainer, initial = first_trainer(tiny, local={"max_steps": 2})
    message = (
        "client semantic_segmentation-0, round 1: 2 steps cannot be shared among 3 turns of training parts; raise "
        "local.epochs or local.max_steps"
    )
    with pytest.raises(ClientError, match=message):
        fit(trainer, FedRep(decoder_turns=2), initial)


def test_no_turn_for_the_decoder() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        FedRep(decoder_turns=0)
