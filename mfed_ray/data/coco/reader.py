"""Reader of COCO 2017 folders (Lin et al., arXiv 1405.0312; Kirillov et al., arXiv 1801.00868)."""

from collections.abc import Sequence
from pathlib import Path

from mfed_ray.data.coco.images import wrong_size
from mfed_ray.data.coco.index import open_table
from mfed_ray.data.coco.layout import FILES, FOLDERS, annotation_file, is_folder, is_missing
from mfed_ray.data.coco.problems import refuse
from mfed_ray.data.coco.table import Table
from mfed_ray.data.coco.targets import TARGETS, largest_thing, teaches
from mfed_ray.data.files import read_image
from mfed_ray.data.sample import Sample
from mfed_ray.errors import DataError

_CLASSES = ("instance_segmentation", "panoptic_segmentation", "keypoint_detection", "stuff_segmentation")


class Coco:
    """A COCO 2017 folder; implements ``mfed_ray.data.sample.Dataset``.

    An image's id is its folder and COCO's number, "val2017/139". The tasks are those with an annotation file of some
    split. Annotation files are indexed at first use (``mfed_ray.data.coco.index``), a copy by pickle has only the path.
    Panoptic segments are what their PNG shows: an ``area`` in the annotation file that is not their number of pixels is
    not read, and named by ``check`` alone.
    Raises DataError if ``root`` is no folder or has no annotation file, and, from every method, if an annotation file
    cannot be read or is wrong (``mfed_ray.data.coco.problems``): with the first problem and how many more there are.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not is_folder(self.root):
            raise DataError(f"{self.root}: no such dataset folder")
        self._tables: dict[tuple[str, str], Table] = {}
        self._files = {
            (task, folder): path
            for task in FILES
            for folder in FOLDERS.values()
            if not is_missing(path := annotation_file(self.root, task, folder))
        }
        self._tasks = frozenset(task for task, _ in self._files)
        if not self._tasks:
            names = ", ".join(f"{name}_{folder}.json" for name in FILES.values() for folder in FOLDERS.values())
            raise DataError(f"{self.root / 'annotations'}: has no annotation file of any task, looked for: {names}")

    def __reduce__(self) -> tuple[type["Coco"], tuple[Path]]:
        return Coco, (self.root,)

    @property
    def tasks(self) -> frozenset[str]:
        """Names of the tasks that have an annotation file."""
        return self._tasks

    def image_ids(self, split: str) -> Sequence[str]:
        """Ids of the images that any of the split's annotation files lists, in the first one's order, then the next's.

        Raises DataError if the split has no such file or they list no image.
        """
        folder = FOLDERS.get(split, "")
        tables = [self._table(task, folder) for task in FILES if (task, folder) in self._files]
        if not tables:
            splits = ", ".join(name for name, one in FOLDERS.items() if any(one == other for _, other in self._files))
            raise DataError(f"{self.root}: no annotation file for split {split!r}, this dataset has: {splits}")
        ids = dict.fromkeys(f"{folder}/{number}" for table in tables for number in table.ids[table.listed].tolist())
        if not ids:
            raise DataError(f"{self.root}: split {split!r} is empty, an annotation file must list at least one image")
        return list(ids)

    def usable(self, image_id: str, task: str) -> bool:
        """Whether the task's annotation file lists the image, with or without objects; of panoptic, with a PNG.

        Raises DataError if the dataset has no such task.
        """
        return self._find(image_id, task) is not None

    def trainable(self, image_id: str, task: str) -> bool:
        """Whether training on the image teaches the task anything (``mfed_ray.data.coco.targets.teaches``).

        Raises DataError if the dataset has no such task.
        """
        found = self._find(image_id, task)
        return found is not None and teaches(*found)

    def dominant_class(self, image_id: str) -> int:
        """The label 1..80 of the objects with the largest area together, crowds aside, the lowest on a tie; 0 if none.

        From the first of the annotation files of instances, panoptic, person_keypoints (people only) that lists the
        image; stuff has no objects. Raises DataError if none lists it.
        """
        return largest_thing(*self._first(image_id))

    def read(self, image_id: str, tasks: Sequence[str]) -> Sample:
        """The image with the targets of just these tasks, all annotations of each, crowds and zero-size boxes as well.

        Raises DataError if a task does not have the image, a file is missing or unreadable, the image or a PNG is not
        of the annotated size, a mask is broken, or a PNG's ids are not those of its annotation.
        """
        found = {task: self._get(image_id, task) for task in tasks}
        table, position = next(iter(found.values())) if found else self._first(image_id)
        path = self.root / image_id.partition("/")[0] / str(table.names[position])
        image = read_image(path)
        for entry in found.values():
            refuse(self.root, wrong_size(path, *entry, image.shape[:2]))
        targets = {}
        for task, entry in found.items():
            targets[task], problems = TARGETS[task](*entry)
            refuse(self.root, problems)
        return Sample(image_id, image, targets)

    def _table(self, task: str, folder: str) -> Table:
        """The columns of one of the annotation files."""
        key = (task, folder)
        if key not in self._tables:
            self._tables[key] = open_table(self.root, self._files[key], task)
        return self._tables[key]

    def _find(self, image_id: str, task: str) -> tuple[Table, int] | None:
        """The task's columns and where the image stands in them, None if it does not."""
        if task not in self._tasks:
            raise DataError(f"{self.root}: has no task {task!r}, it has: {', '.join(sorted(self._tasks))}")
        folder, _, number = image_id.partition("/")
        if (task, folder) not in self._files or not number.isdecimal():
            return None
        table = self._table(task, folder)
        position = table.find(int(number))
        return None if position is None else (table, position)

    def _get(self, image_id: str, task: str) -> tuple[Table, int]:
        found = self._find(image_id, task)
        if found is None:
            raise DataError(f"{self.root}: {task} has no image {image_id!r}")
        return found

    def _first(self, image_id: str) -> tuple[Table, int]:
        """Of the annotation files that list the image, the one that knows most of its objects."""
        tasks = (task for task in _CLASSES if task in self._tasks)
        found = next((found for task in tasks if (found := self._find(image_id, task))), None)
        if found is None:
            raise DataError(f"{self.root}: no annotation file lists an image {image_id!r}")
        return found
