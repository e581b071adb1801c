"""One scene to the files of PASCAL_MT, the layout that ``PascalContext`` reads. The same scene gives the same bytes."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from mfed_ray.data.scenes.composition import Scene
from mfed_ray.data.scenes.people import PART_NAMES
from mfed_ray.labels import PASCAL_CLASSES

FOLDERS = ("JPEGImages", "semseg/VOC12", "human_parts", "pascal-context/trainval", "sal_distill", "normals_distill")
_HEADER = b"MATLAB 5.0 MAT-file".ljust(116)  # SciPy writes the time of day here


def write_splits(root: Path, names: Sequence[str], splits: tuple[Sequence[int], Sequence[int]]) -> None:
    """Write the lists of train and val: ``names`` by the indices of each."""
    folder = root / "ImageSets/Context"
    folder.mkdir(parents=True)
    for split, indices in zip(("train", "val"), splits, strict=True):
        (folder / f"{split}.txt").write_text("".join(f"{names[index]}\n" for index in indices), encoding="utf-8")


def write_scene(root: Path, image_id: str, scene: Scene) -> None:
    """Write the image and its five labels below ``root``, where ``FOLDERS`` exist."""
    Image.fromarray(scene.image).save(root / "JPEGImages" / f"{image_id}.jpg", quality=92)
    classes = Image.fromarray(scene.classes)
    classes.putpalette(_palette())
    classes.save(root / "semseg/VOC12" / f"{image_id}.png")
    save_mat(root / "human_parts" / f"{image_id}.mat", {"anno": _annotation(image_id, scene)})
    save_mat(root / "pascal-context/trainval" / f"{image_id}.mat", {"LabelMap": scene.labels})
    Image.fromarray(scene.salient.astype(np.uint8) * 255).save(root / "sal_distill" / f"{image_id}.png")
    normals = np.round((scene.normals + 1) * 127.5).astype(np.uint8)
    Image.fromarray(normals).save(root / "normals_distill" / f"{image_id}.png")


def _palette() -> list[int]:
    """PASCAL VOC's colours: bit k of the label's 3-bit groups sets bit 7 - k of red, green, blue."""
    return [
        sum((label >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8))
        for label in range(256)
        for channel in range(3)
    ]


def _annotation(image_id: str, scene: Scene) -> NDArray[Any]:
    """PASCAL-Part's nested structure: every object, and of people the parts that are seen."""
    objects = np.empty((1, len(scene.objects)), _fields("class", "class_ind", "mask", "parts"))
    for column, one in enumerate(scene.objects):
        mask = scene.instances == one.number
        parts = _parts(np.where(mask, scene.parts, 0))
        objects[0, column] = (PASCAL_CLASSES[one.label], one.label, mask.astype(np.uint8), parts)
    annotation = np.empty((1, 1), _fields("imname", "objects"))
    annotation[0, 0] = (image_id, objects)
    return annotation


def _parts(numbers: NDArray[np.uint8]) -> NDArray[Any]:
    seen = [number for number in range(1, len(PART_NAMES) + 1) if np.any(numbers == number)]
    parts = np.empty((1, len(seen)) if seen else (0, 0), _fields("part_name", "mask"))
    for column, number in enumerate(seen):
        parts[0, column] = (PART_NAMES[number - 1], (numbers == number).astype(np.uint8))
    return parts


def _fields(*names: str) -> list[tuple[str, type]]:
    return [(name, object) for name in names]


def save_mat(path: Path, content: dict[str, NDArray[Any]]) -> None:
    """Write the variables as a MATLAB file without the time of day."""
    buffer = io.BytesIO()
    savemat(buffer, content, do_compression=True)  # type: ignore[arg-type]  # the stubs know paths only
    path.write_bytes(_HEADER + buffer.getvalue()[len(_HEADER) :])
