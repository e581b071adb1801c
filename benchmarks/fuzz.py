"""Damaged input for every reader: nothing but the project's own errors may come out, in time and in bounded memory.

    python benchmarks/fuzz.py --inputs 10000 [--target coco] [--first 0]

Valid files are made, then changed at random: bits, numbers and pieces of bytes, or values and keys of a tree of JSON or
YAML. The input of a number is the same on every machine, so a finding is repeated by ``--target NAME --first NUMBER
--inputs 1``. Each input has 10 s and the process 8 GiB of addresses. ``--inputs`` are shared out evenly by the targets;
each runs in a process of its own, so that a crash is a finding too.
"""

import argparse
import copy
import faulthandler
import io
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from PIL import Image
from safetensors.numpy import save
from scipy.io import savemat

from mfed_ray.coco_categories import THINGS
from mfed_ray.data.coco.layout import FILES
from mfed_ray.data.coco.masks import decode_masks
from mfed_ray.data.coco.parsing import parse
from mfed_ray.data.files import read_image, read_label
from mfed_ray.data.human_parts import read_human_parts
from mfed_ray.data.pascal_context import PascalContext
from mfed_ray.errors import MfedError
from mfed_ray.experiment.loading import load_tree, merge, overrides_tree
from mfed_ray.experiment.parsing import parse_experiment
from mfed_ray.federation import checkpoint
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.messages import State
from mfed_ray.models.weights import read_weights
from mfed_ray.results.failures import absent
from mfed_ray.results.find import FAILURES_FILE
from mfed_ray.results.run_folder import ENVIRONMENT, PARTITION, SKIPPED, RunFolder, parse_config
from mfed_ray.results.tables import ROUNDS, open_table, table_schema, write_table
from mfed_ray.sweep.ledger import Ledger

SECONDS = 10
ADDRESSES = 8 * 2**30
Read = Callable[[bytes], object]


@dataclass(frozen=True)
class Target:
    """A reader of bytes, and valid inputs that mutants are made of; ``tree``: how their text is read and written."""

    read: Read
    seeds: Sequence[bytes]
    tree: str = ""


class TimeoutFoundError(Exception):
    """An input took longer than it may."""


STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 1e308, float("inf"), float("nan"), 10**400, 0.5,
    "", "\x00", "\ud800", "a" * 300, "../../etc/passwd", "1e5", "module:Class",
    [], [[]], [None], {}, {"": None}, {"name": "fedavg"},
)  # fmt: skip
PIECES = (
    b"\x00",
    b"\xff" * 4,
    b"\xff\xff\xff\x7f",
    b"\x00" * 8,
    b"[" * 600,
    b"{}",
    b"\x80",
    b"&a *a",
    b"!!python/none",
)


def damaged(random: Random, data: bytes) -> bytes:
    """The bytes with one to four changes: a bit, a byte, a piece put in, left out, repeated or moved, or an end cut."""
    out = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at, length = random.randrange(len(out) + 1), random.choice((1, 2, 4, 16, 200))
        kind = random.randrange(7)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << random.randrange(8)
        elif kind == 1 and at < len(out):
            out[at] = random.randrange(256)
        elif kind == 2:
            out[at:at] = random.choice(PIECES)
        elif kind == 3:
            del out[at : at + length]
        elif kind == 4:
            out[at:at] = out[at : at + length]
        elif kind == 5:
            other = random.randrange(len(out) + 1)
            out[at : at + length] = out[other : other + length]
        elif random.randrange(4) == 0:
            del out[at:]
    return bytes(out)


def changed(random: Random, tree: Any) -> Any:
    """A copy of the tree with one to three values replaced, left out, or said twice."""
    tree = copy.deepcopy(tree)
    for _ in range(random.randint(1, 3)):
        holders = list(_holders(tree))
        if not holders:
            return random.choice(STRANGE)
        holder, key = random.choice(holders)
        kind = random.randrange(5)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif kind == 2 and isinstance(holder, dict):
            holder[random.choice(("id", "name", "x" * 50, "0", 7))] = copy.deepcopy(holder[key])
        elif kind == 3:
            holder[key] = copy.deepcopy(random.choice(holders)[0])
        else:
            holder[key] = copy.deepcopy(random.choice(STRANGE))
    return tree


def _holders(tree: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    if isinstance(tree, dict | list) and depth < 12:
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _holders(tree[key], depth + 1)


def mutant(target: Target, name: str, number: int) -> bytes:
    """The input of a number: the same everywhere."""
    random = Random(f"{name} {number}")  # noqa: S311 - no secret
    data = random.choice(target.seeds)
    if not target.tree or random.random() < 0.4:
        return damaged(random, data)
    if target.tree == "yaml":
        tree = changed(random, yaml.safe_load(data))
        return yaml.safe_dump(tree, allow_unicode=True, default_flow_style=random.choice((True, False))).encode(
            "utf-8", "surrogatepass"
        )
    return json.dumps(changed(random, json.loads(data)), ensure_ascii=random.random() < 0.5).encode(
        "utf-8", "surrogatepass"
    )


def targets(folder: Path) -> Mapping[str, Target]:
    """Every reader by name, its files in ``folder``."""
    config = yaml.safe_dump(_resolved()).encode()
    trials = _reading(folder / "trials.json", lambda path: Ledger(str(path.parent)))
    tensors = [save({"conv1.weight": np.ones((2, 3), np.float32)})]
    photographs = [*_images("JPEG", "RGB", "L", "CMYK"), *_images("PNG", "RGB", "P")]
    overrides = [b"rounds=3", b"algorithm={name: fedprox, mu: 0.1}", b"clients.0.count=[1]"]
    return {
        "config": Target(_reading(folder / "x.yaml", _read_config), [_CONFIG, config], "yaml"),
        "run config": Target(lambda data: parse_config(io.BytesIO(data), "run"), [config], "yaml"),
        "overrides": Target(_read_override, overrides),
        **{
            f"coco {task}": Target(_reading(folder / f"{task}.json", _read_coco(task)), [_coco(task)], "json")
            for task in FILES
        },
        "mat parts": Target(_reading(folder / "parts.mat", read_human_parts), _parts()),
        "mat edges": Target(_pascal(folder, "edge_detection"), _edges()),
        "normals": Target(_pascal(folder, "surface_normals"), _images("PNG", "RGB")),
        "image": Target(_reading(folder / "x.jpg", read_image), photographs),
        "label": Target(_reading(folder / "x.png", read_label), _images("PNG", "L", "P")),
        "parquet": Target(_reading(folder / "x.parquet", _read_table), [_table(folder)]),
        "checkpoint index": Target(*_checkpoint(folder, "index.json"), tree="json"),
        "checkpoint values": Target(*_checkpoint(folder, "server.json"), tree="json"),
        "checkpoint tensors": Target(*_checkpoint(folder, "server.safetensors")),
        "failures": Target(_reading(folder / FAILURES_FILE, lambda path: absent(path.parent)), [_FAILURES], "json"),
        "environment": Target(
            _run_json(folder, ENVIRONMENT), [b'[{"directory": "/", "packages": {"a": "1"}}]'], "json"
        ),
        "partition": Target(_run_json(folder, PARTITION), [b'{"a-0": ["1", "2"]}'], "json"),
        "skipped": Target(_run_json(folder, SKIPPED), [b'{"a-0": ["1"]}'], "json"),
        "weights": Target(_reading(folder / "x.safetensors", read_weights), tensors),
        "pickled weights": Target(_reading(folder / "x.pth", read_weights), [_pickled()]),
        "trials": Target(trials, [_TRIALS], "json"),
    }


def _reading(path: Path, read: Callable[[Path], object]) -> Read:
    path.parent.mkdir(parents=True, exist_ok=True)

    def written(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return written


_CONFIG = b"""name: tiny
rounds: 2
algorithm: {name: mfed, correlation: update_cosine}
data: {scenes: {format: generated, root: data/scenes, images: 24, size: 32}}
clients: [{tasks: [saliency], data: scenes, count: 2}, {tasks: [edge_detection], data: scenes}]
model: {encoder: resnet18, width: 16}
local: {learning_rate: 1e-2}
"""
_FAILURES = (
    b'{"run_id": "r", "time": "t", "round": 1, "phase": "fit", "client": "a", "error": "e", "outcome": "dropped"}\n'
)
_TRIALS = json.dumps(
    {"searched": "ab", "trials": [{"point": {"seed": 1}, "folder": "x", "state": "running", "round": 2}]}
).encode()


def _resolved() -> dict[str, Any]:
    return parse_experiment(yaml.safe_load(_CONFIG)).resolved()


def _read_config(path: Path) -> object:
    return parse_experiment(load_tree(path))


def _read_override(data: bytes) -> object:
    text = data.decode("utf-8", "surrogateescape")
    return parse_experiment(merge(yaml.safe_load(_CONFIG), overrides_tree([text])))


def _coco(task: str) -> bytes:
    box, squares = [2.0, 3.0, 8.0, 6.0], [[2, 3, 10, 3, 10, 9, 2, 9]]
    category = {"instance_segmentation": 18, "keypoint_detection": 1, "stuff_segmentation": 92}.get(task, 1)
    one: dict[str, Any] = {"id": 1, "category_id": category, "bbox": box, "area": 48.0, "iscrowd": 0}
    masks: list[Any] = [squares, {"size": [24, 32], "counts": [480, 48, 240]}, {"size": [24, 32], "counts": "d0h00"}]
    annotations = [
        one | {"id": number, "image_id": 7, "segmentation": mask, "keypoints": [13, 11, 2] * 17, "num_keypoints": 17}
        for number, mask in enumerate(masks, start=1)
    ]
    if task == "panoptic_segmentation":
        annotations = [{"image_id": 7, "file_name": "7.png", "segments_info": [one]}]
    images = [{"id": number, "file_name": f"{number}.jpg", "height": 24, "width": 32} for number in (7, 3)]
    categories = [{"id": category.id, "name": category.name} for category in THINGS[:2]]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode()


def _read_coco(task: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        table, _ = parse(path, task)
        if task != "panoptic_segmentation":
            for position in range(len(table.ids)):
                if np.prod(table.size(position), dtype=float) < 1e7:  # an image's pixels are its own, not the reader's
                    decode_masks(table, position)
        return table

    return read


def _mat(content: dict[str, Any]) -> list[bytes]:
    files = []
    for compressed in (False, True):
        buffer = io.BytesIO()
        savemat(buffer, content, do_compression=compressed)  # type: ignore[arg-type]  # the stubs know paths only
        files.append(buffer.getvalue())
    return files


def _parts() -> list[bytes]:
    part = {"part_name": "head", "mask": np.eye(6, dtype=np.uint8)}
    person = {"class": "person", "class_ind": 15, "mask": np.ones((6, 6), np.uint8), "parts": [part, part]}
    return _mat({"anno": {"imname": "x", "objects": [person, person | {"class_ind": 2}]}})


def _edges() -> list[bytes]:
    return _mat({"LabelMap": np.arange(36).reshape(6, 6) // 9}) + _mat({"Boundaries": np.ones((2, 6, 6), np.uint8)})


def _pascal(folder: Path, task: str) -> Read:
    """Reads the label of the one image of a folder in the layout of PASCAL_MT."""
    root = folder / task
    for name in ("JPEGImages", "pascal-context/trainval", "normals_distill"):
        (root / name).mkdir(parents=True)
    Image.new("RGB", (6, 6)).save(root / "JPEGImages/one.jpg")
    (root / "pascal-context/trainval/one.mat").write_bytes(_edges()[0])
    dataset = PascalContext(root)
    label = {"edge_detection": "pascal-context/trainval/one.mat", "surface_normals": "normals_distill/one.png"}[task]
    return _reading(root / label, lambda _: dataset.read("one", [task]))


def _images(form: str, *modes: str) -> list[bytes]:
    files = []
    for mode in modes:
        buffer = io.BytesIO()
        Image.fromarray(np.arange(6 * 6 * 3, dtype=np.uint8).reshape(6, 6, 3)).convert(mode).save(buffer, form)
        files.append(buffer.getvalue())
    return files


def _table(folder: Path) -> bytes:
    rows = {name: ["a", "b"] if kind == "str" else [1, 2] for name, kind in ROUNDS.items()}
    path = folder / "valid.parquet"
    write_table(path, pa.table(rows, table_schema(ROUNDS)), _resolved())
    return path.read_bytes()


def _read_table(path: Path) -> object:
    return open_table(path, "table", ROUNDS)


def _run_json(folder: Path, name: str) -> Read:
    return _reading(folder / name, lambda path: RunFolder(path.parent).read_json(name))


def _checkpoint(folder: Path, name: str) -> tuple[Read, list[bytes]]:
    """Reads a checkpoint of which one file is damaged."""
    place = folder / f"checkpoint of {name}"
    tree = {"a": np.ones((2, 3), np.float32), "b": np.zeros(2, np.float32)}
    checkpoint.save(place, Checkpoint(1, State({"model": tree}, {"n": [1.5, "x"]}), {"c-0": State({"model": tree})}))
    path = place / "round_000001" / name
    seed = path.read_bytes()

    def read(data: bytes) -> object:
        path.write_bytes(data)
        _sign(path.parent)
        return checkpoint.load_latest(place)

    return read, [seed]


def _sign(place: Path) -> None:
    """Make the checksums those of the files as they are, as whoever forges a checkpoint would."""
    index = place / "index.json"
    try:
        content = json.loads(index.read_bytes())
        content.pop(index.name, None)
        told = content.get("crc32")
        if isinstance(told, dict):
            told |= {name: zlib.crc32((place / name).read_bytes()) for name in told if (place / name).is_file()}
        index.write_text(json.dumps({**content, index.name: zlib.crc32(json.dumps(content).encode())}))
    except (ValueError, TypeError, AttributeError, RecursionError, OSError):
        return  # what has no place for a checksum stays as it is


def _pickled() -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({"conv1.weight": torch.ones(2, 3)}, buffer)
    return buffer.getvalue()


@contextmanager
def _in_time() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutFoundError

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def finding(read: Read, data: bytes) -> str | None:
    """What came out that may not, and where; None if the input was read or refused."""
    try:
        with _in_time():
            read(data)
    except MfedError:
        return None
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "mfed_ray" in frame.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        return f"{type(error).__name__} at {place}: {' '.join(str(error).split())[:100]}"
    return None


def fuzz(name: str, first: int, inputs: int, reached: "Synchronized[int] | None" = None) -> dict[str, int]:
    """The findings among the inputs of a target, each with the number of its first input."""
    found: dict[str, int] = {}
    shared = Path("/dev/shm")  # noqa: S108 - a folder of one's own in it
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target = targets(Path(folder))[name]
        for seed in target.seeds:
            if told := finding(target.read, seed):
                found.setdefault(f"a valid file: {told}", -1)
        for number in range(first, first + inputs):
            if reached is not None:
                reached.value = number
            told = finding(target.read, mutant(target, name, number))
            if told is not None:
                found.setdefault(told, number)
    return found


def _in_process(name: str, first: int, inputs: int) -> bool:
    """Fuzz a target in a process of its own and tell; whether it was clean."""
    reached = multiprocessing.get_context("fork").Value("l", first)

    def work() -> None:
        faulthandler.enable()
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
        found = fuzz(name, first, inputs, reached)
        kinds = Counter[str]()
        for told, number in found.items():
            kinds[told.partition(":")[0]] += 1
            if kinds[told.partition(":")[0]] <= 3:
                print(f"  {name} {number}: {told}", flush=True)
        os._exit(1 if found else 0)

    began = time.monotonic()
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    seconds = time.monotonic() - began
    rate = f"{inputs} inputs, {inputs / seconds:.0f}/s"
    ending = {0: "clean", 1: "findings"}.get(process.exitcode or 0, f"CRASH {process.exitcode} at {reached.value}")
    print(f"{name}: {rate}, {ending}", flush=True)
    return process.exitcode == 0


def main() -> None:
    """Fuzz every target, or one. Exits with 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--target")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        names = [options.target] if options.target else list(targets(Path(folder)))
    clean = [_in_process(name, options.first, max(1, options.inputs // len(names))) for name in names]
    sys.exit(0 if all(clean) else 1)


if __name__ == "__main__":
    main()
