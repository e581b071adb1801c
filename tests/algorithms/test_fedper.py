"""FedPer: the encoder is averaged over all clients, the decoder never leaves its own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mfed_ray.algorithms.fedper import FedPer
from mfed_ray.algorithms.local import Local
from mfed_ray.errors import ConfigError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.models import make_initial
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.messages import ClientSpec, Params, State, Update
from mfed_ray.params import decoders_of, encoder_of

MakeExperiment = Callable[..., Experiment]
SEG, PARTS = "semantic_segmentation", "human_parts"


def no_probe(group: str, encoder: Params, images: int) -> NDArray[np.float32]:
    raise AssertionError(f"not asked for: {group} {len(encoder)} {images}")


def array(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


INITIAL = {task: {"encoder.w": array(0), f"decoders.{task}.w": array(0)} for task in (SEG, PARTS)}
CLIENTS = [
    ClientSpec.of("p0", (PARTS,), "d", ("1", "2", "3", "4"), ()),
    ClientSpec.of("s0", (SEG,), "d", ("5",), ()),
    ClientSpec.of("s1", (SEG,), "d", ("6", "7", "8"), ()),
]
UPDATES = [
    Update(client.name, client.group, client.examples, {"encoder.w": array(value)})
    for client, value in zip(CLIENTS, (7, 1, 5), strict=True)
]


@pytest.mark.parametrize(
    ("fields", "segmentation", "parts"),
    [
        ({}, 5.5, 5.5),  # (4 * 7 + 1 * 1 + 3 * 5) / 8
        ({"weighting": "uniform"}, 13 / 3, 13 / 3),  # (7 + 1 + 5) / 3
        ({"scope": "task"}, 4, 7),  # (1 * 1 + 3 * 5) / 4; 7
        ({"server": {"name": "momentum", "learning_rate": 0.5}}, 2.75, 2.75),  # 0 + 0.5 (5.5 - 0)
    ],
)
def test_round_by_hand(fields: dict[str, Any], segmentation: float, parts: float) -> None:
    algorithm = FedPer.model_validate(fields)
    state, diagnostics = algorithm.aggregate(algorithm.init(CLIENTS, INITIAL), UPDATES, no_probe)
    loaded = {client.name: algorithm.instruct(state, client, 2).load for client in CLIENTS}
    found = {name: [float(tree["encoder.w"][0]) for tree in trees] for name, trees in loaded.items()}
    assert found["s0"] == found["s1"] == [pytest.approx(segmentation)]
    assert found["p0"] == [pytest.approx(parts)]
    assert loaded["s0"][0] is loaded["s1"][0]
    assert (loaded["s0"][0] is loaded["p0"][0]) == (algorithm.scope == "all")
    assert diagnostics.correlations == {}


def test_instruction_carries_the_encoder_alone() -> None:
    instruction = FedPer().instruct(FedPer().init(CLIENTS, INITIAL), CLIENTS[0], 1)
    assert [list(tree) for tree in instruction.load] == [["encoder.w"]]
    assert instruction.anchor == ()


def test_who_took_no_part_loads_the_new_encoder_of_all() -> None:
    after, _ = FedPer().aggregate(FedPer().init(CLIENTS, INITIAL), UPDATES[1:], no_probe)
    (encoder,) = FedPer().instruct(after, CLIENTS[0], 2).load
    assert encoder == {"encoder.w": array(4)}  # (1 * 1 + 3 * 5) / 4


def test_encoders_that_differ_need_scope_task() -> None:
    initial = {**INITIAL, PARTS: {"encoder.w": array(0, 0), f"decoders.{PARTS}.w": array(0)}}
    with pytest.raises(ConfigError, match="fedper with scope: all shares one encoder among all clients"):
        FedPer().init(CLIENTS, initial)
    state = FedPer(scope="task").init(CLIENTS, initial)
    (encoder,) = FedPer(scope="task").instruct(state, CLIENTS[0], 1).load
    assert encoder["encoder.w"].shape == (2,)


def test_client_sends_its_encoder_and_goes_on_from_its_decoder(tiny: MakeExperiment) -> None:
    experiment = tiny(local={"optimizer_state": "keep"}, model={"normalisation": "local"})
    client = make_clients(experiment)[0]
    trainer = TrainerFactory(experiment)(client)
    algorithm, server = FedPer(), FedPer().init([client], make_initial(experiment, [client]))
    instruction = algorithm.instruct(server, client, 1)
    fit = algorithm.fit(trainer, instruction, State())
    after, start = trainer.shared(), trainer.model.initial
    assert fit.params.keys() == encoder_of(after).keys()
    for part in (encoder_of, decoders_of):  # both are trained
        assert any(not np.array_equal(value, start[name]) for name, value in part(after).items())
    # what is evaluated before the next round: the encoder that was sent down, the client's own decoder and BatchNorm
    trainer.start(fit.state, *instruction.load)
    now = trainer.shared()
    assert all(np.array_equal(now[name], after[name]) for name in decoders_of(after))
    assert all(np.array_equal(now[name], start[name]) for name in encoder_of(after))
    assert "encoder.bn1.running_var" in fit.state.params["model"]
    assert "encoder.conv1.weight" not in fit.state.params["model"]
    assert any(name.startswith("encoder.conv1.weight/") for name in fit.state.params["optimizer"])


def test_two_rounds_of_one_client_are_local_training_bit_for_bit(tiny: MakeExperiment) -> None:
    experiment = tiny(local={"optimizer_state": "keep"})
    client = make_clients(experiment)[0]
    trainer, initial = TrainerFactory(experiment)(client), make_initial(experiment, [client])
    found = []
    for algorithm in (FedPer(), Local()):
        server, state = algorithm.init([client], initial), State()
        for number in (1, 2):
            fit = algorithm.fit(trainer, algorithm.instruct(server, client, number), state)
            update = Update(client.name, client.group, client.examples, fit.params)
            server, _ = algorithm.aggregate(server, [update], no_probe)
            state = fit.state
        found.append(trainer.shared())
    assert all(np.array_equal(value, found[1][name]) for name, value in found[0].items())
