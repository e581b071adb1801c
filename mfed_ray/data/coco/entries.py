"""The entries of a COCO annotation file, decoded one at a time: no more than one is an object of Python at once."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import numpy as np
from msgspec import Meta, Raw, Struct
from numpy.typing import NDArray

from mfed_ray.data.coco.problems import Problem

Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Side = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Flag = Annotated[int, Meta(ge=0, le=1)]
Pixels = Annotated[float, Meta(ge=-1e9, le=1e9)]
Area = Annotated[float, Meta(ge=0, le=1e18)]
Box = tuple[Pixels, Pixels, Pixels, Pixels]

ENTRY = np.dtype(
    [
        ("id", "i8"), ("image", "i8"), ("category", "i8"), ("bbox", "f8", 4), ("area", "f8"), ("crowd", "?"),
        ("num_keypoints", "i4"),
    ]
)  # fmt: skip
"""An object or a panoptic segment as the file has it.

``bbox``: left, top, width, height; ``num_keypoints``: -1 where the file says none.
"""

S = TypeVar("S", bound=Struct)


class AnnotationFile(Struct, gc=False):
    """The two lists of every kind of annotation file, and the third, which some leave out."""

    images: list[Raw]
    annotations: list[Raw]
    categories: list[Raw] = []


class Image(Struct, gc=False):
    """An image that the file lists."""

    id: Id
    file_name: str
    height: Side
    width: Side


class Category(Struct, gc=False):
    """A category that the file lists."""

    id: Id
    name: str


class Annotation(Struct, gc=False, kw_only=True):
    """An object of instances, or the region of a class of stuff."""

    id: Id
    image_id: Id
    category_id: Id
    bbox: Box
    area: Area
    segmentation: Raw
    iscrowd: Flag = 0


class Person(Annotation, gc=False, kw_only=True):
    """An object of person_keypoints: x, y and visibility of 17 keypoints."""

    keypoints: Annotated[list[Pixels], Meta(min_length=51, max_length=51)]
    num_keypoints: Count | None = None


class Segment(Struct, gc=False):
    """A segment of panoptic."""

    id: Id
    category_id: Id
    bbox: Box
    area: Area
    iscrowd: Flag = 0


class SegmentedImage(Struct, gc=False):
    """The segments of one image; ``file_name``: their PNG."""

    image_id: Id
    file_name: str
    segments_info: list[Segment]


@dataclass
class Entries:
    """N entries in the file's order.

    ``rows``: ENTRY [N]; ``texts``: the JSON of each one's mask, none of panoptic; ``keypoints``: float32 [N, 17, 3],
    [0, 17, 3] of other tasks; ``pngs``: (image id, file name) of each annotated image, of panoptic only.
    """

    rows: NDArray[np.void]
    texts: list[Raw] = field(default_factory=list)
    keypoints: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 17, 3), np.float32))
    pngs: list[tuple[int, str]] = field(default_factory=list)


def read_file(path: Path, problems: list[Problem]) -> AnnotationFile:
    """The file's lists, not yet decoded; empty ones and one problem more if it is no such file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=AnnotationFile)
    except (OSError, ValueError, RecursionError) as error:  # msgspec's own are ValueErrors, but where nested too deep
        problems.append(Problem("unreadable file", path, "", f"no COCO annotation file ({error})"))
        return AnnotationFile([], [])


def decode(raws: list[Raw], of: type[S], path: Path, problems: list[Problem]) -> Iterator[S]:
    """Those of the entries that are well formed; a problem for each of the others."""
    decoder, nouns = msgspec.json.Decoder(of), _NOUNS.get(of, ("annotation", "annotations"))
    for position, raw in enumerate(raws):
        try:
            yield decoder.decode(raw)
        except (ValueError, RecursionError) as error:
            problems.append(Problem("malformed entry", path, _name(raw, nouns, position), str(error)))


_NOUNS: dict[type[Struct], tuple[str, str]] = {Image: ("image", "images"), Category: ("category", "categories")}


def decode_entries(raws: list[Raw], task: str, path: Path, problems: list[Problem]) -> Entries:
    """The entries of a file of the task, as far as they are well formed."""
    entries, keypoints = Entries(np.zeros(0, ENTRY)), array("f")
    if task == "panoptic_segmentation":
        rows = _segments(decode(raws, SegmentedImage, path, problems), entries)
    elif task == "keypoint_detection":
        rows = _people(decode(raws, Person, path, problems), entries, keypoints)
    else:
        rows = _objects(decode(raws, Annotation, path, problems), entries)
    entries.rows = np.fromiter(rows, ENTRY)
    entries.keypoints = np.array(keypoints, np.float32).reshape(-1, 17, 3)
    return entries


_Row = tuple[int, int, int, Box, float, int, int]


def _row(one: Annotation | Segment, image: int, num_keypoints: int | None = None) -> _Row:
    said = -1 if num_keypoints is None else num_keypoints
    return one.id, image, one.category_id, one.bbox, one.area, one.iscrowd, said


def _objects(annotations: Iterator[Annotation], entries: Entries) -> Iterator[_Row]:
    for one in annotations:
        entries.texts.append(one.segmentation)
        yield _row(one, one.image_id)


def _people(people: Iterator[Person], entries: Entries, keypoints: "array[float]") -> Iterator[_Row]:
    for one in people:
        entries.texts.append(one.segmentation)
        keypoints.extend(one.keypoints)
        yield _row(one, one.image_id, one.num_keypoints)


def _segments(images: Iterator[SegmentedImage], entries: Entries) -> Iterator[_Row]:
    for image in images:
        entries.pngs.append((image.image_id, image.file_name))
        yield from (_row(one, image.image_id) for one in image.segments_info)


def _name(raw: Raw, nouns: tuple[str, str], position: int) -> str:
    """How a malformed entry is called: by its id if it has one, else by its place in the list."""
    try:
        content = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        content = None
    noun, found = nouns[0], content if isinstance(content, dict) else {}
    for key in ("id", "image_id"):
        if key in found:
            return f"{noun} {found[key]}" if key == "id" else f"{noun} of image {found[key]}"
    return f"{nouns[1]}[{position}]"
