"""Annotation files in columns on disk, parsed once per node and shared by all its processes through the page cache.

They are in a folder of the user's own below ``$MFED_CACHE`` or the system's temporary folder; never with the data.
Others may write there too, so what is not the user's own is neither read nor written to, and no link is followed.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfed_ray.data.coco.parsing import parse
from mfed_ray.data.coco.problems import TOLERATED, refuse
from mfed_ray.data.coco.table import COLUMNS, Table
from mfed_ray.errors import DataError
from mfed_ray.locks import open_lock

FORMAT_VERSION = 2
"""Of the columns: one more whenever ``Table`` or what is refused changes."""


def open_table(root: Path, path: Path, task: str) -> Table:
    """The columns of the task's annotation file of the folder ``root``; built first, if this node has none of them.

    One process builds at a time, the others wait: memory is needed for one file, not for all. Columns that cannot be
    read are built anew, and replace those of the file's former contents. Raises DataError if the file cannot be read,
    something is wrong with what it says that is not ``TOLERATED``, or the cache cannot be written.
    """
    folder = cache_folder() / _key(path, task)
    with suppress(*_DAMAGED):
        return _load(folder, path, task)
    try:
        _make(folder.parent)
        with _locked(folder.parent):
            with suppress(*_DAMAGED):
                return _load(folder, path, task)
            _build(root, folder, path, task)
        return _load(folder, path, task)
    except OSError as error:
        configured = os.environ.get("MFED_CACHE")
        reason = f"({error}), where MFED_CACHE={configured} puts it" if configured else f"({error})"
        raise DataError(
            f"{folder.parent}: the index of {path} cannot be kept there {reason}; "
            "set MFED_CACHE to a folder you can write to"
        ) from error


_DAMAGED = (OSError, ValueError, EOFError)  # what np.load raises of a missing or truncated file


def cache_folder() -> Path:
    """Where this user's indexes are on this node."""
    return Path(os.environ.get("MFED_CACHE") or tempfile.gettempdir()) / f"mfed-{os.getuid()}" / "coco"


def _make(folder: Path) -> None:
    """The folder and the one above it, which nobody but the user may enter."""
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    for own in (folder.parent, folder):
        own.mkdir(mode=0o700, exist_ok=True)
        with _own(own, os.O_DIRECTORY) as descriptor:
            os.fchmod(descriptor, 0o700)


@contextmanager
def _own(path: Path, flags: int = 0) -> Iterator[int]:
    """A descriptor of what the user owns, to read it. Raises OSError for what is another's, and for a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | flags)
    try:
        owner = os.fstat(descriptor).st_uid
        if owner != os.geteuid():
            raise PermissionError(errno.EACCES, f"belongs to user {owner}, not to you ({os.geteuid()})", str(path))
        yield descriptor
    finally:
        os.close(descriptor)


def _key(path: Path, task: str) -> str:
    """A digest of which file it is, and one of what it is now: its size and when it was changed."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise DataError(f"{path}: file not found") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return f"{_digest(task, path.resolve())}-{_digest(FORMAT_VERSION, status.st_size, status.st_mtime_ns)}"


def _digest(*what: object) -> str:
    return hashlib.sha256(" ".join(map(str, what)).encode()).hexdigest()[:32]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with open_lock(folder / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@lru_cache(maxsize=64)
def _load(folder: Path, path: Path, task: str) -> Table:
    """Once per process: each open column holds a file descriptor, and a process may hold many data sets."""
    columns = {name: _mapped(folder / f"{name}.npy") for name in COLUMNS}
    # As plain arrays, of which a slice costs a fraction of a memmap's.
    return Table(path, task, **{name: column.view(np.ndarray) for name, column in columns.items()})


def _mapped(path: Path) -> NDArray[Any]:
    with _own(path) as descriptor:
        mapped: NDArray[Any] = np.load(f"/dev/fd/{descriptor}", mmap_mode="r")
    return mapped


def _build(root: Path, folder: Path, path: Path, task: str) -> None:
    """Write the columns next to ``folder`` and move them there whole, in place of all others of the file."""
    table, problems = parse(path, task)
    refuse(root, [problem for problem in problems if problem.kind not in TOLERATED])
    if task == "keypoint_detection":  # whose masks nothing reads
        table = replace(table, text=table.text[:0], text_starts=np.zeros_like(table.text_starts))
    partial = folder.with_suffix(".partial")
    for stale in folder.parent.glob(f"{folder.name.partition('-')[0]}-*"):
        shutil.rmtree(stale, ignore_errors=True)
    partial.mkdir()
    for name, column in table.columns().items():
        with (partial / f"{name}.npy").open("xb") as file:
            np.save(file, column)
    partial.rename(folder)
