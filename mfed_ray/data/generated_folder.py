"""What every generated dataset shares: its parameters, its splits, and a folder that appears whole or not at all."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mfed_ray.data.files import RECORD
from mfed_ray.data.scenes.composition import Scene, make_scene
from mfed_ray.errors import ConfigError, DataError

Written = TypeVar("Written")


@dataclass(frozen=True)
class Parameters:
    """What a generated folder's bytes follow from; ``generated.json`` holds it.

    ``images``: number of images, each ``size`` x ``size`` pixels; ``val_fraction``: share of them that is not for
    training; ``format_version`` tells apart what different versions of the generator draw.
    """

    images: int
    size: int
    seed: int
    val_fraction: float
    format_version: int

    def check(self) -> None:
        """Raises ConfigError if a number is out of range."""
        if self.images < 4:
            raise ConfigError(f"images: {self.images} found, must be at least 4")
        if not 32 <= self.size <= 1024:
            raise ConfigError(f"size: {self.size} found, must be from 32 to 1024 pixels")
        if self.seed < 0:
            raise ConfigError(f"seed: {self.seed} found, must not be negative")
        if not 0 < self.val_fraction < 1:
            raise ConfigError(f"val_fraction: {self.val_fraction} found, must be between 0 and 1")

    def splits(self) -> tuple[list[int], list[int]]:
        """Indices of train and val, drawn apart among images with and without people: both splits get both."""
        rng = np.random.default_rng([self.seed, self.images])
        val: list[int] = []
        for start in (0, 1):
            indices = rng.permutation(np.arange(start, self.images, 2))
            count = min(max(round(self.val_fraction * len(indices)), 1), len(indices) - 1)
            val += indices[:count].tolist()
        return sorted(set(range(self.images)) - set(val)), sorted(val)

    def scene(self, index: int) -> Scene:
        """Image number ``index``; every second one has people in it."""
        return make_scene(np.random.default_rng([self.seed, index]), self.size, index % 2 == 0)


def generate_folder(root: Path, parameters: Parameters, write: Callable[[Path], None]) -> None:
    """Have ``write`` fill a new folder, which becomes ``root`` when it is complete.

    If ``root`` is there with these parameters nothing is done.

    Raises ConfigError if a parameter is out of range, DataError if ``root`` holds anything else or its parent folder
    cannot be made.
    """
    parameters.check()
    if _already_there(root, parameters):
        return
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{root.parent}: cannot be made a folder ({error.strerror})") from error
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
        building = Path(scratch) / root.name
        building.mkdir()
        write(building)
        (building / RECORD).write_text(json.dumps(asdict(parameters), indent=2) + "\n", encoding="utf-8")
        try:
            building.rename(root)
        except OSError:  # another process was faster
            if not _already_there(root, parameters):
                raise


def scenes_written(
    parameters: Parameters,
    writers: Sequence[Callable[[Scene], Written]],
    on_progress: Callable[[int, int], None] | None,
    processes: int,
) -> Iterator[Written]:
    """What ``writers[i]`` returns of scene i, in order; with several ``processes``, writers must be picklable.

    ``on_progress`` is called with the number of scenes done and the total.
    """
    for done, written in enumerate(_mapped(parameters, writers, processes), start=1):
        if on_progress is not None:
            on_progress(done, len(writers))
        yield written


def check_processes(processes: int) -> None:
    """Raises ConfigError unless there is at least one."""
    if processes < 1:
        raise ConfigError(f"processes: {processes} found, must be at least 1")


def _mapped(parameters: Parameters, writers: Sequence[Callable[[Scene], Written]], processes: int) -> Iterator[Written]:
    jobs = (repeat(parameters), range(len(writers)), writers)
    if processes == 1:
        yield from map(_write_one, *jobs)
        return
    # not forked: the calling process may hold threads and a GPU
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_write_one, *jobs, chunksize=8)


def _write_one(parameters: Parameters, index: int, write: Callable[[Scene], Written]) -> Written:
    return write(parameters.scene(index))


def _already_there(root: Path, parameters: Parameters) -> bool:
    """Whether ``root`` holds just this dataset. Raises DataError if it holds anything else."""
    if not root.exists():
        return False
    if not root.is_dir():
        raise DataError(f"{root}: is a file, a dataset needs a new or empty folder")
    record = root / RECORD
    if not record.is_file():
        if any(root.iterdir()):
            raise DataError(f"{root}: is not empty and was not generated here, nothing was overwritten")
        return False
    found, wanted = _named(json.loads(record.read_text(encoding="utf-8"))), _named(asdict(parameters))
    if found != wanted:
        differing = [
            f"{key} {found.get(key)} (asked for: {value})" for key, value in wanted.items() if found.get(key) != value
        ]
        raise DataError(f"{root}: was generated with {', '.join(differing)}, nothing was overwritten")
    return True


def _named(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its layout: that of PASCAL-Context does not say it."""
    return {"layout": "pascal_context", **record}
