"""Seconds and memory that loading many runs takes, and their summary after it.

    python benchmarks/load_results.py [--runs 1000] [--rounds 20]

Writes the runs to a temporary folder: 8 clients of 4 tasks, 50 values a round, so 1,000 rows in 20 rounds; M-Fed with
five seeds of as many regularisation weights as it takes. The files are in the page cache when they are read.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mfed_ray.evaluation import AFTER_AGGREGATION, HELD_OUT, TRAIN, TRAINING
from mfed_ray.experiment import load_experiment
from mfed_ray.results.growing import Table
from mfed_ray.results.loading import load
from mfed_ray.results.summary import summarise
from mfed_ray.results.tables import CORRELATIONS, METRICS, ROUNDS
from mfed_ray.tasks import TASKS

EXPERIMENT = Path(__file__).resolve().parents[1] / "experiments/quickstart.yaml"
NAMES = ("semantic_segmentation", "human_parts", "saliency", "surface_normals")
CLIENTS, SEEDS, MIB = 8, 5, 2**20
FURTHER = tuple(f"iou_{number}" for number in range(4))


def metric_rows(run: dict[str, Any], number: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """A round's 50 values: 5 held-out ones a client, and 10 of training."""
    for client in range(CLIENTS):
        task = NAMES[client % len(NAMES)]
        whose = {**run, "round": number, "client": f"{task}-{client // len(NAMES)}", "task": task, "dataset": "scenes"}
        headline = TASKS[task].headline
        yield {**whose, "stage": AFTER_AGGREGATION, "split": HELD_OUT, "value": rng.random(), "headline": True} | vars(
            headline
        )
        whose |= {"headline": False, "higher_is_better": None}
        for metric in FURTHER:
            yield {**whose, "stage": AFTER_AGGREGATION, "split": HELD_OUT, "metric": metric, "value": rng.random()}
        for metric in ("loss", "steps")[: 1 + (client < 2)]:
            yield {**whose, "stage": TRAINING, "split": TRAIN, "metric": metric, "value": rng.random()}


def write_run(folder: Path, number: int, rounds: int) -> None:
    """One run's three tables."""
    weight, seed = 0.001 * (1 + number // SEEDS), number % SEEDS
    overrides = [f"algorithm.decoder_proximal_weight={weight}", f"seed={seed}", f"rounds={rounds}"]
    config = load_experiment(EXPERIMENT, overrides).resolved()
    rng = np.random.default_rng(number)
    run_id = f"quickstart-mfed-44bc6208-{number // SEEDS:08x}-seed{seed}"
    run = {"run_id": run_id, "experiment": "quickstart", "algorithm": "mfed", "seed": seed, "setting": "44bc6208"}
    folder.mkdir(parents=True)
    metrics = Table(folder / "metrics.parquet", METRICS, config)
    costs = Table(folder / "rounds.parquet", ROUNDS, config)
    correlations = Table(folder / "correlations.parquet", CORRELATIONS, config)
    for one in range(1, rounds + 1):
        metrics.add(metric_rows(run, one, rng))
        costs.add([{name: one if name == "round" else 1 for name in ROUNDS} | {"run_id": run_id}])
        pairs = [(group, other) for group in NAMES for other in NAMES]
        correlations.add(
            {"run_id": run_id, "round": one, "group": a, "other": b, "correlation": rng.random(), "fused": a == b}
            for a, b in pairs
        )
    for table in (metrics, costs, correlations):
        table.write()


def main() -> None:
    """Write, measure, delete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.runs):
            write_run(Path(folder) / "trials" / f"{number:05d}", number, arguments.rounds)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        start = time.perf_counter()
        results = load(folder)
        loaded = time.perf_counter()
        table = summarise(results.metrics)
        done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    held = results.metrics.memory_usage(deep=True).sum() / MIB
    print(
        f"{len(results.folders)} runs, {len(results.metrics)} rows: loaded in {loaded - start:.1f} s, summarised to "
        f"{len(table)} variants in {done - loaded:.1f} s; frame of {held:.0f} MiB; peak memory {before:.0f} MiB "
        f"before, {peak:.0f} MiB after"
    )


if __name__ == "__main__":
    main()
