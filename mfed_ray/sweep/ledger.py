"""What a sweep's folder says of its trials: which were begun, and how each ended."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from mfed_ray.errors import RunFolderError
from mfed_ray.json_text import from_json
from mfed_ray.storage import below, read_text, replace_text, shown
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
        self._place = below(place, "trials.json")
        self._searched: str | None = None
        self._entries: dict[str, Entry] = {}
        text = read_text(self._place)
        if text is not None:
            self._take(text)

    def _take(self, text: str) -> None:
        try:
            tree = from_json(text)
            self._searched = tree["searched"]
            self._entries = {identity(one["point"]): Entry(**one) for one in tree["trials"]}
        except (ValueError, TypeError, KeyError) as error:
            raise RunFolderError(
                f"{shown(self._place)}: cannot be read as a sweep's trials ({error}); remove it, and the sweep goes "
                "on from its trials' folders"
            ) from error

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, point: Point) -> Entry | None:
        """What is known of the point."""
        return self._entries.get(identity(point))

    def note(self, entry: Entry) -> Entry:
        """Write down how a trial stands; as it is now known. One that is closed stays so when it is told again."""
        known = self.get(entry.point)
        if known and known.state in CLOSED:
            return known
        self._entries[identity(entry.point)] = entry
        self._write()
        return entry

    def has_searched(self, search: str) -> bool:
        """Whether this search, in words, has come to its end here."""
        return self._searched == search

    def end_search(self, search: str) -> None:
        """Write down that it has."""
        self._searched = search
        self._write()

    def _write(self) -> None:
        trials = [asdict(one) for one in self]
        replace_text(self._place, json.dumps({"searched": self._searched, "trials": trials}, indent=1))
