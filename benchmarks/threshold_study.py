"""M-Fed's fusion threshold on tasks that are related, and one that is not: Delta_m by threshold, three seeds.

    python benchmarks/threshold_study.py [--out runs/threshold_study] [--processes 2] [--seeds 0 1 2]

Runs ``experiments/threshold_study.yaml`` for every setting and seed (what is finished is not run again), prints the
table and writes the figure of ``docs/threshold_study.md``.
"""

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mfed_ray.evaluation import AFTER_AGGREGATION
from mfed_ray.results.frame import read_table
from mfed_ray.results.loading import load_results
from mfed_ray.results.rendering import render
from mfed_ray.results.summary import DELTA, summarise

EXPERIMENT = Path(__file__).resolve().parents[1] / "experiments/threshold_study.yaml"
FIGURE = Path(__file__).resolve().parents[1] / "docs/threshold_study.svg"
SETTINGS = {
    "local": ["algorithm={name: local}"],
    "tau = -1": ["algorithm.correlation_threshold=-1.0"],
    "tau = 0": ["algorithm.correlation_threshold=0.0"],
    "tau = 0.5": ["algorithm.correlation_threshold=0.5"],
    "tau = 1.1": ["algorithm.correlation_threshold=1.1"],
    "tau = auto": ["algorithm.correlation_threshold=auto"],
    "tau = auto, soft": ["algorithm.correlation_threshold=auto", "algorithm.fusion=soft"],
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito: safe for the colour-blind


def run(out: Path, setting: str, seed: int) -> None:
    """One run in a process of its own; goes on where it left off."""
    command = [sys.executable, "-m", "mfed_ray", "run", str(EXPERIMENT), *SETTINGS[setting], f"seed={seed}"]
    command += ["runtime.backend=serial", "--out", str(folder(out, setting, seed))]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603


def folder(out: Path, setting: str, seed: int) -> Path:
    """Where a run lies."""
    return out / f"{setting.replace(' ', '').replace(',', '_')}-seed{seed}"


def results(out: Path, seeds: list[int]) -> pd.DataFrame:
    """All runs' metrics, the setting in place of the algorithm's name."""
    frames = [
        load_results(folder(out, setting, seed)).assign(algorithm=setting, variant=setting)
        for setting in SETTINGS
        for seed in seeds
    ]
    return pd.concat(frames, ignore_index=True)


def delta_by_seed(frame: pd.DataFrame) -> pd.DataFrame:
    """Delta_m by setting and seed."""
    tables = []
    for seed, part in frame.groupby("seed"):
        table = summarise(part)
        tables.append(pd.DataFrame({"setting": table["variant"], "seed": seed, "delta": table[DELTA, "mean"]}))
    return pd.concat(tables, ignore_index=True)


def fused_share(out: Path, setting: str, seeds: list[int]) -> pd.DataFrame:
    """Share of rounds and seeds in which a group (rows) took in another's encoder (columns)."""
    frames = [read_table(folder(out, setting, seed) / "correlations.parquet") for seed in seeds]
    return pd.concat(frames).pivot_table(index="group", columns="other", values="fused", aggfunc="mean")


def draw(out: Path, frame: pd.DataFrame, seeds: list[int]) -> None:
    """Delta_m by setting, the unrelated task's curve, and what auto fused."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "mfed"})
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    _draw_delta(left, delta_by_seed(frame))
    _draw_curves(middle, frame)
    _draw_fused(right, fused_share(out, "tau = auto", seeds))
    figure.savefig(FIGURE, metadata={"Date": None})


def _draw_delta(axes: Axes, delta: pd.DataFrame) -> None:
    names = [name for name in SETTINGS if name != "local"]
    for place, (name, colour) in enumerate(zip(names, COLOURS, strict=True)):
        values = delta[delta["setting"] == name]["delta"].to_numpy()
        axes.bar(place, values.mean(), color=colour, alpha=0.45, width=0.7)
        axes.plot(np.full(len(values), place), values, "o", color=colour, markeredgecolor="black", markersize=5)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(names)), [name.replace(", ", ",\n") for name in names], rotation=30)
    axes.set_ylabel("Delta_m [%] against local")
    axes.set_title("Each seed (dots) and their mean (bars)")


def _draw_curves(axes: Axes, frame: pd.DataFrame) -> None:
    chosen = frame[(frame["task"] == "semantic_segmentation") & (frame["metric"] == "miou")]
    chosen = chosen[chosen["stage"] == AFTER_AGGREGATION]
    names = [name for name in SETTINGS if name != "local"]
    for place, (name, colour) in enumerate(zip(names, COLOURS, strict=True)):
        curve = chosen[chosen["algorithm"] == name].groupby("round")["value"].mean()
        width = 1.0 + 0.8 * (len(names) - place)  # equal curves lie on each other: the wider shows behind
        axes.plot(curve.index, curve.to_numpy(), "-", color=colour, label=name, linewidth=width)
    axes.set(xlabel="round", ylabel="mIoU", title="The unrelated task: textures, inverted colours")
    axes.legend(frameon=False, loc="center right", bbox_to_anchor=(1.0, 0.63), fontsize=8)


def _draw_fused(axes: Axes, share: pd.DataFrame) -> None:
    labels = [name.replace("_", " ").replace("+", " +\n") for name in share.index]
    axes.imshow(share.to_numpy(dtype=float), vmin=0, vmax=1, cmap="cividis")
    for (row, column), value in np.ndenumerate(share.to_numpy(dtype=float)):
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value < 0.5 else "black")
    axes.set_xticks(range(len(labels)), labels, rotation=30)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_title("auto: share of rounds in which the\nrow's group took in the column's encoder")


def main() -> None:
    """Run, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/threshold_study"))
    parser.add_argument("--processes", type=int, default=2, help="runs side by side, one core each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    jobs = list(product(SETTINGS, arguments.seeds))
    run(arguments.out, *jobs[0])  # alone: it draws the images
    with ThreadPoolExecutor(arguments.processes) as pool:
        list(pool.map(lambda job: run(arguments.out, *job), jobs[1:]))
    frame = results(arguments.out, arguments.seeds)
    print(render(summarise(frame), "markdown"))
    draw(arguments.out, frame, arguments.seeds)


if __name__ == "__main__":
    main()
