"""What is wrong with a COCO folder, as the checker lists it, and the error that a reader makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mfed_ray.errors import DataError

TOLERATED = frozenset(
    {
        "zero-size box",
        "duplicate annotation id",
        "keypoint outside image",
        "num_keypoints disagrees",
        "unannotated image",
        "missing category",
    }
)
"""Kinds found in an annotation file that are no reason to refuse it: training is right all the same.

COCO's own files have a few zero-size boxes, which are not trained on; nor are keypoints outside their box, nor panoptic
images without annotation; ids of annotations, ``num_keypoints`` and the list of categories are not used.
"""


@dataclass(frozen=True)
class Problem:
    """One problem: its ``kind``, the file, the ``id`` of image or annotation there, and what was found and is allowed.

    Kinds found in an annotation file, for which the reader refuses it: "unreadable file", "malformed entry",
    "duplicate image id", "missing image", "wrong category name", "unknown category", "box outside image",
    "wrong visibility"; and those of ``TOLERATED``. For which it refuses an image: "unreadable file", "broken mask",
    "missing image file", "wrong image size", "missing PNG", "panoptic ids disagree". For which it refuses nothing:
    "panoptic area disagrees", "area disagrees", "box off its mask", "keypoint far from box".
    """

    kind: str
    file: Path
    id: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.file), self.id, self.message) if part)


def refuse(root: Path, problems: Sequence[Problem]) -> None:
    """Raise DataError with the first problem and the number of the others, if there is one."""
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}; `mfed data check {root}` lists all")
