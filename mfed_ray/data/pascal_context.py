"""Reader of PASCAL-Context in the multi-task layout of PASCAL_MT (ASTMT, Maninis et al., CVPR 2019)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfed_ray.data.coco.layout import is_missing
from mfed_ray.data.files import RECORD, read_image, read_label, read_mat_variables
from mfed_ray.data.human_parts import has_human_parts, read_human_parts
from mfed_ray.data.normal_classes import KNOWN_TO_NYUD
from mfed_ray.data.resampling import nearest
from mfed_ray.data.sample import Sample
from mfed_ray.errors import DataError
from mfed_ray.labels import PASCAL_CLASSES, VOID

_FOLDERS = {
    "semantic_segmentation": ("semseg/VOC12", "semseg/pascal-context"),  # an image's label is in the first that has it
    "human_parts": ("human_parts",),
    "saliency": ("sal_distill",),
    "edge_detection": ("pascal-context/trainval",),
    "surface_normals": ("normals_distill",),
}
DISTILLED = frozenset({"saliency", "surface_normals"})
"""Tasks whose labels are another network's predictions, which may be of another size than their image."""
_SUFFIX = {"human_parts": ".mat", "edge_detection": ".mat"}


class PascalContext:
    """A folder in the layout of PASCAL_MT; implements ``mfed_ray.data.sample.Dataset``.

    The tasks are those whose label folders exist. Nothing is cached, neither on disk nor in memory.
    Raises DataError if ``root`` is no folder or has no label folder of any task.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such dataset folder")
        self._generated = (self.root / RECORD).is_file()
        self._tasks = frozenset(
            task for task, folders in _FOLDERS.items() if any((self.root / folder).is_dir() for folder in folders)
        )
        if not self._tasks:
            allowed = ", ".join(folder for folders in _FOLDERS.values() for folder in folders)
            raise DataError(f"{self.root}: has no label folder of any task, looked for: {allowed}")

    @property
    def tasks(self) -> frozenset[str]:
        """Names of the tasks whose label folders exist."""
        return self._tasks

    def image_ids(self, split: str) -> Sequence[str]:
        """Ids of ``ImageSets/Context/<split>.txt``, in its order. Raises DataError if it is missing or empty."""
        path = self.root / "ImageSets" / "Context" / f"{split}.txt"
        if not path.is_file():
            splits = ", ".join(sorted(other.stem for other in path.parent.glob("*.txt"))) or "none"
            raise DataError(f"{path}: no file for split {split!r}, this dataset has: {splits}")
        try:
            ids = path.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as a list of image ids ({error})") from error
        if not ids:
            raise DataError(f"{path}: split {split!r} is empty, it must name at least one image")
        return ids

    def image_file(self, image_id: str) -> Path:
        """Where the image is."""
        return self.root / "JPEGImages" / f"{image_id}.jpg"

    def usable(self, image_id: str, task: str) -> bool:
        """Whether the image has a target: its label file exists and, for human_parts, has a person with parts.

        Raises DataError if the dataset has no such task or the part annotation is unreadable.
        """
        path = self._label_path(image_id, task)
        return not is_missing(path) and (task != "human_parts" or has_human_parts(path))

    def trainable(self, image_id: str, task: str) -> bool:
        """The same: every target has something to learn from."""
        return self.usable(image_id, task)

    def dominant_class(self, image_id: str) -> int:
        """The class 1..20 that covers most of the image, the lowest on a tie; 0 if there is only background.

        Raises DataError if the dataset has no semantic segmentation or the label is wrong.
        """
        labels = _semantic_segmentation(self._label_path(image_id, "semantic_segmentation"))
        counts = np.bincount(labels.ravel(), minlength=VOID + 1)[1 : len(PASCAL_CLASSES)]
        return int(counts.argmax()) + 1 if counts.any() else 0

    def read(self, image_id: str, tasks: Sequence[str]) -> Sample:
        """The image with the targets of just these tasks, shapes and types as ``Sample`` says.

        A label of ``DISTILLED`` of another size than its image is resized by nearest neighbour. ASTMT does so for
        saliency; normals it resizes by cubic interpolation, which mixes directions across objects and with void.
        Outside folders that were generated here, normals are void where ``LabelMap`` has a class that NYUD does not
        know, as in ASTMT (``mfed_ray.data.normal_classes``); where the image has no such file they all count.

        Raises DataError if a file is missing or unreadable, or a label is out of range or not of the image's size.
        """
        paths = {task: self._label_path(image_id, task) for task in tasks}
        image = read_image(self.image_file(image_id))
        targets = {task: _READERS[task](path) for task, path in paths.items()}
        if "surface_normals" in targets and not self._generated:
            targets["surface_normals"] = self._of_known_classes(image_id, targets["surface_normals"])
        for task, target in targets.items():
            if task in DISTILLED and target.shape[:2] != image.shape[:2]:
                targets[task] = nearest(target, image.shape[:2])
            _check_size(paths[task], targets[task].shape, image.shape)
        return Sample(image_id, image, targets)

    def _of_known_classes(self, image_id: str, normals: NDArray[np.float32]) -> NDArray[np.float32]:
        """The normals, void outside the classes that NYUD knows."""
        path = self.root / _FOLDERS["edge_detection"][0] / f"{image_id}.mat"
        if is_missing(path):
            return normals
        labels = read_mat_variables(path, ("LabelMap",)).get("LabelMap")
        if labels is None or labels.ndim != 2 or not labels.size:
            return normals
        known = np.isin(nearest(labels, normals.shape[:2]), KNOWN_TO_NYUD)
        return normals * known[:, :, None]

    def _label_path(self, image_id: str, task: str) -> Path:
        if task not in self._tasks:
            raise DataError(f"{self.root}: has no task {task!r}, it has: {', '.join(sorted(self._tasks))}")
        name = image_id + _SUFFIX.get(task, ".png")
        paths = [self.root / folder / name for folder in _FOLDERS[task]]
        return next((path for path in paths if not is_missing(path)), paths[0])


def _semantic_segmentation(path: Path) -> NDArray[np.uint8]:
    labels = read_label(path)
    wrong = labels[(labels >= len(PASCAL_CLASSES)) & (labels != VOID)]
    if wrong.size:
        raise DataError(f"{path}: class {wrong.max()} found, allowed are 0 to {len(PASCAL_CLASSES) - 1}, and {VOID}")
    return labels


def _saliency(path: Path) -> NDArray[np.uint8]:
    return (read_label(path) > 127.5).astype(np.uint8)


def _edges(path: Path) -> NDArray[np.uint8]:
    """uint8 [H, W, A]: the annotators' own maps where the file has them (BSDS), else the boundary of LabelMap."""
    found = read_mat_variables(path, ("Boundaries", "LabelMap"))
    if "Boundaries" in found:
        boundaries: NDArray[Any] = found["Boundaries"]
        if boundaries.ndim != 3:
            raise DataError(f"{path}: 'Boundaries' has shape {boundaries.shape}, allowed is (annotators, H, W)")
        return np.ascontiguousarray(boundaries.transpose(1, 2, 0) != 0).astype(np.uint8)
    if "LabelMap" not in found:
        raise DataError(f"{path}: has neither 'Boundaries' nor 'LabelMap'")
    from mfed_ray.boundaries import label_boundaries  # compiled code, for edges alone

    return label_boundaries(found["LabelMap"])[:, :, None]


def _normals(path: Path) -> NDArray[np.float32]:
    """float32 [H, W, 3]: n = 2 v / 255 - 1, made unit length.

    Void (the zero vector): black pixels, and those near mid-grey (length under 0.5), which code no direction.
    """
    values = read_image(path)
    vectors = values.astype(np.float32) * np.float32(2 / 255) - np.float32(1)
    length = np.sqrt(np.einsum("hwc,hwc->hw", vectors, vectors))
    valid = (length >= 0.5) & values.any(axis=2)
    vectors *= (valid / np.where(valid, length, np.float32(1)))[:, :, None]
    return vectors


def _check_size(path: Path, label: tuple[int, ...], image: tuple[int, ...]) -> None:
    if label[:2] != image[:2]:
        raise DataError(
            f"{path}: label is {label[1]} x {label[0]} pixels but its image is {image[1]} x {image[0]} (width x height)"
        )


_READERS: dict[str, Callable[[Path], NDArray[Any]]] = {
    "semantic_segmentation": _semantic_segmentation,
    "human_parts": read_human_parts,
    "saliency": _saliency,
    "edge_detection": _edges,
    "surface_normals": _normals,
}
