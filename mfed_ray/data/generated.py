"""A generated stand-in for PASCAL-Context: procedural scenes in the layout of PASCAL_MT, made offline."""

import json
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from mfed_ray.data.pascal_writer import FOLDERS, write_scene
from mfed_ray.data.scenes.composition import make_scene
from mfed_ray.errors import ConfigError, DataError

FORMAT_VERSION = 1
"""Raised whenever the same parameters would give other images."""

_RECORD = "generated.json"


@dataclass(frozen=True)
class _Parameters:
    images: int
    size: int
    seed: int
    val_fraction: float
    format_version: int = FORMAT_VERSION


def generate_pascal_context(
    root: str | Path,
    images: int = 500,
    size: int = 96,
    seed: int = 0,
    val_fraction: float = 0.25,
    on_progress: Callable[[int, int], None] | None = None,
    processes: int = 1,
) -> None:
    """Write a dataset for ``PascalContext`` into the new folder ``root``: all five tasks, splits train and val.

    ``images``: number of images, each ``size`` x ``size`` pixels; every second one has people in it, in both splits.
    ``on_progress`` is called with the number of images done and the total. The same parameters give the same bytes,
    whatever the number of ``processes`` (with several, call it under ``if __name__ == "__main__"``).
    The folder appears whole, at the end, or not at all. If it is already there with these parameters nothing is done.

    Raises ConfigError if a number is out of range, DataError if ``root`` holds anything else or its parent folder
    cannot be made.
    """
    parameters = _Parameters(images, size, seed, val_fraction)
    _check(parameters, processes)
    root = Path(root)
    if _already_there(root, parameters):
        return
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{root.parent}: cannot be made a folder ({error.strerror})") from error
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
        building = Path(scratch) / root.name
        _write(building, parameters, on_progress, processes)
        try:
            building.rename(root)
        except OSError:  # another process was faster
            if not _already_there(root, parameters):
                raise


def _check(parameters: _Parameters, processes: int) -> None:
    if parameters.images < 4:
        raise ConfigError(f"images: {parameters.images} found, must be at least 4")
    if not 32 <= parameters.size <= 1024:
        raise ConfigError(f"size: {parameters.size} found, must be from 32 to 1024 pixels")
    if parameters.seed < 0:
        raise ConfigError(f"seed: {parameters.seed} found, must not be negative")
    if not 0 < parameters.val_fraction < 1:
        raise ConfigError(f"val_fraction: {parameters.val_fraction} found, must be between 0 and 1")
    if processes < 1:
        raise ConfigError(f"processes: {processes} found, must be at least 1")


def _already_there(root: Path, parameters: _Parameters) -> bool:
    """Whether ``root`` holds just this dataset. Raises DataError if it holds anything else."""
    if not root.exists():
        return False
    if not root.is_dir():
        raise DataError(f"{root}: is a file, a dataset needs a new or empty folder")
    record = root / _RECORD
    if not record.is_file():
        if any(root.iterdir()):
            raise DataError(f"{root}: is not empty and was not generated here, nothing was overwritten")
        return False
    found, wanted = json.loads(record.read_text(encoding="utf-8")), asdict(parameters)
    if found != wanted:
        differing = [
            f"{key} {found.get(key)} (asked for: {value})" for key, value in wanted.items() if found.get(key) != value
        ]
        raise DataError(f"{root}: was generated with {', '.join(differing)}, nothing was overwritten")
    return True


def _write(root: Path, parameters: _Parameters, on_progress: Callable[[int, int], None] | None, processes: int) -> None:
    for folder in (*FOLDERS, "ImageSets/Context"):
        (root / folder).mkdir(parents=True)
    for split, indices in zip(("train", "val"), _split(parameters), strict=True):
        lines = "".join(f"{_image_id(index)}\n" for index in indices)
        (root / "ImageSets/Context" / f"{split}.txt").write_text(lines, encoding="utf-8")
    for done, _ in enumerate(_scenes_written(root, parameters, processes), start=1):
        if on_progress is not None:
            on_progress(done, parameters.images)
    (root / _RECORD).write_text(json.dumps(asdict(parameters), indent=2) + "\n", encoding="utf-8")


def _scenes_written(root: Path, parameters: _Parameters, processes: int) -> Iterator[None]:
    write = partial(_write_one, root, parameters)
    if processes == 1:
        yield from map(write, range(parameters.images))
        return
    # not forked: the calling process may hold threads and a GPU
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(write, range(parameters.images), chunksize=8)


def _write_one(root: Path, parameters: _Parameters, index: int) -> None:
    rng = np.random.default_rng([parameters.seed, index])
    write_scene(root, _image_id(index), make_scene(rng, parameters.size, _has_people(index)))


def _image_id(index: int) -> str:
    return f"generated_{index:06d}"


def _has_people(index: int) -> bool:
    return index % 2 == 0


def _split(parameters: _Parameters) -> tuple[list[int], list[int]]:
    """Indices of train and val, drawn apart among images with and without people: both splits get both."""
    rng = np.random.default_rng([parameters.seed, parameters.images])
    val: list[int] = []
    for start in (0, 1):
        indices = rng.permutation(np.arange(start, parameters.images, 2))
        count = min(max(round(parameters.val_fraction * len(indices)), 1), len(indices) - 1)
        val += indices[:count].tolist()
    return sorted(set(range(parameters.images)) - set(val)), sorted(val)
