"""A run's folder: what was asked for, where it ran, and the tables."""

import fcntl
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml
from pydantic import TypeAdapter

from mfed_ray.durable import flush, replace
from mfed_ray.errors import RunFolderError
from mfed_ray.json_text import from_json
from mfed_ray.locks import not_followed, open_lock

CONFIG, ENVIRONMENT, PARTITION, LOCK = "config.yaml", "environment.json", "partition.json", ".lock"
SKIPPED = "skipped.json"
"""By client the images that could not be read and were left out; missing where there were none."""
CHECKPOINTS = "checkpoints"
_FORMS: Mapping[str, TypeAdapter[Any]] = {
    ENVIRONMENT: TypeAdapter(list[dict[str, Any]]),
    PARTITION: TypeAdapter(dict[str, list[Any]]),
    SKIPPED: TypeAdapter(dict[str, list[Any]]),
}
MOST_VALUES = 1_000_000
"""Of a config: a YAML file of a few lines with aliases of aliases may stand for more than any memory holds."""

FREE_KEYS = frozenset(
    f"{section}.{key}"
    for section, keys in {
        "checkpoints": ("every", "keep"),
        "runtime": (
            *("backend", "address", "cpus_per_client", "gpus_per_client"),
            *("max_actors", "max_retries", "start_timeout"),
        ),
        "faults": ("on_client_failure", "round_deadline", "min_clients_per_task"),
    }.items()
    for key in keys
)
"""Keys that say where a run runs, what it keeps and what is done about failures, never what comes out.

They may differ when it is resumed.
"""


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run, and the files that are written once."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / CHECKPOINTS

    def check(
        self,
        config: Mapping[str, Any],
        free: frozenset[str],
        completed: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda found: found,
    ) -> None:
        """Whether a run of this config may live here: in a new or empty folder, or where an equal run began.

        Configs may differ in the dotted keys ``free``; ``completed`` adds to the one that is found what it may lack.
        Raises RunFolderError.
        """
        path = self.path / CONFIG
        if not path.is_file() and not self._is_free() and not path.is_file():  # another process may just begin here
            self.check_free()
        if path.is_file():
            found = completed(_read_config(path))
            if wrong := sorted(differing(found, config) - free):
                raise RunFolderError(
                    f"{self.path} holds a run with another {', '.join(wrong)}; choose another folder with --out"
                )

    def check_free(self) -> None:
        """Raises RunFolderError unless the folder is new, or has only what a kill leaves of its first moments."""
        if not self._is_free():
            raise RunFolderError(f"{self.path} is no run's folder and not empty; choose another with --out")

    def _is_free(self) -> bool:
        if not self.path.is_dir():
            return not self.path.exists()
        return all(name == LOCK or (name[0] == "." and name.endswith(".tmp")) for name in os.listdir(self.path))

    def read_config(self) -> Mapping[str, Any]:
        """The resolved config of the run that began here. Raises RunFolderError where none did."""
        if not (self.path / CONFIG).is_file():
            raise RunFolderError(f"{self.path}: is no run's folder, it has no {CONFIG}")
        return _read_config(self.path / CONFIG)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved config."""
        self._replace(CONFIG, yaml.safe_dump(dict(config), sort_keys=False))

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file."""
        self._replace(name, json.dumps(content, indent=1))

    def append_json(self, name: str, entry: Any) -> None:
        """Add to a JSON file's list: a run that was resumed has one entry per start."""
        self.write_json(name, [*(self.read_json(name) or []), entry])

    @contextmanager
    def locked(self, patience: float = 20.0) -> Iterator[None]:
        """Make the folder and hold it: two runs at once would mix their rounds.

        A killed run's driver may take some seconds to end, so wait ``patience`` seconds. Raises RunFolderError.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open_lock(self.path / LOCK)
        except OSError as error:
            raise RunFolderError(f"{self.path}: cannot be written to ({error}); choose a folder with --out") from error
        with lock:
            deadline = time.monotonic() + patience
            while not _taken(lock):
                if time.monotonic() > deadline:
                    raise RunFolderError(
                        f"{self.path}: another process runs here; wait for it, or choose another --out"
                    )
                time.sleep(0.1)
            yield

    def read_json(self, name: str) -> Any:
        """Content of ``environment.json``, ``partition.json`` or ``skipped.json``; None where it is missing.

        Raises RunFolderError where it is damaged.
        """
        path = self.path / name
        try:
            return _FORMS[name].validate_python(from_json(path.read_text(encoding="utf-8"))) if path.is_file() else None
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"{path}: cannot be read as JSON of a run ({' '.join(str(error).split())}); "
                "choose another folder with --out"
            ) from error

    def _replace(self, name: str, text: str) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = self.path / f".{name}.tmp"
        with open(temporary, "w", encoding="utf-8", opener=not_followed) as file:
            file.write(text)
        replace(temporary, self.path / name)
        flush([self.path])


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_config(path: Path) -> Mapping[str, Any]:
    with path.open("rb") as file:
        return parse_config(file, str(path))


def parse_config(file: IO[bytes], place: str) -> Mapping[str, Any]:
    """A ``config.yaml``. Raises RunFolderError, which names ``place``."""
    try:
        found = yaml.safe_load(file.read().decode())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise RunFolderError(f"{place}: cannot be read as a run's config ({' '.join(str(error).split())})") from error
    if not isinstance(found, Mapping):
        raise RunFolderError(f"{place}: expected a run's config, a mapping, found {type(found).__name__}")
    if (size := _written_out(found, {})) > MOST_VALUES:
        raise RunFolderError(
            f"{place}: its aliases make {size:.0f} values, too many for a run's config; allowed: {MOST_VALUES}"
        )
    return found


def _written_out(tree: Any, known: dict[int, float]) -> float:
    """How many values a tree has where each alias of its YAML stands for all that it names; infinite if for itself."""
    if not isinstance(tree, Mapping | list):
        return 1
    if id(tree) not in known:
        known[id(tree)] = math.inf
        inner = tree.values() if isinstance(tree, Mapping) else tree
        known[id(tree)] = 1 + sum(_written_out(one, known) for one in inner)
    return known[id(tree)]


def differing(a: Any, b: Any, prefix: str = "") -> set[str]:
    """Dotted keys at which two trees differ."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        dot = f"{prefix}." if prefix else ""
        return {key for name in {*a, *b} for key in differing(a.get(name), b.get(name), f"{dot}{name}")}
    return set() if a == b else {prefix}
