"""What is wrong with a COCO folder, as the checker lists it, and the error that a reader makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mfed_ray.errors import DataError

ZERO_SIZE = "zero-size box"
"""The one kind that is no reason to refuse a folder: COCO's own files have a few, which are not trained on."""


@dataclass(frozen=True)
class Problem:
    """One problem: its ``kind``, the file, the ``id`` of image or annotation there, and what was found and is allowed.

    Kinds found in an annotation file: "unreadable file", "malformed entry", "duplicate image id", "missing image",
    "unknown category", "box outside image", "zero-size box", "broken mask"; beside it: "missing image file",
    "wrong image size", "missing PNG", "panoptic ids disagree", "panoptic area disagrees".
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
