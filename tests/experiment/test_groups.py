"""What tells models of the same tasks apart, and how each group's is made."""

from collections.abc import Callable
from typing import Any

import pytest

from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.groups import Structure, structure_of
from mfed_ray.experiment.models import make_initial
from mfed_ray.experiment.trainers import TrainerFactory

MakeExperiment = Callable[..., Experiment]


def entries(*own: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"tasks": ["saliency"], "data": "scenes", **one} for one in own]


@pytest.mark.parametrize(
    ("own", "groups"),
    [
        ([{}, {}], ["saliency", "saliency"]),
        ([{"encoder": "resnet10"}, {}], ["saliency", "saliency"]),
        ([{"encoder": "resnet18"}, {"encoder": "resnet18"}], ["saliency", "saliency"]),
        ([{"encoder": "resnet18"}, {}], ["saliency@resnet18", "saliency"]),
        ([{}, {"decoder_width": 12}, {"decoder_width": 16}], ["saliency", "saliency@w12", "saliency"]),
        ([{"encoder": "resnet18", "decoder_width": 12}, {}], ["saliency@resnet18-w12", "saliency"]),
        ([{"encoder": "resnet18"}, {"encoder": "resnet34"}], ["saliency@resnet18", "saliency@resnet34"]),
    ],
)
def test_a_group_is_named_by_what_it_has_other_than_the_model(
    tiny: MakeExperiment, own: list[dict[str, Any]], groups: list[str]
) -> None:
    """And only where clients of its tasks differ; whatever the order, clients are numbered within their tasks."""
    experiment = tiny(model={"encoder": "resnet10", "decoder_width": 16}, clients=entries(*own))
    clients = make_clients(experiment)
    assert [client.group for client in clients] == groups
    assert [client.name for client in clients] == [f"saliency-{number}" for number in range(len(own))]


def test_structures_by_group(tiny: MakeExperiment) -> None:
    experiment = tiny(
        model={"encoder": "resnet10", "decoder_width": 16},
        clients=[
            *entries({"encoder": "resnet18", "decoder_width": 12}, {}),
            {"tasks": ["human_parts"], "data": "scenes", "encoder": "resnet34"},
        ],
    )
    assert structure_of(experiment, "saliency") == Structure("resnet10", 16)
    assert structure_of(experiment, "saliency@resnet18-w12") == Structure("resnet18", 12)
    assert structure_of(experiment, "human_parts") == Structure("resnet34", 16)
    one_width = tiny(clients=[*entries({"encoder": "resnet18"}, {})])
    assert structure_of(one_width, "human_parts+saliency").encoder == "resnet18"  # that of the first clients


def test_each_client_has_the_model_of_its_group(tiny: MakeExperiment) -> None:
    model = {"encoder": "resnet10", "decoder_width": 16}
    experiment = tiny(model=model, clients=entries({}, {"encoder": "resnet18"}, {"decoder_width": 12}))
    clients = make_clients(experiment)
    initial = make_initial(experiment, clients)
    assert list(initial) == ["saliency", "saliency@resnet18", "saliency@w12"]
    classifiers = [params["decoders.saliency.classifier.weight"].shape[1] for params in initial.values()]
    assert classifiers == [16, 16, 12]
    assert ["encoder.layer1.1.conv1.weight" in params for params in initial.values()] == [False, True, False]
    factory = TrainerFactory(experiment)
    for client in clients:
        held = {name: value.shape for name, value in factory.model(client).module.state_dict().items()}
        assert {name: value.shape for name, value in initial[client.group].items()}.items() <= held.items()
