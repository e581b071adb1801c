"""A process that is killed at any moment: before each of its changes to a folder, one after the other.

The kills are real (``os._exit`` in a forked process). What cannot be seen this way is a loss of power; for that, see
the order of flushes in ``federation/test_checkpoint.py``.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.averages import PartialMean
from mfed_ray.evaluation import AFTER_AGGREGATION, Headline
from mfed_ray.federation import checkpoint
from mfed_ray.federation.backend import Done, Job
from mfed_ray.federation.checkpoint import Checkpoint, Checkpoints
from mfed_ray.federation.simulation import Simulation
from mfed_ray.messages import ClientReport, ClientSpec, RunIdentity, State, Update
from mfed_ray.recording import is_finished, recorded
from mfed_ray.results.run_folder import RunFolder
from mfed_ray.results.tables import METRICS
from tests.results.conftest import whole_table

CHANGES = frozenset({"os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir"})
KILLED = 9
ROUNDS = 3


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


CLIENTS = [ClientSpec.of(name, ("saliency",), "toy", (name,), ("held",)) for name in ("saliency-0", "saliency-1")]
RUN = RunIdentity("toy-fedavg-0-0-seed0", "toy", "fedavg", 0, "0")
CONFIG = {"name": "toy", "rounds": ROUNDS}
CHECKPOINTS = Checkpoints(every=2, keep=2)


@dataclass
class ToyBackend:
    """Clients that add one to what they load and keep what it came to; a job at each call of ``completed``."""

    waiting: list[Job] = field(default_factory=list)
    kept: dict[str, State] = field(default_factory=dict)

    def submit(self, jobs: Sequence[Job]) -> None:
        self.waiting += jobs

    def completed(self, timeout: float | None = None) -> Done:
        del timeout
        job = self.waiting.pop(0)
        client = next(client for client in CLIENTS if client.name == job.client)
        before = {name: value for tree in job.instruction.load for name, value in tree.items()}
        score = {"saliency": {"max_miou": float(sum(value.sum() for value in before.values()))}}
        if job.kind == "evaluate":
            return Done((job,), (ClientReport(job.client, held_out=score),), (), {}, {})
        params = {name: value * np.float32(0.9) + 1 + job.place for name, value in before.items()}
        assert job.weight is not None
        means = {client.group: [PartialMean(job.place, 0, job.weight, params)]}
        report = ClientReport(job.client, {"saliency": {"loss": score["saliency"]["max_miou"]}})
        kept = {job.client: State({"own": dict(params)})}
        return Done((job,), (report,), (Update(client.name, client.group, 1, {}),), means, kept)

    def accept(self, done: Done) -> None:
        self.kept.update(done.states)  # type: ignore[arg-type]

    def states(self) -> Mapping[str, State]:
        return dict(self.kept)

    def restore(self, states: Mapping[str, State]) -> None:
        self.kept = dict(states)

    def abandon(self, jobs: Sequence[Job], again: bool = False) -> None:
        raise AssertionError(f"nobody is late: {jobs} {again}")


def toy_run(path: Path) -> Iterator[object]:
    initial = {"saliency": {"encoder.w": np.zeros(3, np.float32), "decoders.saliency.w": np.zeros(2, np.float32)}}
    stages = frozenset({AFTER_AGGREGATION})
    simulation = Simulation(FedAvg(), CLIENTS, initial, lambda *_: np.zeros(1), ROUNDS, stages, 1, None, 0)  # type: ignore[arg-type, return-value]
    headlines = {"saliency": Headline("max_miou", higher_is_better=True)}
    yield from recorded(
        simulation, ToyBackend(), RunFolder(path), CONFIG, RUN, {}, headlines, CHECKPOINTS, lambda: None
    )


def run_to_the_end(path: Path) -> None:
    for _ in toy_run(path):
        pass


def runs(tmp_path: Path) -> None:
    *steps, last_step = killed_at_steps(3, lambda _: None, lambda step: run_to_the_end(tmp_path / str(step)))
    assert len(steps) > 15
    whole = tmp_path / str(last_step)
    rows, last = whole_table(whole, "metrics"), checkpoint.load_latest(whole / "checkpoints")
    assert list(rows.columns) == list(METRICS)
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
        run_to_the_end(folder.path)
        assert is_finished(folder, ROUNDS, [AFTER_AGGREGATION])
        assert whole_table(folder.path, "metrics").equals(rows), step
        ended = checkpoint.load_latest(folder.checkpoints)
        assert ended is not None
        assert same(ended, last), step
        assert {path.name for path in folder.checkpoints.iterdir()} >= {"round_000002", "round_000003"}


def same(a: Checkpoint, b: Checkpoint) -> bool:
    def told(one: Checkpoint) -> list[Any]:
        states = [one.server, *one.clients.values()]
        trees = [{name: v.tobytes() for name, v in tree.items()} for s in states for tree in s.params.values()]
        return [one.round, list(one.clients), [(list(s.params), s.values) for s in states], trees]

    return told(a) == told(b)


def test_a_run_that_is_killed_goes_on_to_the_same_end(tmp_path: Path) -> None:
    """Every second round has a checkpoint. Where it is there, its round is in the tables."""
    in_fresh_process(runs, tmp_path)
