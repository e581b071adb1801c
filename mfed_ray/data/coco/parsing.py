"""A COCO annotation file to columns, and what is wrong with it: the one place where what it says is validated."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from mfed_ray.data.coco.entries import Category, Entries, Image, decode, decode_entries, read_file
from mfed_ray.data.coco.layout import LABELS, NAMES, to_labels
from mfed_ray.data.coco.problems import Problem
from mfed_ray.data.coco.rows import wrong_rows
from mfed_ray.data.coco.table import ROW, Table


def parse(path: Path, task: str) -> tuple[Table, list[Problem]]:
    """The task's annotation file in columns, and all that is wrong with it, its masks and PNGs aside.

    Left out of the columns: malformed entries, annotations of a missing image, all but the first image of an id, and
    of a panoptic file the images without a PNG.
    """
    problems: list[Problem] = []
    content = read_file(path, problems)
    categories = list(decode(content.categories, Category, path, problems))
    problems.extend(_wrong_names(categories, path))
    images = _images(content.images, path, problems)
    entries = decode_entries(content.annotations, task, path, problems)
    problems.extend(_missing_categories(entries.rows["category"], categories, task, path))
    if task == "panoptic_segmentation":
        pngs = _pngs(entries, images, path, problems)
        images = {image: images[image] for image in images if image in pngs}
    else:
        pngs = {}
        problems.extend(_missing_images(entries.rows, images, path))
    entries = _arranged(entries, list(images))
    table = _table(path, task, images, pngs, entries)
    problems.extend(wrong_rows(table, entries.rows))
    return table, problems


def _wrong_names(categories: Iterable[Category], path: Path) -> list[Problem]:
    """Categories by whose ids the file means something else than COCO; ids unknown to COCO mean nothing until used."""
    return [
        Problem(
            "wrong category name", path, f"category {one.id}", f"name {one.name!r} found, must be {NAMES[one.id]!r}"
        )
        for one in categories
        if one.name != NAMES.get(one.id, one.name)
    ]


def _missing_categories(
    used: NDArray[np.int64], categories: Sequence[Category], task: str, path: Path
) -> Iterator[Problem]:
    """COCO's categories that annotations use and the file does not list; one problem if it lists none at all."""
    listed = {one.id for one in categories}
    missing = [one for one in np.unique(used).tolist() if one in LABELS[task] and one not in listed]
    if missing and not listed:
        yield Problem("missing category", path, "", f"no categories found, {len(missing)} are used")
    elif missing:
        told = ", ".join(f"{one} ({NAMES[one]})" for one in missing)
        yield Problem("missing category", path, "", f"categories that are used are not listed: {told}")


def _images(raws: list[Raw], path: Path, problems: list[Problem]) -> dict[int, Image]:
    """The images by id, in the file's order."""
    images: dict[int, Image] = {}
    again = [one.id for one in decode(raws, Image, path, problems) if images.setdefault(one.id, one) is not one]
    problems.extend(Problem("duplicate image id", path, f"image {one}", "listed more than once") for one in again)
    return images


def _pngs(entries: Entries, images: Mapping[int, Image], path: Path, problems: list[Problem]) -> dict[int, str]:
    """The panoptic PNG of each image that has one."""
    pngs: dict[int, str] = {}
    for image, name in entries.pngs:
        if image not in images:
            problems.append(Problem("missing image", path, f"annotation of image {image}", _NOT_LISTED))
        elif image in pngs:
            problems.append(Problem("duplicate image id", path, f"image {image}", "annotated more than once"))
        else:
            pngs[image] = name
    bare = [image for image in images if image not in pngs]
    problems.extend(Problem("unannotated image", path, f"image {one}", "listed, but not annotated") for one in bare)
    return pngs


def _missing_images(rows: NDArray[np.void], images: Mapping[int, Image], path: Path) -> Iterator[Problem]:
    for row in rows[~np.isin(rows["image"], list(images))]:
        yield Problem("missing image", path, f"annotation {row['id']} of image {row['image']}", _NOT_LISTED)


_NOT_LISTED = "the file lists no such image"


def _arranged(entries: Entries, images: list[int]) -> Entries:
    """The entries of these images, image by image."""
    known = np.flatnonzero(np.isin(entries.rows["image"], images))
    order = known[np.argsort(entries.rows["image"][known], kind="stable")]
    texts = [entries.texts[row] for row in order.tolist()] if entries.texts else []
    keypoints = entries.keypoints[order] if len(entries.keypoints) else entries.keypoints
    return Entries(entries.rows[order], texts, keypoints)


def _table(path: Path, task: str, images: Mapping[int, Image], pngs: Mapping[int, str], entries: Entries) -> Table:
    ids = np.array(sorted(images), np.int64)
    ordered = [images[image] for image in ids.tolist()]
    return Table(
        path,
        task,
        ids=ids,
        listed=ids.searchsorted(np.array(list(images), np.int64)),
        sizes=np.array([(image.height, image.width) for image in ordered], np.int32).reshape(-1, 2),
        names=np.array([image.file_name for image in ordered], np.str_),
        pngs=np.array([pngs.get(image.id, "") for image in ordered], np.str_),
        starts=entries.rows["image"].searchsorted(np.append(ids, 2**63 - 1)),
        rows=_rows(entries.rows, task),
        keypoints=entries.keypoints,
        text=np.frombuffer(b"".join(entries.texts), np.uint8),
        text_starts=np.array([0, *accumulate(memoryview(text).nbytes for text in entries.texts)], np.int64),
    )


def _rows(found: NDArray[np.void], task: str) -> NDArray[np.void]:
    rows = np.zeros(len(found), ROW)
    corner, extent = found["bbox"][:, :2], found["bbox"][:, 2:]
    rows["box"] = np.concatenate((corner, corner + extent), axis=1)
    rows["label"] = to_labels(task, found["category"])
    for name in ("id", "area", "crowd"):
        rows[name] = found[name]
    return rows
