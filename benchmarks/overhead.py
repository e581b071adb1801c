"""Seconds that a federated round takes here, in a bare PyTorch loop, in bare Ray, in pfl and in Flower, side by side.

    python -m benchmarks.overhead --out overhead.json
    python -m benchmarks.overhead --runs 1 --rounds 4 --sizes 16x0.5MB --arms loop mfed    # a quick look

All arms train the same model on the same data in memory: FedAvg weighted by examples, five SGD steps a client, one
thread a worker, two workers (the loop and the serial backend: one), no evaluation, no GPU. A row whose arms do not end
at the same training loss is void. Each run is a process of its own, in an environment that is made on first use (pfl
and Flower: some 5 GB each); runs take turns over the arms, and the first two rounds of each are left out.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.overhead_arms.arms import ARMS
from benchmarks.overhead_arms.environments import DEFAULT, interpreter
from benchmarks.overhead_arms.federation import BATCH, LEARNING_RATE, SIZES, STEPS, WORKERS
from benchmarks.processes import call, last_lines
from benchmarks.surroundings import load_average, surroundings, write_json

DROPPED = 2
TOLERANCE = 1e-4
LEARNED = 0.99
"""Largest final loss, as a share of the first: where nothing was learned, equal losses say nothing."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Run:
    """One run of an arm; ``error`` says why there are no seconds."""

    size: str
    arm: str
    load_average: float
    first_round_ended: float = 0.0
    """Seconds from the command to the end of the first round."""
    seconds: Sequence[float] = ()
    """Of every round, the first two as well."""
    initial_loss: float = 0.0
    loss: float = 0.0
    versions: Mapping[str, str] | None = None
    error: str | None = None

    @property
    def round_seconds(self) -> float:
        """Median of the rounds that count."""
        return median(self.seconds[DROPPED:])


def measure(size: str, arm: str, rounds: int, python: Path, folder: Path) -> Run:
    """Run an arm once."""
    out, load = folder / "run.json", load_average()
    out.unlink(missing_ok=True)
    start = [str(python), "-m"]
    if ARMS[arm].processes > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={ARMS[arm].processes}", "-m"]
    command = [*start, "benchmarks.overhead_arms", arm, "--size", size, "--rounds", str(rounds), "--out", str(out)]
    began = time.time()
    log = folder / "log.txt"
    called = call(command, log, {**ONE_THREAD, "FLWR_HOME": str(folder / "flower")})
    if called.status or not out.is_file():
        return Run(size, arm, load, error=f"exit status {called.status}: {last_lines(log)}")
    found = json.loads(out.read_text(encoding="utf-8"))
    first = found.pop("began") + found["seconds"][0] - began
    return Run(size, arm, load, first, **found)


def verdict(runs: Sequence[Run]) -> str | None:
    """Why the runs of a size cannot be compared; None where they can."""
    if failed := {run.arm for run in runs if run.error}:
        return f"void: {', '.join(sorted(failed))} failed"
    reference = runs[0]
    if reference.loss > LEARNED * reference.initial_loss:
        return f"void: {reference.arm} learned nothing (loss {reference.initial_loss:.6f}, then {reference.loss:.6f})"
    far = {run.arm: run.loss for run in runs if abs(run.loss - reference.loss) > TOLERANCE * reference.loss}
    if far:
        return f"void: {reference.arm} ends at {reference.loss:.6f}, but " + ", ".join(
            f"{arm} at {loss:.6f}" for arm, loss in far.items()
        )
    return None


def voids(runs: Sequence[Run]) -> dict[str, str]:
    """The sizes whose runs cannot be compared, and why."""
    found = {size: verdict([run for run in runs if run.size == size]) for size in dict.fromkeys(r.size for r in runs)}
    return {size: why for size, why in found.items() if why}


def table(runs: Sequence[Run], arms: Sequence[str]) -> Iterator[str]:
    """Lines: median seconds of a round, their range over runs, and seconds to the end of the first round."""
    yield f"{'size':12}" + "".join(f"{arm:>22}" for arm in arms)
    for size in dict.fromkeys(run.size for run in runs):
        if size in voids(runs):
            yield f"{size:12}  {voids(runs)[size]}"
            continue
        by_arm = {arm: [run for run in runs if (run.size, run.arm) == (size, arm)] for arm in arms}
        cells = []
        for of_arm in by_arm.values():
            seconds = sorted(run.round_seconds for run in of_arm)
            cells.append(f"{median(seconds):.3f} ({seconds[0]:.3f}-{seconds[-1]:.3f})")
        yield f"{size:12}" + "".join(f"{cell:>22}" for cell in cells)
        starts = (median(run.first_round_ended for run in of_arm) for of_arm in by_arm.values())
        yield f"{'  first ends':12}" + "".join(f"{start:>22.1f}" for start in starts)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=8, help="of each run, with the two that are left out")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--environments", type=Path, default=DEFAULT, metavar="DIR")
    parser.add_argument("--out", type=Path, help="JSON with every value")
    parsed = parser.parse_args()
    if parsed.rounds <= DROPPED:
        parser.error(f"--rounds: {parsed.rounds} found, at least {DROPPED + 1} expected")
    return parsed


def main() -> None:
    """Make the environments, measure, print, write."""
    asked = options()
    pythons = {arm: interpreter(asked.environments, arm, ARMS[arm].requires) for arm in asked.arms}
    content: dict[str, Any] = {
        **surroundings(),
        "command": ["python", "-m", "benchmarks.overhead", *sys.argv[1:]],
        "setting": {"workers": WORKERS, "batch": BATCH, "steps": STEPS, "learning_rate": LEARNING_RATE},
        "sizes": {name: {**asdict(SIZES[name]), "model_bytes": SIZES[name].model_bytes} for name in asked.sizes},
        "dropped_rounds": DROPPED,
        "tolerance": TOLERANCE,
    }
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(asked.runs):
            shift = number % len(asked.arms)
            for size in asked.sizes:
                for arm in asked.arms[shift:] + asked.arms[:shift]:
                    run = measure(size, arm, asked.rounds, pythons[arm], Path(folder))
                    runs.append(run)
                    told = run.error or f"{run.round_seconds:.3f} s a round, loss {run.loss:.7f}"
                    print(f"run {number + 1}, {size}, {arm} (load {run.load_average}): {told}", flush=True)
                    write_json(asked.out, {**content, "void": voids(runs), "runs": [asdict(run) for run in runs]})
    print("\nmedian seconds of a round (least and most of the runs), and of the command to the end of its first round")
    print("\n".join(table(runs, asked.arms)))


if __name__ == "__main__":
    main()
