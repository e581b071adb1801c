"""What the package's own tasks are judged by, for tables that do not say it, and the order of their columns."""

from collections.abc import Iterable, Mapping

from mfed_ray.evaluation import Headline

HEADLINES: Mapping[str, Headline] = {
    "semantic_segmentation": Headline("miou", higher_is_better=True),
    "human_parts": Headline("miou", higher_is_better=True),
    "saliency": Headline("max_miou", higher_is_better=True),
    "edge_detection": Headline("ods_f", higher_is_better=True),
    "surface_normals": Headline("mean_error", higher_is_better=False),
    "instance_segmentation": Headline("mask_ap", higher_is_better=True),
    "keypoint_detection": Headline("keypoint_ap", higher_is_better=True),
    "stuff_segmentation": Headline("miou", higher_is_better=True),
    "panoptic_segmentation": Headline("pq", higher_is_better=True),
}
"""As ``mfed_ray.tasks`` had them when tables were of version 1 or 2. Newer tables carry their own."""


def in_order(tasks: Iterable[str]) -> list[str]:
    """The tasks in the order of ``HEADLINES``, then all others by name."""
    places = {task: place for place, task in enumerate(HEADLINES)}
    return sorted(set(tasks), key=lambda task: (places.get(task, len(places)), task))
