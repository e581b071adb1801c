"""The simulation of an experiment, the server's probe of encoders, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mfed_ray.errors import ConfigError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.federation import make_simulation
from mfed_ray.experiment.groups import structure_of
from mfed_ray.experiment.models import make_initial, make_model
from mfed_ray.experiment.probe import EncoderProbe
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.loaded_model import float_values
from mfed_ray.params import decoders_of, encoder_of

MakeExperiment = Callable[..., Experiment]


def clients(*groups: tuple[str, int]) -> list[dict[str, Any]]:
    """``("saliency+human_parts", 2)``: two clients with both tasks."""
    return [{"tasks": tasks.split("+"), "data": "scenes", "count": count} for tasks, count in groups]


def data(root: Path) -> dict[str, Any]:
    return {"scenes": {"format": "pascal_context", "root": str(root)}}


def other_encoder(task: str) -> dict[str, Any]:
    return {"tasks": [task], "data": "scenes", "encoder": "resnet18"}


def test_probe_gives_sixteen_rows_an_image(tiny: MakeExperiment) -> None:
    experiment = tiny()
    probe = EncoderProbe(experiment)
    encoder = encoder_of(float_values(make_model(experiment, ())))
    rows = probe("saliency", encoder, 3)
    assert rows.shape == (3 * 16, 128)
    assert rows.dtype == np.float32
    assert rows.std() > 0
    np.testing.assert_array_equal(probe("saliency", encoder, 3), rows)
    np.testing.assert_allclose(probe("surface_normals", encoder, 2), rows[:32], rtol=1e-4, atol=1e-5)
    changed = {name: value * np.float32(0.5) for name, value in encoder.items()}
    assert not np.allclose(probe("saliency", changed, 3), rows)
    np.testing.assert_array_equal(probe("saliency", encoder, 3), rows)  # what was probed in between leaves no trace


def test_probe_takes_images_from_the_datasets_in_turn(tiny: MakeExperiment, scenes: Path, shared: Path) -> None:
    real = {"format": "pascal_context", "root": str(shared / "data" / "pascal_mini")}
    encoder = encoder_of(float_values(make_model(tiny(), ())))
    mixed = EncoderProbe(tiny(data={**data(scenes), "real": real}))("saliency", encoder, 4).reshape(4, -1)
    drawn = EncoderProbe(tiny())("saliency", encoder, 2).reshape(2, -1)
    np.testing.assert_allclose(mixed[[0, 2]], drawn, rtol=1e-4, atol=1e-5)
    assert not np.allclose(mixed[1], drawn[0])
    assert not np.allclose(mixed[1], mixed[3])


def test_probe_goes_round_a_small_dataset(tiny: MakeExperiment) -> None:
    encoder = encoder_of(float_values(make_model(tiny(), ())))
    rows = EncoderProbe(tiny())("saliency", encoder, 17).reshape(17, -1)
    np.testing.assert_allclose(rows[16], rows[0], rtol=1e-4, atol=1e-5)  # there are 16 training images


def test_simulation_has_one_model_per_group_and_the_settings(tiny: MakeExperiment) -> None:
    groups = clients(("semantic_segmentation", 2), ("surface_normals+saliency", 1), ("saliency", 1))
    experiment = tiny(rounds=4, seed=3, evaluation={"every": 2}, clients=groups, clients_per_round=2)
    made = make_clients(experiment)
    simulation = make_simulation(experiment, made)
    assert {
        group: {name.split(".")[1] for name in decoders_of(model)} for group, model in simulation.initial.items()
    } == {
        "semantic_segmentation": {"semantic_segmentation"},
        "saliency+surface_normals": {"saliency", "surface_normals"},
        "saliency": {"saliency"},
    }
    assert simulation.algorithm == experiment.algorithm
    assert simulation.clients == made
    assert (simulation.rounds, simulation.evaluate_every) == (4, 2)
    assert (simulation.clients_per_round, simulation.seed) == (2, 3)
    assert simulation.stages == {"before_aggregation", "after_aggregation"}
    expected = float_values(make_model(experiment, ["saliency"]))
    assert expected.keys() == simulation.initial["saliency"].keys()
    assert all(np.array_equal(value, simulation.initial["saliency"][name]) for name, value in expected.items())


def test_clients_may_have_an_encoder_of_their_own(tiny: MakeExperiment) -> None:
    """Whoever has no ``encoder`` of its own has ``model.encoder``; the probe runs each group's."""
    own = [other_encoder("human_parts"), other_encoder("saliency")]
    experiment = tiny(clients=[*clients(("saliency", 1)), *own])
    parts, saliency = (make_model(experiment, [task]).encoder for task in ("human_parts", "saliency"))
    for encoder, name in ((parts, "resnet18"), (saliency, "resnet10")):
        expected = make_model(tiny(model={"encoder": name}), ["saliency"]).encoder.state_dict()
        assert encoder.state_dict().keys() == expected.keys()
        assert all(torch.equal(value, expected[key]) for key, value in encoder.state_dict().items())
    factory = TrainerFactory(experiment)
    held = [factory(client).model.initial.keys() for client in make_clients(experiment)]
    assert ["encoder.layer1.1.conv1.weight" in names for names in held] == [False, True, True]
    initial, probe = make_initial(experiment, make_clients(experiment)), EncoderProbe(experiment)
    rows = {group: probe(group, encoder_of(model), 1) for group, model in initial.items()}
    alone = EncoderProbe(tiny(model={"encoder": "resnet18"}))("human_parts", encoder_of(initial["human_parts"]), 1)
    np.testing.assert_array_equal(rows["human_parts"], alone)
    np.testing.assert_array_equal(rows["saliency@resnet18"], alone)
    assert not np.allclose(rows["human_parts"], rows["saliency"])


def test_an_algorithm_with_one_encoder_refuses_two(tiny: MakeExperiment) -> None:
    experiment = tiny(
        algorithm={"name": "centralised"}, clients=[*clients(("saliency", 1)), other_encoder("human_parts")]
    )
    message = (
        r"algorithm\.name: centralised shares one encoder among all clients, but encoder\.layer1\.1\.\S+ is missing at "
        r"saliency and \(\S.*\) at human_parts; give all clients one encoder, or use scope: task where the algorithm "
        "has it, or local or mfed"
    )
    with pytest.raises(ConfigError, match=message):
        _ = make_simulation(experiment, make_clients(experiment)).start


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"algorithm": {"name": "centralised"}, "clients_per_round": 2},
            "^clients_per_round: 2 found, but centralised trains on all clients' images together; leave it out$",
        ),
        (
            {"algorithm": {"name": "centralised"}, "evaluation": {"stages": ["before_aggregation"]}},
            "^evaluation.stages: before_aggregation found, but with centralised no client has a model before",
        ),
        (
            {"algorithm": {"name": "fedrep", "decoder_turns": 2}, "local": {"max_steps": 2}},
            "^local.max_steps, local.epochs: client semantic_segmentation-0 takes 2 of the 3 steps a round that fedrep",
        ),
    ],
)
def test_what_an_algorithm_would_pass_over_is_refused(
    tiny: MakeExperiment, sections: dict[str, Any], message: str
) -> None:
    experiment = tiny(**sections)
    with pytest.raises(ConfigError, match=message):
        make_simulation(experiment, make_clients(experiment))


def test_judging_needs_as_many_rounds_as_it_judges(tiny: MakeExperiment) -> None:
    experiment = tiny(rounds=5, algorithm={"name": "mfed", "correlation_threshold": "judged"})
    with pytest.raises(ConfigError, match=r"^rounds: 5 found, but mfed judges encoders until round 6; raise"):
        make_simulation(experiment, make_clients(experiment))


def test_one_model_of_all_tasks_has_decoders_of_one_width(tiny: MakeExperiment) -> None:
    clients = [
        {"tasks": ["saliency"], "data": "scenes", "decoder_width": 12},
        {"tasks": ["surface_normals"], "data": "scenes"},
    ]
    with pytest.raises(ConfigError, match=r"^clients.decoder_width: .* saliency\+surface_normals is trained as one"):
        structure_of(tiny(clients=clients), "saliency+surface_normals")
