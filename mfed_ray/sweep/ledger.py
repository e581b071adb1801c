"""What a sweep's folder says of its trials: which were begun, and how each ended."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Literal

from mfed_ray.errors import RunFolderError
from mfed_ray.storage import read_text, replace_text
from mfed_ray.sweep.points import Point, identity

State = Literal["running", "finished", "stopped", "failed"]
CLOSED = ("finished", "stopped")
"""States of a trial that has no rounds left to go."""


@dataclass(frozen=True)
class Entry:
    """A trial: ``stopped`` is by the scheduler, ``round`` the last that was evaluated."""

    point: Point
    folder: str
    state: State = "running"
    round: int = 0
    objective: float | None = None
    message: str | None = None


class Ledger:
    """``trials.json`` of a sweep's folder, replaced whole at every change."""

    def __init__(self, place: str) -> None:
        self._place = f"{place}/trials.json"
        self._entries = {identity(entry.point): entry for entry in _entries(self._place)}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, point: Point) -> Entry | None:
        """What is known of the point."""
        return self._entries.get(identity(point))

    def note(self, entry: Entry) -> Entry:
        """Write down how a trial stands. A finished run stays finished, even where a scheduler would now stop it."""
        known = self.get(entry.point)
        if known and known.state == "finished" and entry.state in ("running", "stopped"):
            entry = replace(known, objective=entry.objective if entry.state == "stopped" else known.objective)
        self._entries[identity(entry.point)] = entry
        replace_text(self._place, json.dumps([asdict(one) for one in self], indent=1))
        return entry


def _entries(place: str) -> list[Entry]:
    try:
        return [Entry(**tree) for tree in json.loads(read_text(place) or "[]")]
    except (ValueError, TypeError) as error:
        raise RunFolderError(f"{place}: cannot be read as a sweep's trials ({error}); remove it to go on") from error
