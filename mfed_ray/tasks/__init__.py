"""One file per task: decoder, loss, metric and target bound together. ``TASKS`` registers them."""

import difflib

from mfed_ray.errors import ConfigError
from mfed_ray.tasks.contract import Headline, Task
from mfed_ray.tasks.edge_detection import EDGE_DETECTION
from mfed_ray.tasks.human_parts import HUMAN_PARTS
from mfed_ray.tasks.instance_segmentation import INSTANCE_SEGMENTATION
from mfed_ray.tasks.keypoint_detection import KEYPOINT_DETECTION
from mfed_ray.tasks.panoptic_segmentation import PANOPTIC_SEGMENTATION
from mfed_ray.tasks.saliency import SALIENCY
from mfed_ray.tasks.semantic_segmentation import SEMANTIC_SEGMENTATION
from mfed_ray.tasks.stuff_segmentation import STUFF_SEGMENTATION
from mfed_ray.tasks.surface_normals import SURFACE_NORMALS

__all__ = ["TASKS", "Headline", "Task", "get_task"]

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        SEMANTIC_SEGMENTATION,
        HUMAN_PARTS,
        SALIENCY,
        EDGE_DETECTION,
        SURFACE_NORMALS,
        INSTANCE_SEGMENTATION,
        KEYPOINT_DETECTION,
        STUFF_SEGMENTATION,
        PANOPTIC_SEGMENTATION,
    )
}
"""Every task by name."""


def get_task(name: str) -> Task:
    """The task of that name.

    Raises ConfigError, with the nearest name, if there is none.
    """
    if name not in TASKS:
        nearest = difflib.get_close_matches(name, TASKS, n=1)
        hint = f" (did you mean {nearest[0]}?)" if nearest else ""
        raise ConfigError(f"tasks: unknown task {name!r}{hint}, allowed: {', '.join(TASKS)}")
    return TASKS[name]
