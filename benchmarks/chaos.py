"""Runs that lose processes, nodes and memory at seeded moments, each compared with the run that was left in peace.

    RAY_AUTH_MODE=disabled python -m benchmarks.chaos --schedules 30 --out docs/chaos.md
    RAY_AUTH_MODE=disabled python -m benchmarks.chaos --schedules 2 --first 4        # schedules 4 and 5 alone

Two nodes of one CPU each hold the clients, a third holds the driver. A schedule has two faults. The parameters of the
last checkpoint and the tables have to be bit for bit those of a run in one process without faults; times and memory are
left out. Where clients were dropped, that run leaves out whom the failures table names. The exit code says whether all
schedules held.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import ray
from ray._private.state import actors
from ray.cluster_utils import Cluster

from benchmarks.tiny import tiny
from mfed_ray.driver import run
from mfed_ray.experiment import Experiment
from mfed_ray.federation.checkpoint import Checkpoint, load_latest
from mfed_ray.federation.events import Notice
from mfed_ray.messages import State
from mfed_ray.results.find import FAILURES_FILE
from mfed_ray.results.loading import load
from mfed_ray.results.run_folder import CONFIG

KINDS = ("kill client", "lose node", "replace node", "kill driver", "hang, retry", "fill store", "hang, drop")
ALGORITHMS = ("ditto", "mfed", "fedper")
STORE = 80 * 2**20
"""Bytes of each node's object store; Ray allows no less than 75 MiB."""
DEADLINE, PATIENCE = 45.0, 300
"""Seconds of ``faults.round_deadline`` where a client hangs, and after which a run counts as one that does not end."""


@dataclass(frozen=True)
class Fault:
    """What happens ``delay`` seconds after the run told its ``event``-th event."""

    kind: str
    event: int
    delay: float


@dataclass(frozen=True)
class Schedule:
    """A run and what happens to it."""

    number: int
    algorithm: str
    policy: str
    faults: tuple[Fault, ...]

    @staticmethod
    def of(number: int, rounds: int) -> "Schedule":
        """The schedule of a seed. Kinds take turns as the first fault; another death follows it."""
        draw = random.Random(number)  # noqa: S311 - no secret
        kind = KINDS[number % len(KINDS)]
        kinds = (kind.partition(",")[0], draw.choice(("kill client", "kill driver")))
        events = sorted(draw.sample(range(1, 4 * rounds), 2))
        faults = tuple(Fault(*pair, draw.uniform(0, 0.5)) for pair in zip(kinds, events, strict=True))
        policy = "drop" if kind.endswith("drop") else "retry"
        return Schedule(number, draw.choice(ALGORITHMS), policy, faults)

    def experiment(self, data: Path, rounds: int, backend: str) -> Experiment:
        """Six clients of two tasks that train a round in about a second."""
        hangs = any(fault.kind == "hang" for fault in self.faults)
        return tiny(
            data,
            rounds,
            name="chaos",
            seed=self.number,
            algorithm={"name": self.algorithm},
            clients=[{"tasks": [t], "data": "scenes", "count": 3} for t in ("saliency", "surface_normals")],
            evaluation={"max_images": 1, "stages": ["before_aggregation", "after_aggregation"]},
            runtime={"backend": backend, "start_timeout": 120},
            faults={"on_client_failure": self.policy, "round_deadline": DEADLINE if hangs else None},
        )


class Nodes:
    """A Ray of three nodes on this machine, and what can happen to it."""

    def __init__(self) -> None:
        self._cluster = Cluster(initialize_head=True, head_node_args=_node(0, include_dashboard=False))
        self._clients: list[Any] = []
        self._hoard: list[Any] = []
        ray.init(address=self._cluster.address, log_to_driver=False, logging_level="ERROR")

    def heal(self) -> None:
        """Two nodes for clients, and a store that is empty."""
        self._hoard.clear()
        while len(self._clients) < 2:
            self._clients.append(self._cluster.add_node(**_node(1)))

    def strike(self, fault: Fault, draw: random.Random) -> bool:
        """Have a fault happen. Whether it could: an actor may have ended just then."""
        if fault.kind in ("lose node", "replace node"):
            self._cluster.remove_node(self._clients.pop(draw.randrange(len(self._clients))), allow_graceful=False)
            if fault.kind == "replace node":
                self.heal()
        elif fault.kind == "fill store":
            self._hoard += [ray.put(np.zeros(STORE // 5, np.uint8)) for _ in range(6)]
        else:
            whom = "Driver" if fault.kind == "kill driver" else "ClientActor"
            found = [
                one["Pid"] for one in actors().values() if (one["ActorClassName"], one["State"]) == (whom, "ALIVE")
            ]
            for pid in draw.sample(sorted(found), len(found)):  # Ray may be late to say that one is gone
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP if fault.kind == "hang" else signal.SIGKILL)
                    return True
            return False
        return True

    def close(self) -> None:
        """End all of it."""
        ray.shutdown()
        self._cluster.shutdown()


def _node(cpus: int, **others: Any) -> dict[str, Any]:
    return {"num_cpus": cpus, "object_store_memory": STORE, **others}


@dataclass(frozen=True)
class Outcome:
    """What came of a schedule.

    ``struck``: the faults that happened. ``notices``: what was told outside of rounds, such as that the driver was
    started again. ``silence``: the longest time, in seconds, between two events of the run.
    """

    schedule: Schedule
    struck: Sequence[Fault]
    notices: int
    seconds: float
    silence: float
    failures: Mapping[str, int]
    difference: str

    def row(self) -> str:
        """A line of the table."""
        faults = ", ".join(f"{fault.kind} at event {fault.event}" for fault in self.struck) or "none"
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.failures.items())) or "none"
        cells = (
            *(self.schedule.number, self.schedule.algorithm, self.schedule.policy, faults, told, self.notices),
            *(f"{self.silence:.0f}", f"{self.seconds:.0f}", self.difference or "the same"),
        )
        return "| " + " | ".join(map(str, cells)) + " |"


def suffer(schedule: Schedule, nodes: Nodes, folder: Path, rounds: int) -> Outcome:
    """Run a schedule and its undisturbed run; compare."""
    nodes.heal()
    data = folder.parent / "scenes"
    draw = random.Random(schedule.number)  # noqa: S311
    began = heard = time.monotonic()
    silence, number, notices, due = 0.0, 0, 0, list(schedule.faults)
    struck: list[Fault] = []
    difference = ""
    try:
        with ending_within(PATIENCE):
            for event in run(schedule.experiment(data, rounds, "ray"), folder / "run"):
                notices += isinstance(event, Notice)
                silence = max(silence, time.monotonic() - heard)
                number += 1
                while due and due[0].event <= number:
                    fault = due.pop(0)
                    time.sleep(fault.delay)  # the run goes on meanwhile, in processes of its own
                    if nodes.strike(fault, draw):
                        struck.append(fault)
                heard = time.monotonic()
    except Exception as error:  # whatever ends the run is what the table has to say
        difference = f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
    seconds = time.monotonic() - began
    outcomes = list[str]()
    if not difference:
        outcomes = list(load(folder / "run").failures["outcome"])
        calm = folder / "calm"
        calm.mkdir()
        if "dropped" in outcomes:
            for name in (CONFIG, FAILURES_FILE):  # whoever was dropped is left out, as on a resume
                shutil.copy(folder / "run" / name, calm)
        for _ in run(schedule.experiment(data, rounds, "serial"), calm):
            pass
        difference = different(folder / "run", calm)
    return Outcome(schedule, struck, notices, seconds, silence, Counter(outcomes), difference)


@contextmanager
def ending_within(seconds: int) -> Iterator[None]:
    """Raises TimeoutError in the block after so many seconds."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def different(one: Path, other: Path) -> str:
    """The first difference between two runs; empty where there is none."""
    if everything(load_latest(one / "checkpoints")) != everything(load_latest(other / "checkpoints")):
        return "other parameters"
    a, b = load(one), load(other)
    for name in ("metrics", "rounds", "correlations", "fusing"):
        left, right = getattr(a, name), getattr(b, name)
        measured = [column for column in left if column.endswith("_seconds") or column == "peak_memory_bytes"]
        if not left.drop(columns=measured).equals(right.drop(columns=measured)):
            return f"another table {name}"
    return ""


def everything(checkpoint: Checkpoint | None) -> Sequence[Any]:
    """All bits of a checkpoint."""
    assert checkpoint is not None  # noqa: S101 - both runs came to their end
    clients = sorted(checkpoint.clients.items())
    return [checkpoint.round, _bits(checkpoint.server), [(name, _bits(state)) for name, state in clients]]


def _bits(state: State) -> Sequence[Any]:
    trees = {name: {key: value.tobytes() for key, value in tree.items()} for name, tree in state.params.items()}
    return [trees, state.values]


def main() -> int:
    """Run the schedules, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=30)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    lines = [
        "| schedule | algorithm | policy | faults that happened | clients' failures | notices | longest silence, s | "
        "time, s | beside the calm run |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    held = True
    nodes = Nodes()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for number in range(asked.first, asked.first + asked.schedules):
                folder = Path(scratch) / str(number)
                outcome = suffer(Schedule.of(number, asked.rounds), nodes, folder, asked.rounds)
                held &= not outcome.difference
                lines.append(outcome.row())
                print(lines[-1], flush=True)
    finally:
        nodes.close()
    if asked.out:
        asked.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
