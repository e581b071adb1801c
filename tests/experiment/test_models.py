"""Models of task groups, and what they start from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mfed_ray.errors import ConfigError
from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.models import make_initial, make_model
from mfed_ray.loaded_model import float_values
from mfed_ray.messages import ClientSpec
from mfed_ray.params import decoders_of, encoder_of

MakeExperiment = Callable[..., Experiment]


def clients(*groups: tuple[str, int]) -> list[dict[str, Any]]:
    """``("saliency+human_parts", 2)``: two clients with both tasks."""
    return [{"tasks": tasks.split("+"), "data": "scenes", "count": count} for tasks, count in groups]


def other_encoder(task: str) -> dict[str, Any]:
    return {"tasks": [task], "data": "scenes", "encoder": "resnet18"}


def test_every_client_starts_from_the_same_encoder(tiny: MakeExperiment) -> None:
    """Whatever its tasks; and a task's decoder starts the same in every model that has it."""
    experiment = tiny()
    one = float_values(make_model(experiment, ["saliency"]))
    both = float_values(make_model(experiment, ["saliency", "surface_normals"]))
    assert set(one) < set(both)
    assert all(np.array_equal(value, both[name]) for name, value in one.items())
    other = float_values(make_model(tiny(seed=1), ["saliency"]))
    assert not np.array_equal(one["encoder.conv1.weight"], other["encoder.conv1.weight"])
    name = "decoders.saliency.classifier.weight"
    assert not np.array_equal(one[name], other[name])


def test_an_unknown_encoder_is_named_when_the_model_is_built(tiny: MakeExperiment) -> None:
    with pytest.raises(ConfigError, match=r"model\.encoder: unknown encoder 'resnet9', allowed: resnet10"):
        make_model(tiny(model={"encoder": "resnet9", "width": 64}), ["saliency"])


def test_groups_of_one_encoder_hold_the_same_arrays_of_it(tiny: MakeExperiment) -> None:
    """Not equal ones: a hundred groups must not hold a hundred encoders."""
    experiment = tiny(clients=[*clients(("saliency", 1), ("surface_normals", 2)), other_encoder("human_parts")])
    initial = make_initial(experiment, make_clients(experiment))
    assert list(initial) == ["saliency", "surface_normals", "human_parts"]
    one, other, third = (encoder_of(model) for model in initial.values())
    assert all(value is other[name] for name, value in one.items())
    assert not any(value is third.get(name) for name, value in one.items())
    assert not decoders_of(initial["saliency"]).keys() & decoders_of(initial["surface_normals"]).keys()


@pytest.mark.parametrize(("normalisation", "kept"), [("average", True), ("local", False)])
def test_what_stays_with_clients_is_no_part_of_the_common_start(
    tiny: MakeExperiment, normalisation: str, kept: bool
) -> None:
    experiment = tiny(model={"normalisation": normalisation}, clients=clients(("saliency", 1)))
    spec = ClientSpec.of("saliency-0", ("saliency",), "scenes", ("a",), ("b",))
    initial = make_initial(experiment, [spec])["saliency"]
    assert ("encoder.bn1.weight" in initial) == kept
    assert ("encoder.bn1.running_mean" in initial) == kept
    assert "encoder.conv1.weight" in initial


def test_pascal_and_coco_tasks_in_one_federation_share_an_encoder_without_the_pyramid(
    tiny: MakeExperiment, scenes: Path, coco_scenes: Path
) -> None:
    """A client's parameters do not depend on who else takes part."""
    data = {
        "pascal": {"format": "pascal_context", "root": str(scenes)},
        "coco": {"format": "coco", "root": str(coco_scenes)},
    }
    clients = [{"tasks": ["saliency"], "data": "pascal"}, {"tasks": ["panoptic_segmentation"], "data": "coco"}]
    alone, mixed = tiny(data=data, clients=clients[:1]), tiny(data=data, clients=clients)
    shapes = [
        {name: value.shape for name, value in make_model(experiment, ["saliency"]).state_dict().items()}
        for experiment in (alone, mixed)
    ]
    assert shapes[0] == shapes[1]
    panoptic = make_model(mixed, ["panoptic_segmentation"]).state_dict()
    assert {name for name in panoptic if name.startswith("encoder.")} == {
        name for name in shapes[1] if name.startswith("encoder.")
    }
    assert any(name.startswith("decoders.panoptic_segmentation.pyramid.") for name in panoptic)
