"""Names to classes: every registered name leads somewhere, the user's own classes are found, and nothing else."""

import re
from typing import get_args

import pytest

from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.errors import ConfigError
from mfed_ray.models.encoders import ENCODERS
from mfed_ray.registry import PYRAMID_TASKS, Kind, Registered, check_registered, find, hint, name_of, names
from mfed_ray.tasks import TASKS, Task

KINDS: tuple[Kind, ...] = get_args(Kind)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in names(kind)])
def test_every_registered_name_can_be_imported(kind: Kind, name: str) -> None:
    assert callable(find(kind, name)) or isinstance(find(kind, name), Task)


def test_a_class_of_ones_own_is_found_by_module_and_name() -> None:
    assert find("algorithm", "mfed_ray.algorithms.fedavg:FedAvg") is FedAvg


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("algorithm", "fedavgg", "algorithm.name: 'fedavgg' is not one of local, centralised, "),
        ("task", "salience", "tasks: 'salience' is not one of semantic_segmentation, "),
        ("encoder", "resnet9", "model.encoder: 'resnet9' is not one of resnet10, "),
        ("encoder", "no_such_module:Encoder", "model.encoder: 'no_such_module:Encoder' cannot be imported (ModuleNotF"),
        ("task", "mfed_ray.errors:Missing", "tasks: 'mfed_ray.errors:Missing' cannot be imported (AttributeError: "),
    ],
)
def test_what_cannot_be_found_is_said_with_the_key_it_stands_at(kind: Kind, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        find(kind, name)


def test_names_and_classes_lead_to_each_other() -> None:
    assert name_of("algorithm", FedAvg) == "fedavg"
    assert name_of("algorithm", Task) == "mfed_ray.tasks.contract:Task"


def test_a_validators_sentence_names_the_first_that_is_not_registered() -> None:
    check_registered("task", ["saliency", "human_parts"])
    with pytest.raises(ValueError, match=r"^'resnet5' is not one of resnet10, .*, mobilenet_v2; did you mean 'resnet5"):
        check_registered("encoder", ["resnet50", "resnet5", "resnet9"])


def test_only_a_near_name_is_hinted_at() -> None:
    assert hint("clientz", ["rounds", "clients"]) == "; did you mean 'clients'?"
    assert hint("zzz", ["rounds", "clients"]) == ""


def test_a_mapping_of_what_is_registered() -> None:
    assert list(TASKS) == list(names("task"))
    assert len(ENCODERS) == 6
    assert "saliency" in TASKS
    with pytest.raises(KeyError, match="saliency:SALIENCY"):  # a mapping knows registered names only
        Registered[Task]("task")["mfed_ray.tasks.saliency:SALIENCY"]


def test_the_tasks_on_a_pyramid_are_cocos() -> None:
    assert {name for name, task in TASKS.items() if task.pyramid} == PYRAMID_TASKS
    assert sorted(PYRAMID_TASKS) == [
        "instance_segmentation",
        "keypoint_detection",
        "panoptic_segmentation",
        "stuff_segmentation",
    ]
