"""Seconds, by the clock and of processors, that a report on many trials takes, pictures included, and its size.

    python benchmarks/report.py [--trials 200] [--rounds 50] [--keep FOLDER]

Writes the trials to a temporary folder: the quickstart's 8 clients of 4 tasks, with as many values a round as they have
there, over 8 regularisation weights and 6 thresholds with 4 seeds each, FedAvg and local training. The tables are drawn
at random; the pictures are of the initial models, which stand for trained ones.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np

from mfed_ray.evaluation import AFTER_AGGREGATION, HELD_OUT, TRAIN, TRAINING
from mfed_ray.experiment import Experiment, load_experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.federation import make_simulation
from mfed_ray.experiment.identity import identity
from mfed_ray.federation import checkpoint
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.messages import ClientSpec
from mfed_ray.report import write_report
from mfed_ray.results.growing import Table
from mfed_ray.results.loading import load
from mfed_ray.results.run_folder import PARTITION, RunFolder
from mfed_ray.results.tables import CORRELATIONS, METRICS, ROUNDS
from mfed_ray.tasks import TASKS

EXPERIMENT = Path(__file__).resolve().parents[1] / "experiments/quickstart.yaml"
WEIGHTS, THRESHOLDS, SEEDS = (
    (0, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 1.0),
    (-1.0, 0.0, 0.01, 0.02, 0.05, "judged"),
    range(4),
)
FURTHER = {"semantic_segmentation": 22, "human_parts": 8, "saliency": 1, "surface_normals": 4}


def overrides() -> Iterator[list[str]]:
    """What the trials change, local training and FedAvg first."""
    for name, seed in product(("local", "fedavg"), SEEDS):
        yield [f"algorithm={{name: {name}}}", f"seed={seed}"]
    for weight, threshold, seed in product(WEIGHTS, THRESHOLDS, SEEDS):
        own = [f"algorithm.decoder_proximal_weight={weight}", f"algorithm.correlation_threshold={threshold}"]
        yield [*own, f"seed={seed}"]


def metric_rows(
    run: dict[str, Any], number: int, level: float, clients: list[ClientSpec], rng: np.random.Generator
) -> Iterator[Any]:
    """A round's values: they rise to about ``level``, and scatter."""
    for client in clients:
        (task,) = client.tasks
        whose = {**run, "round": number, "client": client.name, "task": task, "dataset": client.dataset}
        headline = TASKS[task].headline
        for metric in (headline.metric, *(f"iou/{index}" for index in range(FURTHER[task]))):
            value = level * (1 - np.exp(-(1 + number) / 10)) + 0.02 * rng.random()
            judged: dict[str, Any] = {"headline": metric == headline.metric, "higher_is_better": None}
            judged |= vars(headline) if judged["headline"] else {"metric": metric}
            yield {**whose, "stage": AFTER_AGGREGATION, "split": HELD_OUT, **judged, "value": value}
        whose |= {"headline": False, "higher_is_better": None}
        for metric in ("loss", "proximal_penalty", "steps"):
            yield {**whose, "stage": TRAINING, "split": TRAIN, "metric": metric, "value": rng.random()}


def write_tables(
    folder: RunFolder, experiment: Experiment, clients: list[ClientSpec], rng: np.random.Generator
) -> None:
    """The three tables of one trial."""
    run = vars(identity(experiment))
    config = experiment.resolved()
    metrics = Table(folder.path / "metrics.parquet", METRICS, config)
    costs = Table(folder.path / "rounds.parquet", ROUNDS, config)
    correlations = Table(folder.path / "correlations.parquet", CORRELATIONS, config)
    groups = list(dict.fromkeys(client.group for client in clients))
    level = rng.uniform(0.4, 0.7)
    for number in range(experiment.rounds + 1):
        metrics.add(metric_rows(run, number, level, clients, rng))
        costs.add([{name: number if name == "round" else 1000 for name in ROUNDS} | {"run_id": run["run_id"]}])
        for group, other in product(groups, groups) if run["algorithm"] == "mfed" else ():
            pair = {"run_id": run["run_id"], "round": number, "group": group, "other": other}
            correlations.add([{**pair, "correlation": rng.normal(0, 0.02), "fused": bool(rng.random() > 0.5)}])
    for table in (metrics, costs, correlations):
        table.write()


def write_trials(root: Path, trials: int, rounds: int) -> None:
    """All the trials, each with a checkpoint of its algorithm's initial state."""
    states: dict[str, Path] = {}
    for number, changes in enumerate(islice(overrides(), trials)):
        data = [f"rounds={rounds}", f"data.scenes.root={root / 'data'}"]
        experiment = load_experiment(EXPERIMENT, [*changes, *data])
        folder = RunFolder(root / "trials" / f"{number:03d}")
        clients = make_clients(experiment)
        if experiment.algorithm_name not in states:
            states[experiment.algorithm_name] = root / experiment.algorithm_name
            start = make_simulation(experiment, clients).start
            checkpoint.save(states[experiment.algorithm_name], Checkpoint(rounds, start, {}))
        folder.write_config(experiment.resolved())
        folder.write_json(PARTITION, {client.name: list(client.train_ids) for client in clients})
        folder.checkpoints.symlink_to(states[experiment.algorithm_name])
        write_tables(folder, experiment, clients, np.random.default_rng(number))


def main() -> None:
    """Write, measure, delete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--keep", type=Path, help="copy the report into this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_trials(root, arguments.trials, arguments.rounds)
        start, start_of_work = time.perf_counter(), time.process_time()
        (page,) = write_report(load(root / "trials"), root / "report.html")
        seconds, work = time.perf_counter() - start, time.process_time() - start_of_work
        size = page.stat().st_size / 1e6
        told = {"seconds": round(seconds, 1), "processor_seconds": round(work, 1), "MB": round(size, 2)}
        print(json.dumps({"trials": arguments.trials, "rounds": arguments.rounds, **told}))
        if arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(page, arguments.keep)


if __name__ == "__main__":
    main()
