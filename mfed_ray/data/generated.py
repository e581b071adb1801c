"""Generated stand-ins for PASCAL-Context and COCO: procedural scenes in the layouts of both, made offline.

The same parameters give the same bytes, whatever the number of ``processes`` (with several, call the functions under
``if __name__ == "__main__"``). A folder appears whole, at the end, or not at all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mfed_ray.data import coco_writer, pascal_writer
from mfed_ray.data.generated_folder import Parameters, check_processes, generate_folder, scenes_written
from mfed_ray.data.texture_boards import generate_textures

FORMAT_VERSION = 1
"""Raised whenever the same parameters would give another folder of PASCAL-Context."""

COCO_FORMAT_VERSION = 1
"""Raised whenever the same parameters would give another folder of COCO."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _CocoParameters(Parameters):
    layout: str = "coco"


def generate_pascal_context(
    root: str | Path,
    images: int = 500,
    size: int = 96,
    seed: int = 0,
    val_fraction: float = 0.25,
    on_progress: Progress | None = None,
    processes: int = 1,
) -> None:
    """Write a dataset for ``PascalContext`` into the new folder ``root``: all five tasks, splits train and val.

    ``images``: number of images, each ``size`` x ``size`` pixels; every second one has people in it, in both splits.
    ``on_progress`` is called with the number of images done and the total.
    If the folder is already there with these parameters nothing is done.

    Raises ConfigError if a number is out of range, DataError if ``root`` holds anything else or its parent folder
    cannot be made.
    """
    check_processes(processes)
    parameters = Parameters(images, size, seed, val_fraction, FORMAT_VERSION)
    write = partial(_write_pascal, parameters=parameters, on_progress=on_progress, processes=processes)
    generate_folder(Path(root), parameters, write)


def generate_coco(
    root: str | Path,
    images: int = 500,
    size: int = 96,
    seed: int = 0,
    val_fraction: float = 0.25,
    on_progress: Progress | None = None,
    processes: int = 1,
) -> None:
    """Write a dataset for ``Coco`` into the new folder ``root``: all four kinds of annotations, splits train and val.

    The pictures, parameters, promises and errors are those of ``generate_pascal_context``.
    """
    check_processes(processes)
    parameters = _CocoParameters(images, size, seed, val_fraction, COCO_FORMAT_VERSION)
    write = partial(_write_coco, parameters=parameters, on_progress=on_progress, processes=processes)
    generate_folder(Path(root), parameters, write)


LAYOUTS = {"pascal_context": generate_pascal_context, "coco": generate_coco, "textures": generate_textures}
"""What can be generated, by the names in configurations and on the command line."""


def _write_pascal(root: Path, parameters: Parameters, on_progress: Progress | None, processes: int) -> None:
    names = [f"generated_{index:06d}" for index in range(parameters.images)]
    for folder in pascal_writer.FOLDERS:
        (root / folder).mkdir(parents=True)
    pascal_writer.write_splits(root, names, parameters.splits())
    writers = [partial(pascal_writer.write_scene, root, name) for name in names]
    for _ in scenes_written(parameters, writers, on_progress, processes):
        pass


def _write_coco(root: Path, parameters: Parameters, on_progress: Progress | None, processes: int) -> None:
    coco_writer.make_folders(root)
    train, val = parameters.splits()
    split_of = dict.fromkeys(train, "train2017") | dict.fromkeys(val, "val2017")
    writers = [partial(coco_writer.write_scene, root, split_of[i], i + 1) for i in range(parameters.images)]
    written = list(scenes_written(parameters, writers, on_progress, processes))
    for split, indices in (("train2017", train), ("val2017", val)):
        coco_writer.write_annotations(root, split, [written[index] for index in indices])
