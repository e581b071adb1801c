"""All that is wrong with a COCO 2017 folder, at once."""

from collections.abc import Callable, Container, Iterator
from pathlib import Path

import numpy as np

from mfed_ray.data.coco.disagreements import disagreements
from mfed_ray.data.coco.images import wrong_image
from mfed_ray.data.coco.layout import FILES, FOLDERS, annotation_file, is_missing
from mfed_ray.data.coco.masks import decode_masks
from mfed_ray.data.coco.panoptic import read_segments, wrong_areas
from mfed_ray.data.coco.parsing import parse
from mfed_ray.data.coco.problems import Problem
from mfed_ray.data.coco.reader import Coco
from mfed_ray.data.coco.table import Table

OnProgress = Callable[[Path, int, int], None]
"""Called with an annotation file, how many of its images are done, and of how many."""


def check(root: str | Path, on_progress: OnProgress | None = None) -> list[Problem]:
    """Every problem of the folder, file by file: the kinds are listed at ``Problem``.

    Annotation files are parsed, every mask and every image is decoded, every panoptic PNG compared with its annotation.
    Raises DataError if ``root`` is no folder or has no annotation file; one that cannot be read is a problem.
    """
    root = Coco(root).root
    problems: list[Problem] = []
    for folder in FOLDERS.values():
        seen: set[tuple[str, tuple[int, int]]] = set()
        for task in FILES:
            path = annotation_file(root, task, folder)
            if not is_missing(path):
                table, found = parse(path, task)
                problems += found
                named = {problem.id for problem in found}
                for position in range(len(table.ids)):
                    problems += _check_image(root / folder, table, position, seen, named)
                    if on_progress:
                        on_progress(path, position + 1, len(table.ids))
    return problems


def _check_image(
    images: Path, table: Table, position: int, seen: set[tuple[str, tuple[int, int]]], named: Container[str]
) -> Iterator[Problem]:
    """What is wrong with an image's file, if no annotation file ``seen`` has said the same of it, and its targets.

    ``named``: the annotations of which something is known to be wrong.
    """
    said = str(table.names[position]), table.size(position)
    if said not in seen:
        seen.add(said)
        yield from wrong_image(images / said[0], table, position)
    if table.task == "panoptic_segmentation":
        segments, problems = read_segments(table, position)
        yield from problems
        yield from wrong_areas(table, position, segments.map)
        masks = (segments.map == segments.ids[:, None, None]).astype(np.uint8)
    else:
        masks, problems = decode_masks(table, position)
        yield from problems
    yield from disagreements(table, position, masks, named)
