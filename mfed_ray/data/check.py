"""All that is wrong with a data set's folder, at once."""

from pathlib import Path

from mfed_ray.data import coco
from mfed_ray.data.coco import OnProgress, Problem
from mfed_ray.data.coco.layout import is_folder
from mfed_ray.data.pascal_context import PascalContext
from mfed_ray.errors import DataError


def check(root: str | Path, on_progress: OnProgress | None = None) -> list[Problem]:
    """Read everything in a folder in the layout of COCO (it has ``annotations``) or of PASCAL_MT.

    Raises DataError if it is neither, or cannot be looked at.
    """
    if is_folder(Path(root) / "annotations"):
        return coco.check(root, on_progress)
    dataset = PascalContext(root)
    problems: list[Problem] = []
    for path in sorted((dataset.root / "ImageSets" / "Context").glob("*.txt")):
        image_ids = dataset.image_ids(path.stem)
        for done, image_id in enumerate(image_ids, start=1):
            problems += _unreadable(dataset, path, image_id)
            if on_progress is not None:
                on_progress(path, done, len(image_ids))
    return problems


def _unreadable(dataset: PascalContext, listed_in: Path, image_id: str) -> list[Problem]:
    problems = []
    for task in sorted(dataset.tasks):
        try:
            if dataset.usable(image_id, task):
                dataset.read(image_id, [task])
        except DataError as error:
            problems.append(Problem("unreadable target", listed_in, image_id, str(error)))
    return problems
