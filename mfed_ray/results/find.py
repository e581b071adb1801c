"""Run folders at or below places, here or on any file system."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from mfed_ray.errors import RunFolderError, StorageError
from mfed_ray.results.run_folder import CHECKPOINTS, CONFIG
from mfed_ray.storage import files_below, locate, refusal, shown

METRICS_FILE, ROUNDS_FILE = "metrics.parquet", "rounds.parquet"
CORRELATIONS_FILE, FUSING_FILE = "correlations.parquet", "fusing.parquet"
FAILURES_FILE = "failures.jsonl"


@dataclass(frozen=True)
class Found:
    """A run's folder: where a person finds it, where the file system does, and the names of its files.

    ``place`` is as ``mfed_ray.storage.shown`` shows it.
    """

    place: str
    system: fs.FileSystem
    path: str
    files: frozenset[str]

    def place_of(self, name: str) -> str:
        """Where a person finds one of its files."""
        return _joined(self.place, (name,))

    def open(self, name: str) -> pa.NativeFile:
        """One of its files. Raises OSError."""
        return self.system.open_input_file(f"{self.path}/{name}")


def folder_at(place: str) -> Found:
    """The folder at a path or URI, without files where there is none. Raises RunFolderError and StorageError."""
    system, path = locate(place)
    try:
        listed = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
    except OSError as error:
        raise refusal(error, place, "listed") from None
    return Found(
        shown(place), system, path, frozenset(info.base_name for info in listed if info.type == fs.FileType.File)
    )


def find(places: Iterable[str | Path]) -> tuple[list[Found], list[str]]:
    """The run folders in the order of the places and, below each, of their paths; and what is wrong with a place."""
    found: dict[tuple[str, str], Found] = {}
    problems = []
    for place in places:
        try:
            for one in _below(str(place)):
                found.setdefault((one.system.type_name, one.path), one)
        except (RunFolderError, StorageError) as error:
            problems.append(str(error))
    return list(found.values()), problems


def _below(place: str) -> Sequence[Found]:
    system, root = locate(place)
    try:
        kind = system.get_file_info(root).type
        if kind == fs.FileType.NotFound:
            raise RunFolderError(f"{shown(place)}: no such folder; expected a run's folder, or one with runs below it")
        if kind == fs.FileType.File:
            raise RunFolderError(f"{shown(place)}: is a file; expected a run's folder, or one with runs below it")
        folders = sorted(_walk(root) if isinstance(system, fs.LocalFileSystem) else _listed(system, root))
    except OSError as error:
        raise refusal(error, place, "listed") from None
    runs = [
        Found(_joined(shown(place), parts), system, "/".join([root.rstrip("/"), *parts]), files)
        for parts, files in folders
        if files & {METRICS_FILE, CONFIG}
    ]
    if not runs:
        raise RunFolderError(f"{shown(place)}: no run in it or below it (looked for {METRICS_FILE})")
    return runs


def _walk(root: str) -> Iterator[tuple[tuple[str, ...], frozenset[str]]]:
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name != CHECKPOINTS and not name.startswith(".")]
        yield Path(folder).relative_to(root).parts, frozenset(files)


def _listed(system: fs.FileSystem, root: str) -> Iterator[tuple[tuple[str, ...], frozenset[str]]]:
    """As ``_walk``, from one listing: a remote system takes as long for one folder as for a thousand files."""
    folders: dict[tuple[str, ...], set[str]] = {}
    for path in files_below(system, root):
        *parts, name = PurePosixPath(path).parts
        if not any(part == CHECKPOINTS or part.startswith(".") for part in parts):
            folders.setdefault(tuple(parts), set()).add(name)
    return ((parts, frozenset(files)) for parts, files in folders.items())


def _joined(place: str, parts: Sequence[str]) -> str:
    """The place of a folder below a place; a URI's options stay at its end."""
    base, mark, options = place.partition("?") if "://" in place else (place, "", "")
    return "/".join([base.rstrip("/") or base, *parts]) + mark + options
