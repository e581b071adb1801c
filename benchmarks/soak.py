"""What grows with the rounds of a run: resident memory, file handles, Ray's object store; and the tables' time a round.

    OMP_NUM_THREADS=1 python -m benchmarks.soak                  # both
    OMP_NUM_THREADS=1 python -m benchmarks.soak --rounds 0       # tables alone

A tiny federation runs on two client actors. Memory and handles are looked at every 25 rounds, in the caller, the
driver actor and the client actors. The growth is the slope of a straight line through what is seen after a third of
the rounds. Then a table of 100 clients, six values each, is written for 1,000 rounds as a run writes it.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import ray

from benchmarks.surroundings import load_average
from benchmarks.tiny import tiny
from mfed_ray.algorithms.contract import Diagnostics
from mfed_ray.driver import run
from mfed_ray.evaluation import Headline
from mfed_ray.federation.events import Evaluated, Trained
from mfed_ray.messages import ClientReport, ClientSpec, RunIdentity
from mfed_ray.results.recorder import Recorder
from mfed_ray.results.run_folder import RunFolder

EVERY = 25
MB = 1e6
Seen = tuple[int, float, int]
"""Round, resident megabytes, file handles."""


def look(number: int, seen: dict[str, list[Seen]]) -> None:
    """Note how much this process and the actors hold."""
    own = psutil.Process()
    ours = [own, *(child for child in own.children(recursive=True) if child.name().startswith("ray::"))]
    for process in ours:
        name = process.cmdline()[0] if process is not own else "caller"
        if process is own or "Driver" in name or "ClientActor" in name:
            key = f"{name.removeprefix('ray::').partition('.')[0]} {process.pid}"
            seen[key].append((number, process.memory_info().rss / MB, process.num_fds()))


def slope(numbers: Sequence[int], values: Sequence[float]) -> float:
    """Growth in 100 rounds."""
    return float(np.polyfit(numbers, values, 1)[0]) * 100


def soak(rounds: int) -> None:
    """Run the federation and print what grew."""
    seen: dict[str, list[Seen]] = defaultdict(list)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    before = ray.available_resources()["object_store_memory"]
    with tempfile.TemporaryDirectory(prefix="soak_") as temporary:
        place = Path(temporary)
        runtime = {"backend": "ray", "max_actors": 2, "cpus_per_client": 1}
        started = time.monotonic()
        for event in run(tiny(place / "data", rounds, runtime=runtime), place / "run"):
            if isinstance(event, Trained) and event.round % EVERY == 0:
                look(event.round, seen)
        seconds = time.monotonic() - started
    time.sleep(2)  # Ray counts what is free once a second
    used = before - ray.available_resources()["object_store_memory"]
    ray.shutdown()
    print(f"{rounds} rounds in {seconds:.0f} s, load {load_average()}; object store at the end: {used:.0f} bytes used")
    print("| process | MB at first | at the end | MB in 100 rounds | handles at first | at the end |")
    print("|---|---|---|---|---|---|")
    for name, all_seen in seen.items():
        warm = [one for one in all_seen if one[0] >= rounds / 3]
        growth = slope([number for number, _, _ in warm], [memory for _, memory, _ in warm])
        first, last = warm[0], warm[-1]
        print(f"| {name} | {first[1]:.1f} | {last[1]:.1f} | {growth:+.2f} | {first[2]} | {last[2]} |")


def tables(rounds: int, clients: int) -> None:
    """Write the tables of a large federation and print the time a round, by hundreds of rounds."""
    names = [f"saliency-{number}" for number in range(clients)]
    specs = [ClientSpec.of(name, ("saliency",), "scenes", (name,), ("held out",)) for name in names]
    values = {"saliency": {"loss": 0.5, "steps": 2.0}}
    held_out = {"saliency": {"max_miou": 0.25, "max_f": 0.5, "a": 0.1, "b": 0.2}}
    config, headline = {"rounds": rounds}, {"saliency": Headline("max_miou", higher_is_better=True)}
    took = []
    with tempfile.TemporaryDirectory(prefix="soak_") as temporary:
        recorder = Recorder(RunFolder(Path(temporary)), RunIdentity("r", "e", "a", 0, "s"), specs, config, headline)
        for number in range(rounds):
            fitted = [ClientReport(name, values) for name in names]
            evaluated = [ClientReport(name, held_out=held_out) for name in names]
            started = time.perf_counter()
            recorder.record(Trained(number, fitted, Diagnostics(), {}, 0, 0, is_evaluated=True))
            recorder.record(Evaluated(number, evaluated, 0.0))
            took.append(time.perf_counter() - started)
    blocks = np.array(took).reshape(-1, rounds // 10)
    print(f"tables of {rounds} rounds x {clients} clients, load {load_average()}")
    print("| rounds | ms a round, median | mean | most |\n|---|---|---|---|")
    for index, block in enumerate(blocks * 1e3):
        first = index * block.size
        print(
            f"| {first} to {first + block.size - 1} | {np.median(block):.1f} | {block.mean():.1f} | {block.max():.0f} |"
        )


def main() -> None:
    """Soak, then write tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--table-rounds", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=100)
    arguments = parser.parse_args()
    if arguments.rounds:
        soak(arguments.rounds)
    if arguments.table_rounds:
        tables(arguments.table_rounds, arguments.clients)


if __name__ == "__main__":
    main()
