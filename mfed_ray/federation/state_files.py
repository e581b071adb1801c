"""The two files of a state in a checkpoint: tensors as safetensors, the rest as JSON. Never pickle."""

import json
import os
import shutil
import zlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mfed_ray.errors import CheckpointError
from mfed_ray.json_text import from_json
from mfed_ray.messages import Params, State

SUFFIXES = (".json", ".safetensors")
DAMAGED = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    SafetensorError,
)
"""What reading damaged files raises."""
_BYTES = 2**20


def write_state(stem: Path, state: State) -> None:
    """A tree that several names share is stored once and found again by its identity.

    The names' order is kept beside it, because sums over a tree depend on it and safetensors sorts. Raises OSError, and
    CheckpointError for a state that JSON cannot hold.
    """
    distinct = {id(tree): tree for tree in state.params.values()}
    numbers = {key: number for number, key in enumerate(distinct)}
    tensors = {
        f"{numbers[key]}/{n}": np.asarray(v, order="C") for key, tree in distinct.items() for n, v in tree.items()
    }
    try:
        save_file(tensors, stem.with_suffix(".safetensors"))
    except SafetensorError as error:  # what it makes of an OSError
        raise OSError(f"{stem.name}.safetensors: {error}") from error
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


def read_state(stem: Path) -> State:
    """The state as it was written. Raises any of ``DAMAGED``."""
    content = from_json(stem.with_suffix(".json").read_text(encoding="utf-8"))
    tensors = load_file(stem.with_suffix(".safetensors"))
    trees: list[Params] = [
        {name: tensors[f"{number}/{name}"] for name in names} for number, names in enumerate(content["names"])
    ]
    return State({name: trees[number] for name, number in content["trees"].items()}, content["values"])


def link_state(old: Path, new: Path) -> None:
    """The files of a state under another name: the same ones, where the file system can do that. Raises OSError."""
    for suffix in SUFFIXES:
        try:
            os.link(old.with_suffix(suffix), new.with_suffix(suffix))
        except OSError:
            shutil.copyfile(old.with_suffix(suffix), new.with_suffix(suffix))


def checksum(path: Path) -> int:
    """CRC-32 of a file. Raises OSError."""
    found = 0
    with path.open("rb") as file:
        while piece := file.read(_BYTES):
            found = zlib.crc32(piece, found)
    return found
