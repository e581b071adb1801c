"""Checkpoints: a folder for each, whole or passed over.

``round_000007/index.json`` names the clients in their order and has a checksum of every other file, and of itself.
"""

import json
import os
import re
import shutil
import stat
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from mfed_ray.durable import flush
from mfed_ray.errors import ResultsWarning, RunFolderError
from mfed_ray.federation.state_files import DAMAGED, SUFFIXES, checksum, link_state, read_state, write_state
from mfed_ray.json_text import from_json
from mfed_ray.messages import State
from mfed_ray.section import Section

_FOLDER = re.compile(r"round_(\d{6,})")
_INDEX = "index.json"


class Checkpoints(Section):
    """After which rounds a run can be gone on from, and how many such places are kept. Changes no result."""

    every: int = Field(1, ge=1)
    """Rounds from one checkpoint to the next; the first one is of round 0, and the last round always has one."""
    keep: int = Field(2, ge=1)
    """The newest so many. What a client keeps unchanged is one file for all of them."""


@dataclass(frozen=True)
class Checkpoint:
    """All that the next round depends on."""

    round: int
    server: State
    clients: Mapping[str, State]


def save(folder: Path, checkpoint: Checkpoint, last: Checkpoint | None = None, keep: int = 1) -> None:
    """Write ``folder/round_NNNNNN``, then drop all but the newest ``keep``, and those of later rounds.

    A crash or a loss of power at any moment leaves the last one whole. ``last``: the checkpoint that was saved there
    before; what a client has had since then is not written again. Raises OSError, and CheckpointError for a state that
    JSON cannot hold.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".round_*.tmp"):
        shutil.rmtree(left)
    final = _place(folder, checkpoint.round)
    temporary = folder / f".{final.name}.tmp"
    temporary.mkdir()
    sums = _write(temporary, checkpoint, folder, last)
    _write_index(temporary, {"round": checkpoint.round, "clients": list(checkpoint.clients), "crc32": sums})
    flush([*temporary.iterdir(), temporary])
    shutil.rmtree(final, ignore_errors=True)
    os.replace(temporary, final)
    flush([folder])
    newest = [number for number in sorted(_rounds(folder)) if number <= checkpoint.round][-keep:]
    for number, place in _rounds(folder).items():
        if number not in newest:
            shutil.rmtree(place)


def latest_round(folder: Path) -> int | None:
    """Number of the last checkpoint's round, without reading it."""
    return max(_rounds(folder), default=None)


def _warn(problem: str) -> None:
    warnings.warn(problem, ResultsWarning, stacklevel=3)


def load_latest(folder: Path, tell: Callable[[str], None] = _warn) -> Checkpoint | None:
    """The last checkpoint that is whole, or None where there is none at all.

    One that is damaged is passed over for the one before, and told. Raises RunFolderError where all are damaged.
    """
    problems = []
    for number, place in sorted(_rounds(folder).items(), reverse=True):
        try:
            found = _read(place)
        except DAMAGED as error:
            problems.append(f"{place}: the checkpoint cannot be read ({error})")
            continue
        for problem in problems:
            tell(f"{problem}; going on from round {number}")
        return found
    if problems:
        raise RunFolderError(f"{'; '.join(problems)}; no other is left: remove {folder} to start the run over")
    return None


def _place(folder: Path, number: int) -> Path:
    return folder / f"round_{number:06d}"


def _rounds(folder: Path) -> dict[int, Path]:
    found = {path: _FOLDER.fullmatch(path.name) for path in folder.glob("round_*")}
    return {int(match[1]): path for path, match in found.items() if match}


def _write(place: Path, checkpoint: Checkpoint, folder: Path, last: Checkpoint | None) -> dict[str, int]:
    """Write or link the states; each file's checksum. A linked file keeps that of when it was written."""
    write_state(place / "server", checkpoint.server)
    sums = dict[str, int]()
    before, known = _written(folder, last)
    for number, (client, state) in enumerate(checkpoint.clients.items()):
        stem, old = f"client_{number}", before.get(client)
        if last is not None and old is not None and last.clients[client] is state:
            link_state(old, place / stem)
            sums |= {stem + end: known[old.name + end] for end in SUFFIXES if old.name + end in known}
        else:
            write_state(place / stem, state)
    return {name: sums[name] if name in sums else checksum(place / name) for name in _names(len(checkpoint.clients))}


def _written(folder: Path, last: Checkpoint | None) -> tuple[dict[str, Path], dict[str, int]]:
    """Where the clients' files of the last checkpoint are, and their checksums. Nothing of one that is damaged."""
    if last is None:
        return {}, {}
    place = _place(folder, last.round)
    try:
        index = _index(place)
    except DAMAGED:
        return {}, {}
    return {client: place / f"client_{n}" for n, client in enumerate(index["clients"])}, index.get("crc32", {})


def _write_index(place: Path, content: Mapping[str, Any]) -> None:
    whole = {**content, _INDEX: zlib.crc32(json.dumps(content).encode())}
    (place / _INDEX).write_text(json.dumps(whole), encoding="utf-8")


def _index(place: Path) -> dict[str, Any]:
    """A checkpoint's index, whose files are there. Raises OSError, and ValueError where it is damaged.

    It may be anybody's: no file that it names is opened, but those that a checkpoint of its clients has. Older versions
    wrote no checksums.
    """
    _check_regular(place, [_INDEX])
    found = from_json((place / _INDEX).read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{_INDEX}: {type(found).__name__} found, must be an object")
    told, signed = found.pop(_INDEX, None), "crc32" in found
    number, clients = found.get("round"), found.get("clients")
    if type(number) is not int or _place(place.parent, number) != place:
        raise ValueError(f"{_INDEX}: round {number!r} found, must be that of {place.name}")
    if not isinstance(clients, list) or not all(isinstance(client, str) for client in clients):
        raise ValueError(f"{_INDEX}: clients must be a list of names")
    names = _names(len(clients))
    if found.keys() - {"crc32"} != {"round", "clients"} or (signed and found["crc32"].keys() != set(names)):
        raise ValueError(f"{_INDEX}: names other files than those of {len(clients)} clients and the server")
    if signed and zlib.crc32(json.dumps(found).encode()) != told:
        raise ValueError(f"{_INDEX} is not what was written")
    _check_regular(place, names)
    return found


def _names(clients: int) -> list[str]:
    """The files of the server and of so many clients."""
    return [stem + end for stem in ("server", *(f"client_{n}" for n in range(clients))) for end in SUFFIXES]


def _check_regular(place: Path, names: Iterable[str]) -> None:
    for name in names:
        if not stat.S_ISREG((place / name).lstat().st_mode):
            raise ValueError(f"{name} is a link, a folder or a device, must be a file")


def _read(place: Path) -> Checkpoint:
    index = _index(place)
    for name, told in index.get("crc32", {}).items():
        if checksum(place / name) != told:
            raise ValueError(f"{name} is not what was written")
    clients = {name: read_state(place / f"client_{number}") for number, name in enumerate(index["clients"])}
    return Checkpoint(index["round"], read_state(place / "server"), clients)
