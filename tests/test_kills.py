"""A process that is killed at any moment: before each of its changes to a folder, one after the other.

The kills are real (``os._exit`` in a forked process). What cannot be seen this way is a loss of power; for that, see
the order of flushes in ``federation/test_checkpoint.py``.
"""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from mfed_ray.evaluation import AFTER_AGGREGATION
from mfed_ray.federation import checkpoint
from mfed_ray.federation.checkpoint import Checkpoint, Checkpoints
from mfed_ray.messages import State
from mfed_ray.recording import is_finished
from mfed_ray.results.run_folder import RunFolder
from tests.results.conftest import whole_table
from tests.toy_run import ROUNDS, run_to_the_end, same

CHANGES = frozenset({"os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir"})
KILLED = 9
EVERY_SECOND = Checkpoints(every=2, keep=2)


def killed_at_steps(stride: int, prepare: Callable[[int], object], work: Callable[[int], None]) -> Sequence[int]:
    """``work(n)`` in a process of its own that ends before its n-th change to a folder, for n = 1, 1 + stride, ...

    Returns the n of all, of which the last one alone came to its end. The calling process must have one thread only.
    """
    for number in count(1, stride):
        prepare(number)
        if (child := os.fork()) == 0:
            _end_before(number)
            work(number)
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if ended == 0:
            return range(1, number + 1, stride)
        assert ended == KILLED
    raise AssertionError("count has no end")


def _end_before(number: int) -> None:
    left = number

    def watch(event: str, about: tuple[Any, ...]) -> None:
        nonlocal left
        if event in CHANGES or (event == "open" and about[2] & os.O_CREAT):
            left -= 1
            if not left:
                os._exit(KILLED)

    sys.addaudithook(watch)


def in_fresh_process(function: Callable[[Path], None], folder: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(function, folder).result(timeout=120)


def of_round(number: int, still: State) -> Checkpoint:
    trees = {"encoder": {"w": np.full(3, number, np.float32)}}
    return Checkpoint(number, State(trees), {"a": still, "b": State({}, {"round": number})})


def saves(tmp_path: Path) -> None:
    still = State({}, {"still": 1})
    base = tmp_path / "base"
    for number in (1, 2):
        checkpoint.save(base, of_round(number, still), keep=2)
    last = of_round(2, still)
    steps = killed_at_steps(
        1,
        lambda step: shutil.copytree(base, tmp_path / str(step)),
        lambda step: checkpoint.save(tmp_path / str(step), of_round(3, still), last, keep=2),
    )
    assert len(steps) > 12
    seen = set()
    for step in steps:
        folder = tmp_path / str(step)
        problems: list[str] = []
        found = checkpoint.load_latest(folder, problems.append)
        assert found is not None
        assert same(found, of_round(found.round, still))
        assert problems == []
        seen.add(found.round)
        checkpoint.save(folder, of_round(3, still), found, keep=2)
        assert sorted(path.name for path in folder.iterdir()) == ["round_000002", "round_000003"]
    assert seen == {2, 3}


def test_a_kill_at_any_step_of_a_save_leaves_the_checkpoint_before_or_this_one(tmp_path: Path) -> None:
    in_fresh_process(saves, tmp_path)


def runs(tmp_path: Path) -> None:
    *steps, last_step = killed_at_steps(
        3, lambda _: None, lambda step: run_to_the_end(tmp_path / str(step), EVERY_SECOND)
    )
    assert len(steps) > 15
    whole = tmp_path / str(last_step)
    rows, last = whole_table(whole, "metrics"), checkpoint.load_latest(whole / "checkpoints")
    assert last is not None
    for step in steps:
        folder = RunFolder(tmp_path / str(step))
        found = checkpoint.load_latest(folder.checkpoints)
        if found is not None:  # its round is whole in the tables
            trained = rows[(rows["round"] <= found.round) & (rows["stage"] == "training")]
            there = whole_table(folder.path, "metrics")
            there = there[(there["round"] <= found.round) & (there["stage"] == "training")]
            assert there["value"].tolist() == trained["value"].tolist(), step
            assert set(whole_table(folder.path, "rounds")["round"]) >= set(range(found.round + 1)), step
        run_to_the_end(folder.path, EVERY_SECOND)
        assert is_finished(folder, ROUNDS, [AFTER_AGGREGATION])
        assert whole_table(folder.path, "metrics").equals(rows), step
        ended = checkpoint.load_latest(folder.checkpoints)
        assert ended is not None
        assert same(ended, last), step
        assert {path.name for path in folder.checkpoints.iterdir()} >= {"round_000002", "round_000003"}


def test_a_run_that_is_killed_goes_on_to_the_same_end(tmp_path: Path) -> None:
    """Every second round has a checkpoint. Where it is there, its round is in the tables."""
    in_fresh_process(runs, tmp_path)
