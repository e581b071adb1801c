"""All that is wrong with a data set's folder, at once, and what it holds."""

from collections.abc import Iterator
from pathlib import Path

from mfed_ray.data import coco, pascal_check
from mfed_ray.data.coco import Coco, OnProgress, Problem
from mfed_ray.data.coco.layout import is_folder
from mfed_ray.data.pascal_context import PascalContext
from mfed_ray.data.sample import Dataset
from mfed_ray.errors import DataError


def check(root: str | Path, on_progress: OnProgress | None = None) -> list[Problem]:
    """Read everything in a folder in the layout of COCO (it has ``annotations``) or of PASCAL_MT.

    Raises DataError if it is neither, or cannot be looked at.
    """
    if _is_coco(root):
        return coco.check(root, on_progress)
    return pascal_check.check(root, on_progress)


def contents(root: str | Path) -> Iterator[str]:
    """A line for each split: its number of images, and how many have a target for each task.

    Raises DataError as ``check``.
    """
    dataset: Dataset = Coco(root) if _is_coco(root) else PascalContext(root)
    for split in pascal_check.SPLITS:
        try:
            image_ids = dict.fromkeys(dataset.image_ids(split))
            counts = {task: sum(dataset.usable(one, task) for one in image_ids) for task in sorted(dataset.tasks)}
        except DataError:
            yield f"{split}: cannot be counted"
        else:
            yield f"{split}: {len(image_ids)} images; {', '.join(f'{task} {n}' for task, n in counts.items())}"


def _is_coco(root: str | Path) -> bool:
    return is_folder(Path(root) / "annotations")
