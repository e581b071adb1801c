"""Seconds and extra memory of the server's weighted mean of 32 ResNet-50s, beside reading the same memory once.

    OMP_NUM_THREADS=1 python -m benchmarks.aggregation --out aggregation.json
    OMP_NUM_THREADS=1 python -m benchmarks.aggregation --runs 1 --states 4      # a quick look

The states are generated: 23.5 million float32 each, in a ResNet-50's shapes without its classifier. In turns, on one
thread: the mean; a sum over every array, which reads all once; a copy of each state over one buffer, which also writes.
"Share of bandwidth" is the time of the faster of the two over the time of the mean. Extra memory is the most that the
process grew by during a call of its own, looked at every 2 ms, the result counted.
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch
import torchvision

from benchmarks.surroundings import load_average, surroundings, write_json
from mfed_ray.averages import weighted_mean
from mfed_ray.messages import Params

SAMPLE_SECONDS = 0.002


def aggregate(states: Sequence[Params], examples: Sequence[float]) -> Params:
    """What the server calls; the only place here that knows its name."""
    return weighted_mean(states, examples)


def shapes() -> dict[str, tuple[int, ...]]:
    """A ResNet-50's parameters and statistics without its classifier, by name."""
    with torch.device("meta"):
        state = torchvision.models.resnet50().state_dict()
    return {
        f"encoder.{name}": tuple(value.shape)
        for name, value in state.items()
        if value.is_floating_point() and not name.startswith("fc.")
    }


def generate(count: int) -> list[Params]:
    """Normal values; every state has memory of its own."""
    rng = np.random.default_rng(0)
    return [
        {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes().items()} for _ in range(count)
    ]


def read(states: Sequence[Params]) -> None:
    """One pass over every state."""
    for state in states:
        for value in state.values():
            value.sum()


def copy(states: Sequence[Params], buffer: Params) -> None:
    """One pass over every state, written over one buffer."""
    for state in states:
        for name, value in state.items():
            np.copyto(buffer[name], value)


def seconds_of(call: Callable[[], Any]) -> float:
    """Wall seconds."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@dataclass
class Growth:
    """How much this process grows while a call lasts."""

    most: int = 0

    def watch(self, call: Callable[[], Any]) -> int:
        """The most bytes, above those before the call."""
        process, over = psutil.Process(), threading.Event()
        before = process.memory_info().rss

        def look() -> None:
            while not over.wait(SAMPLE_SECONDS):
                self.most = max(self.most, process.memory_info().rss - before)

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            call()
        finally:
            over.set()
            watcher.join()
        return self.most


def main() -> None:
    """Generate, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--states", type=int, default=32)
    parser.add_argument("--out", type=Path, help="JSON with every value")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    states = generate(asked.states)
    examples = [float(100 + number) for number in range(asked.states)]
    buffer = {name: np.empty_like(value) for name, value in states[0].items()}
    total = sum(value.nbytes for state in states for value in state.values())
    calls = {
        "mean": lambda: aggregate(states, examples),
        "read": lambda: read(states),
        "copy": lambda: copy(states, buffer),
    }
    aggregate(states[:2], examples[:2])  # whatever is done once only
    copy(states[:1], buffer)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    loads = []
    for _ in range(asked.runs):
        loads.append(load_average())
        for name, call in calls.items():
            seconds[name].append(seconds_of(call))
            print(f"{name} (load {loads[-1]}): {seconds[name][-1]:.3f} s", flush=True)
    growth = Growth().watch(calls["mean"])
    medians = {name: median(values) for name, values in seconds.items()}
    fastest = min(medians["read"], medians["copy"])
    print(
        f"{asked.states} states, {total / 1e9:.2f} GB: mean {medians['mean']:.3f} s, read {medians['read']:.3f} s, "
        f"copy {medians['copy']:.3f} s; share of bandwidth {fastest / medians['mean']:.2f}; "
        f"extra memory {growth / 1e6:.0f} MB, of which the result {total / asked.states / 1e6:.0f} MB"
    )
    write_json(
        asked.out,
        {
            **surroundings(),
            "command": ["python", "-m", "benchmarks.aggregation", *sys.argv[1:]],
            "versions": {name: version(name) for name in ("mfed-ray", "numpy", "torch")},
            "states": asked.states,
            "bytes": total,
            "load_averages": loads,
            "seconds": seconds,
            "extra_bytes": growth,
        },
    )


if __name__ == "__main__":
    main()
