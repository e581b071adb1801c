"""A run's folder: what was asked for, where it ran, and the tables."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mfed_ray.errors import RunFolderError

CONFIG, ENVIRONMENT, PARTITION = "config.yaml", "environment.json", "partition.json"


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run, and the files that are written once."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    def check(self, config: Mapping[str, Any], free: frozenset[str]) -> None:
        """Whether a run of this config may live here: in a new or empty folder, or where an equal run began.

        Configs may differ in the dotted keys ``free``. Raises RunFolderError.
        """
        path = self.path / CONFIG
        if path.is_file():
            found = _read_config(path)
            if differing := sorted(_differing(found, config) - free):
                raise RunFolderError(
                    f"{self.path} holds a run with another {', '.join(differing)}; choose another folder with --out"
                )
        elif self.path.exists() and not (self.path.is_dir() and not any(self.path.iterdir())):
            raise RunFolderError(f"{self.path} is no run's folder and not empty; choose another with --out")

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved config."""
        self._replace(CONFIG, yaml.safe_dump(dict(config), sort_keys=False))

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file."""
        self._replace(name, json.dumps(content, indent=1))

    def append_json(self, name: str, entry: Any) -> None:
        """Add to a JSON file's list: a run that was resumed has one entry per start."""
        path = self.path / name
        entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        self.write_json(name, [*entries, entry])

    def _replace(self, name: str, text: str) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = self.path / f".{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, self.path / name)


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RunFolderError(f"{path}: cannot be read as a run's config ({' '.join(str(error).split())})") from error
    if not isinstance(found, Mapping):
        raise RunFolderError(f"{path}: expected a run's config, a mapping, found {type(found).__name__}")
    return found


def _differing(a: Any, b: Any, prefix: str = "") -> set[str]:
    """Dotted keys at which two trees differ."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        dot = f"{prefix}." if prefix else ""
        return {key for name in {*a, *b} for key in _differing(a.get(name), b.get(name), f"{dot}{name}")}
    return set() if a == b else {prefix}
