"""The registry: names, the literature's loss weights and headlines, and unknown names."""

import pytest

from mfed_ray.errors import ConfigError
from mfed_ray.tasks import TASKS, Headline, get_task


def test_loss_weights_and_headlines_of_the_literature() -> None:
    assert {name: (task.loss_weight, task.headline) for name, task in TASKS.items()} == {
        "semantic_segmentation": (1, Headline("miou", True)),
        "human_parts": (2, Headline("miou", True)),
        "saliency": (5, Headline("max_miou", True)),
        "edge_detection": (50, Headline("ods_f", True)),
        "surface_normals": (10, Headline("mean_error", False)),
        "instance_segmentation": (1, Headline("mask_ap", True)),
        "keypoint_detection": (1, Headline("keypoint_ap", True)),
        "stuff_segmentation": (1, Headline("miou", True)),
        "panoptic_segmentation": (1, Headline("pq", True)),
    }


def test_tasks_are_found_by_their_name() -> None:
    assert all(get_task(name) is task and task.name == name for name, task in TASKS.items())


def test_unknown_task_names_the_nearest() -> None:
    message = r"tasks: unknown task 'edge_detect' \(did you mean edge_detection\?\), allowed: semantic_segmentation, "
    with pytest.raises(ConfigError, match=message):
        get_task("edge_detect")


def test_unknown_task_unlike_any() -> None:
    with pytest.raises(ConfigError, match=r"tasks: unknown task 'zzz', allowed: semantic_segmentation, human_parts, "):
        get_task("zzz")
