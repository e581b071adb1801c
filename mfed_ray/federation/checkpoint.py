"""Checkpoints: safetensors and JSON, complete or not there at all, never pickle."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mfed_ray.errors import CheckpointError, RunFolderError
from mfed_ray.messages import Params, State

_PREFIX = "round_"


@dataclass(frozen=True)
class Checkpoint:
    """All that the next round depends on."""

    round: int
    server: State
    clients: Mapping[str, State]


def save(folder: Path, checkpoint: Checkpoint, last: Checkpoint | None = None) -> None:
    """Write ``folder/round_NNNN`` and drop older rounds. A crash at any moment leaves the last complete one.

    ``last``: the checkpoint that was saved there before; what a client has had since then is not written again. Raises
    CheckpointError for a state that JSON cannot hold.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"{_PREFIX}{checkpoint.round:06d}"
    temporary = folder / f".{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    _write(temporary / "server", checkpoint.server)
    written = _stems(folder, last) if last else {}
    for number, (client, state) in enumerate(checkpoint.clients.items()):
        if last is not None and last.clients.get(client) is state and client in written:
            _link(written[client], temporary / f"client_{number}")
        else:
            _write(temporary / f"client_{number}", state)
    index = {"round": checkpoint.round, "clients": list(checkpoint.clients)}
    (temporary / "index.json").write_text(json.dumps(index), encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    os.replace(temporary, final)
    for old in folder.glob(f"{_PREFIX}*"):
        if old != final:
            shutil.rmtree(old)


def _stems(folder: Path, last: Checkpoint) -> dict[str, Path]:
    """Where the clients' files of a checkpoint are, by client."""
    place = folder / f"{_PREFIX}{last.round:06d}"
    return {client: place / f"client_{number}" for number, client in enumerate(last.clients)}


def _link(old: Path, new: Path) -> None:
    """The files of one state under another name: the same ones, where the file system can do that."""
    for suffix in (".json", ".safetensors"):
        try:
            os.link(old.with_suffix(suffix), new.with_suffix(suffix))
        except OSError:
            shutil.copyfile(old.with_suffix(suffix), new.with_suffix(suffix))


def latest_round(folder: Path) -> int | None:
    """Number of the last complete checkpoint's round, without reading it."""
    return max((int(path.name.removeprefix(_PREFIX)) for path in folder.glob(f"{_PREFIX}*")), default=None)


def load_latest(folder: Path) -> Checkpoint | None:
    """The last complete checkpoint, or None. Raises RunFolderError where its files cannot be read."""
    rounds = sorted(folder.glob(f"{_PREFIX}*"))
    if not rounds:
        return None
    latest = rounds[-1]
    try:
        index = json.loads((latest / "index.json").read_text(encoding="utf-8"))
        clients = {name: _read(latest / f"client_{i}") for i, name in enumerate(index["clients"])}
        return Checkpoint(index["round"], _read(latest / "server"), clients)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise RunFolderError(f"{latest}: the checkpoint cannot be read ({error}); remove it to start over") from error


def _write(stem: Path, state: State) -> None:
    """One safetensors file; a tree that several names share is stored once and found again by its identity.

    The names' order is kept beside it, because sums over a tree depend on it and safetensors sorts.
    """
    distinct = {id(tree): tree for tree in state.params.values()}
    numbers = {key: number for number, key in enumerate(distinct)}
    tensors = {
        f"{numbers[key]}/{n}": np.asarray(v, order="C") for key, tree in distinct.items() for n, v in tree.items()
    }
    save_file(tensors, stem.with_suffix(".safetensors"))
    content = {
        "trees": {name: numbers[id(tree)] for name, tree in state.params.items()},
        "names": [list(tree) for tree in distinct.values()],
        "values": state.values,
    }
    try:
        text = json.dumps(content)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{stem.name}: State.values cannot be written as JSON ({error}); allowed: numbers, texts, booleans, null, "
            "lists, and mappings of these"
        ) from error
    stem.with_suffix(".json").write_text(text, encoding="utf-8")


def _read(stem: Path) -> State:
    content = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
    tensors = load_file(stem.with_suffix(".safetensors"))
    trees: list[Params] = [
        {name: tensors[f"{number}/{name}"] for name in names} for number, names in enumerate(content["names"])
    ]
    return State({name: trees[number] for name, number in content["trees"].items()}, content["values"])
