"""Seconds from a command to its first training step, and what its processes need in memory; seconds of small commands.

    python -m benchmarks.startup --out startup.json
    python -m benchmarks.startup --runs 1      # a quick look

`mfed run experiments/quickstart.yaml` in a new folder, its images drawn before, against bare Ray with an actor for each
CPU that imports torch and torchvision and takes one step. What `mfed run` does before the first client trains, the
evaluation of the initial models too, counts; it ends after one round. Runs take turns. Memory is measured in runs of
its own, since looking at it takes time: the most that the command and all its descendants have at one moment, looked
at every 0.2 s, the sum of their PSS, in which a page that several share counts once. Also `mfed --help`, and
`mfed results` on ten runs.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import yaml

from benchmarks.processes import Called, call, last_lines
from benchmarks.startup_arms.mark import first_mark
from benchmarks.surroundings import ROOT, load_average, surroundings, write_json
from mfed_ray.results.frame import read_table
from mfed_ray.results.growing import Table
from mfed_ray.results.tables import CORRELATIONS, METRICS, ROUNDS

SAMPLE_SECONDS = 0.2
RUNS_OF_RESULTS = 10
MFED = [sys.executable, "-m", "mfed_ray"]


@dataclass(frozen=True)
class Value:
    """One measured value."""

    what: str
    unit: str
    load_average: float
    value: float


@dataclass(frozen=True)
class Bench:
    """The folder that all happens in, and the commands."""

    folder: Path

    def command(self, name: str, number: int) -> list[str]:
        """The command to measure, for the run of this number."""
        if name == "help":
            return [*MFED, "--help"]
        if name == "results":
            return [*MFED, "results", str(self.folder / "results")]
        marks = self.folder / f"marks-{name}-{number}"
        marks.mkdir()
        if name == "ray":
            return [sys.executable, "-m", "benchmarks.startup_arms.bare_ray", str(marks)]
        algorithm = {"name": "benchmarks.startup_arms.marked:Marked", "folder": str(marks)}
        return self.run(f"run-{number}", algorithm)

    def run(self, out: str, algorithm: dict[str, str]) -> list[str]:
        """`mfed run` of one round."""
        overrides = ["rounds=1", f"algorithm={json.dumps(algorithm)}", f"data.scenes.root={self.folder / 'data'}"]
        return [*MFED, "run", str(ROOT / "experiments/quickstart.yaml"), *overrides, "--out", str(self.folder / out)]

    def call(self, command: Sequence[str], sample_seconds: float | None = None) -> Called:
        """Run it; RuntimeError where it fails."""
        log = self.folder / "log.txt"
        called = call(command, log, {}, sample_seconds=sample_seconds)
        if called.status:
            raise RuntimeError(f"{' '.join(command)} ended with {called.status}: {last_lines(log)}")
        return called

    def first_step(self, name: str, number: int) -> float:
        """Seconds from the command to the first training step."""
        command, began = self.command(name, number), time.time()
        self.call(command)
        return first_mark(self.folder / f"marks-{name}-{number}") - began

    def prepare(self) -> None:
        """Draw the images, and lay ten runs for `mfed results`."""
        self.call(self.run("warm", {"name": "fedavg"}))
        for seed in range(RUNS_OF_RESULTS):
            copy_run(self.folder / "warm", self.folder / f"results/{seed}", seed)


def copy_run(run: Path, copy: Path, seed: int) -> None:
    """A copy of the run's folder that says everywhere that it had this seed."""
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("checkpoints"))
    config = {**yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")), "seed": seed}
    (copy / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    for name, columns in (("metrics", METRICS), ("rounds", ROUNDS), ("correlations", CORRELATIONS)):
        table = Table(copy / f"{name}.parquet", columns, config)
        frame = read_table(run / f"{name}.parquet")
        frame["run_id"] = [f"{run_id.rpartition('-seed')[0]}-seed{seed}" for run_id in frame["run_id"]]
        if "seed" in columns:
            frame["seed"] = seed
        table.add(dict(zip(frame.columns, row, strict=True)) for row in frame.itertuples(index=False))
        table.write()


def measure(bench: Bench, runs: int) -> Iterator[Value]:
    """Everything, in turns."""
    for number in range(runs):
        names = ("mfed", "ray") if number % 2 == 0 else ("ray", "mfed")
        for name in names:
            yield Value(f"{name}: first step", "s", load_average(), bench.first_step(name, number))
        for name in ("help", "results"):
            yield Value(f"mfed {name}", "s", load_average(), bench.call(bench.command(name, number)).seconds)
    for number in range(runs, runs + max(1, runs // 2)):
        for name in ("mfed", "ray"):
            called = bench.call(bench.command(name, number), SAMPLE_SECONDS)
            yield Value(f"{name}: peak memory", "GB", load_average(), called.peak_memory_bytes / 1e9)


def main() -> None:
    """Prepare, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="of each command; half as many, at least one, for memory")
    parser.add_argument("--out", type=Path, help="JSON with every value")
    asked = parser.parse_args()
    values: list[Value] = []
    about = {**surroundings(), "command": ["python", "-m", "benchmarks.startup", *sys.argv[1:]], "versions": versions()}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        bench.prepare()
        for value in measure(bench, asked.runs):
            values.append(value)
            print(f"{value.what} (load {value.load_average}): {value.value:.2f} {value.unit}", flush=True)
            write_json(asked.out, {**about, "values": [asdict(value) for value in values]})
    print("\nmedians (least and most)")
    for what in dict.fromkeys(value.what for value in values):
        found = sorted(value.value for value in values if value.what == what)
        unit = next(value.unit for value in values if value.what == what)
        print(f"{what:20} {median(found):6.2f} {unit} ({found[0]:.2f}-{found[-1]:.2f})")


def versions() -> dict[str, str]:
    """Of what is measured."""
    return {name: version(name) for name in ("mfed-ray", "ray", "torch", "torchvision", "numpy")}


if __name__ == "__main__":
    main()
