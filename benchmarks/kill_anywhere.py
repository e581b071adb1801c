"""kill -9 of a run at random moments, with a resume after each: what is lost, and whether the end is the same.

    OMP_NUM_THREADS=1 python -m benchmarks.kill_anywhere                             # 50 kills, in one process
    OMP_NUM_THREADS=1 python -m benchmarks.kill_anywhere --backend ray --kills 5

A run of a tiny federation is begun in a process of its own and killed after a random time, between none and that of its
start and four rounds. The next process goes on in the same folder. After each kill the folder's last checkpoint must be
of the last round that the run had told, or a later one: at most the round under way is lost. When the run comes to its
end, all parameters and all that was measured must equal an undisturbed run's bit for bit, and another run begins. The
last one is let run to its end as well.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.surroundings import load_average
from benchmarks.tiny import tiny
from mfed_ray.driver import run
from mfed_ray.experiment import Experiment
from mfed_ray.federation import checkpoint
from mfed_ray.federation.events import Trained
from mfed_ray.results.frame import read_table

TABLES = ("metrics", "correlations", "fusing")
ROUNDS_TO_KILL_IN = 4


@dataclass(frozen=True)
class Begun:
    """A process that runs the experiment; it writes a byte for each round that was told."""

    process: int
    told: int


def begin(experiment: Experiment, folder: Path) -> Begun:
    """Go on with the run in a process of its own."""
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return Begun(process, reading)
    try:
        for event in run(experiment, folder):
            if isinstance(event, Trained):
                os.write(writing, bytes([event.round]))
    except BaseException as error:  # whatever it is: the parent sees the exit code, a person this line
        os.write(2, f"{error!r}\n".encode())
        os._exit(1)
    os._exit(0)


def rounds_told(begun: Begun) -> list[int]:
    """Of a process that has ended."""
    told = b""
    while piece := os.read(begun.told, 4096):
        told += piece
    os.close(begun.told)
    return list(told)


def undisturbed(experiment: Experiment, folder: Path) -> tuple[float, float]:
    """Run to the end; seconds until round 0 was told, and of a round."""
    started, times = time.monotonic(), []
    begun = begin(experiment, folder)
    while os.read(begun.told, 1):
        times.append(time.monotonic() - started)
    os.close(begun.told)
    ended_well(begun)
    return times[0], (times[-1] - times[0]) / experiment.rounds


def ended_well(begun: Begun) -> None:
    """Wait for a process. Ends this one where it failed."""
    if os.waitpid(begun.process, 0)[1]:
        sys.exit("the run failed")


def contents(folder: Path) -> tuple[dict[tuple[str, str, str], bytes], list[pd.DataFrame]]:
    """All parameters that anybody holds at the end, and all that was measured."""
    last = checkpoint.load_latest(folder / "checkpoints")
    if last is None:
        sys.exit(f"{folder}: no checkpoint at the end of the run")
    values = {
        (holder, tree, name): np.ascontiguousarray(value).tobytes()
        for holder, state in {"server": last.server, **last.clients}.items()
        for tree, params in state.params.items()
        for name, value in params.items()
    }
    return values, [read_table(folder / f"{name}.parquet") for name in TABLES]


def is_same(folder: Path, whole: Path) -> bool:
    """Whether two runs ended with the same bits."""
    (a, measured), (b, expected) = contents(folder), contents(whole)
    return a == b and all(one.equals(other) for one, other in zip(measured, expected, strict=True))


def killed(
    experiment: Experiment, place: Path, kills: int, horizon: float, seed: int
) -> Iterator[tuple[float, int, int, int, Path]]:
    """For each kill: after how many seconds, round told before, round of the last checkpoint, lost, and the folder."""
    drawn, folder, number = np.random.default_rng(seed), place / "0", 0
    last = -1  # told of this folder, by any process
    while number < kills:
        begun, seconds = begin(experiment, folder), drawn.uniform(0, horizon)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not os.waitid(
            os.P_PID, begun.process, os.WEXITED | os.WNOHANG | os.WNOWAIT
        ):
            time.sleep(0.001)
        os.kill(begun.process, signal.SIGKILL)
        _, status = os.waitpid(begun.process, 0)
        last = max([last, *rounds_told(begun)])
        if status and not os.WIFSIGNALED(status):
            sys.exit("the run failed")
        if status:
            number += 1
            found = checkpoint.latest_round(folder / "checkpoints")
            yield seconds, last, -1 if found is None else found, number, folder
        else:
            folder, last = place / str(int(folder.name) + 1), -1


def main() -> None:
    """Run, kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", choices=["serial", "ray"], default="serial")
    arguments = parser.parse_args()
    if arguments.backend == "serial":
        import mfed_ray.experiment.trainers  # noqa: F401 - once for all the processes
    with tempfile.TemporaryDirectory(prefix="kill_anywhere_") as temporary:
        place = Path(temporary)
        runtime = {"backend": arguments.backend, "cpus_per_client": 1}
        experiment = tiny(place / "data", arguments.rounds, runtime=runtime)
        start, seconds = undisturbed(
            tiny(place / "data", arguments.rounds, runtime={"backend": "serial"}), place / "whole"
        )
        if arguments.backend == "ray":
            start, seconds = undisturbed(experiment, place / "whole_on_ray")
        print(f"undisturbed: {start:.1f} s to round 0, {seconds:.2f} s a round; load {load_average()}")
        print("| kill | after s | run | last round told | last checkpoint |\n|---|---|---|---|---|")
        lost, folders = 0, dict[Path, None]()
        horizon = start + ROUNDS_TO_KILL_IN * seconds
        for after, told, found, number, folder in killed(experiment, place, arguments.kills, horizon, arguments.seed):
            print(f"| {number} | {after:.2f} | {folder.name} | {told} | {found} |", flush=True)
            lost += found < told
            folders[folder] = None
        ended_well(begin(experiment, folder))
        same = [is_same(folder, place / "whole") for folder in folders]
        print(
            f"{arguments.kills} kills lost {lost} rounds that were told; {sum(same)} of {len(same)} runs ended the same"
        )
        sys.exit(lost > 0 or not all(same))


if __name__ == "__main__":
    main()
