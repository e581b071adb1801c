"""All that is wrong with a folder in the layout of PASCAL_MT, at once."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mfed_ray.data.coco.check import OnProgress
from mfed_ray.data.coco.layout import is_missing
from mfed_ray.data.coco.problems import Problem
from mfed_ray.data.pascal_context import PascalContext
from mfed_ray.errors import DataError
from mfed_ray.labels import VOID

SPLITS = ("train", "val")


def check(root: str | Path, on_progress: OnProgress | None = None) -> list[Problem]:
    """Every problem of the folder, split by split; each image is decoded, and each label that it has.

    Kinds: "missing split" (of train and val, or a list that is empty or no text), "duplicate image id" (twice in a
    list, or in both of train and val), "missing image file", "no target" (an image without a label of any task),
    "unreadable target", "task without targets" (of a split no image has one, or none with anything but 0 and void).
    Raises DataError if ``root`` is no folder or has no label folder of any task.
    """
    dataset = PascalContext(root)
    folder = dataset.root / "ImageSets" / "Context"
    others = sorted(path.stem for path in folder.glob("*.txt") if path.stem not in SPLITS)
    problems: list[Problem] = []
    listed: set[str] = set()
    for split in (*SPLITS, *others):
        path = folder / f"{split}.txt"
        try:
            image_ids = dataset.image_ids(split)
        except DataError as error:
            problems.append(Problem("missing split", path, "", str(error).removeprefix(f"{path}: ")))
            continue
        problems += _listed_twice(path, image_ids, listed)
        if split in SPLITS:
            listed |= set(image_ids)
        problems += _check_images(dataset, path, list(dict.fromkeys(image_ids)), on_progress)
    return problems


def _listed_twice(path: Path, image_ids: Sequence[str], before: set[str]) -> Iterator[Problem]:
    for image_id, count in Counter(image_ids).items():
        if count > 1:
            yield Problem("duplicate image id", path, image_id, f"listed {count} times, must be once")
        if path.stem in SPLITS and image_id in before:
            yield Problem("duplicate image id", path, image_id, f"{SPLITS[0]}.txt lists it too, must be in one of them")


def _check_images(
    dataset: PascalContext, path: Path, image_ids: list[str], on_progress: OnProgress | None
) -> Iterator[Problem]:
    teaching: Counter[str] = Counter()
    for done, image_id in enumerate(image_ids, start=1):
        image = dataset.image_file(image_id)
        if is_missing(image):
            yield Problem("missing image file", image, image_id, f"file not found, {path.name} lists it")
        else:
            yield from _check_targets(dataset, path, image_id, teaching)
        if on_progress is not None:
            on_progress(path, done, len(image_ids))
    for task in sorted(task for task in dataset.tasks if not teaching[task]):
        message = f"none of {len(image_ids)} images has a label of {task} with anything but 0 and void"
        yield Problem("task without targets", path, "", message)


def _check_targets(dataset: PascalContext, path: Path, image_id: str, teaching: Counter[str]) -> Iterator[Problem]:
    """What is wrong with an image's labels; counts the tasks in which it has something to learn from."""
    unlabelled = True
    for task in sorted(dataset.tasks):
        try:
            if not dataset.usable(image_id, task):
                continue
            unlabelled = False
            teaching[task] += _has_content(dataset.read(image_id, [task]).targets[task])
        except DataError as error:
            unlabelled = False
            teaching[task] += 1  # what it holds is not known
            yield Problem("unreadable target", path, image_id, str(error))
    if unlabelled:
        yield Problem("no target", path, image_id, f"has no label of any of {', '.join(sorted(dataset.tasks))}")


def _has_content(target: NDArray[Any]) -> bool:
    return bool(((target != 0) & (target != VOID)).any())
