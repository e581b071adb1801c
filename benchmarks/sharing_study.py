"""When sharing an encoder across tasks pays: a task poor in data beside a rich one, related and not.

    python benchmarks/sharing_study.py --settings related --figure docs/sharing_study.svg
    python benchmarks/sharing_study.py --settings unrelated scenes --seeds 0 1 2

Runs ``experiments/textures.yaml`` for every setting, method and seed in ``--out`` (what is finished is not run again),
and prints the tables of ``docs/sharing_study.md``.

A method's share of the ceiling's gain is (M - M_FedAvg) / (M_ceiling - M_FedAvg) of the poor task, M the mean over
seeds, the ceiling one encoder for all tasks on all data; empty where the ceiling is not above FedAvg. p: two-sided
paired t-test over seeds of the poor task against FedAvg, adjusted for all methods of the setting (Holm).
"""

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats

from mfed_ray.evaluation import AFTER_AGGREGATION, FLOOR
from mfed_ray.results.comparison import holm
from mfed_ray.results.loading import load_results

EXPERIMENT = Path(__file__).resolve().parents[1] / "experiments/textures.yaml"

METHODS = {
    "local": "{name: local}",
    "FedAvg": "{name: fedavg}",
    "M-Fed, mean": "{name: mfed, correlation_threshold: -1.0, decoder_init: global}",
    "M-Fed, auto": "{name: mfed, correlation_threshold: auto, decoder_init: global}",
    "M-Fed, judged": "{name: mfed, correlation_threshold: judged, decoder_init: global}",
    "M-Fed, mean, own decoders": "{name: mfed, correlation_threshold: -1.0, decoder_init: local}",
    "M-Fed, judged, own decoders": "{name: mfed, correlation_threshold: judged, decoder_init: local}",
    "FedRep": "{name: fedrep}",
    "FedHCA2": "{name: fedhca2}",
    "MaT-FL": "{name: matfl, groups: 2}",
    "ceiling of a task": "{name: centralised, scope: task}",
    "ceiling of all": "{name: centralised, scope: all}",
}
BASE, CEILING = "FedAvg", "ceiling of all"


@dataclass(frozen=True)
class Setting:
    """A federation: what it changes in the experiment, its poor task and its rich one, and who is asked."""

    overrides: tuple[str, ...]
    poor: str
    rich: str
    methods: tuple[str, ...]


FEW = ("local", BASE, "M-Fed, mean", "M-Fed, auto", "M-Fed, judged", "ceiling of a task", CEILING)

SCENES = "{format: generated, root: data/sharing_scenes, images: 200, size: 48, seed: 0, val_fraction: 0.36}"
SETTINGS = {
    "related": Setting((), "saliency", "semantic_segmentation", tuple(METHODS)),
    "unrelated": Setting(
        (
            f"data.scenes={SCENES}",
            "clients=[{tasks: [surface_normals], data: scenes, count: 2, images: 40}, "
            "{tasks: [saliency], data: boards, count: 2, images: 4}]",
        ),
        "saliency",
        "surface_normals",
        FEW,
    ),
    "scenes": Setting(
        (
            f"data.scenes={SCENES}",
            "clients=[{tasks: [surface_normals], data: scenes, count: 2, images: 40}, "
            "{tasks: [saliency], data: scenes, count: 2, images: 4}]",
        ),
        "saliency",
        "surface_normals",
        FEW,
    ),
}


def run(out: Path, setting: str, method: str, seed: int) -> None:
    """One run in a process of its own; goes on where it left off."""
    command = [sys.executable, "-m", "mfed_ray", "run", str(EXPERIMENT), *SETTINGS[setting].overrides]
    command += [f"algorithm={METHODS[method]}", f"seed={seed}", "runtime.backend=serial"]
    command += ["--out", str(folder(out, setting, method, seed))]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603


def folder(out: Path, setting: str, method: str, seed: int) -> Path:
    """Where a run lies."""
    return out / f"{setting}-{method.replace(' ', '_').replace(',', '')}-seed{seed}"


def scores(out: Path, setting: str, seeds: list[int]) -> pd.DataFrame:
    """Each task's headline metric by method and seed: the mean over its clients in the last round; and its floor."""
    rows = []
    for method, seed in product(SETTINGS[setting].methods, seeds):
        frame = load_results(folder(out, setting, method, seed))
        frame = frame[frame["headline"]]
        last = frame[(frame["stage"] == AFTER_AGGREGATION) & (frame["round"] == frame["round"].max())]
        for name, part in ((method, last), ("floor", frame[frame["stage"] == FLOOR])):
            rows += [(name, seed, task, value) for task, value in part.groupby("task")["value"].mean().items()]
    return pd.DataFrame(rows, columns=["method", "seed", "task", "value"]).drop_duplicates(["method", "seed", "task"])


def table(found: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """A row per method: both tasks, the share of the ceiling's gain, and what seeds say of it."""
    wide = found.pivot_table(index="seed", columns=["task", "method"], values="value")
    poor, rich = wide[setting.poor], wide[setting.rich]
    tested = [name for name in setting.methods if name != BASE]
    p = dict(zip(tested, holm([stats.ttest_rel(poor[name], poor[BASE]).pvalue for name in tested]), strict=True))
    room = poor[CEILING].mean() - poor[BASE].mean()
    rows = []
    for name in (*setting.methods, "floor"):
        share = (poor[name].mean() - poor[BASE].mean()) / room
        change = 100 * (rich[name].mean() / rich[BASE].mean() - 1)
        rows.append(
            {
                "method": name,
                f"{setting.poor} (poor)": _told(poor[name]),
                "of the ceiling's gain": f"{100 * share:+.0f} %" if room > 0 else "",
                "Holm p": f"{p[name]:.4f}" if name in p else "",
                f"{setting.rich} (rich)": _told(rich[name]),
                "against FedAvg": f"{change:+.1f} %",
            }
        )
    return pd.DataFrame(rows)


def _markdown(frame: pd.DataFrame) -> str:
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _told(values: "pd.Series[float]") -> str:
    digits = 1 if values.mean() > 10 else 3
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"


def draw(found: dict[str, pd.DataFrame], path: Path) -> None:
    """The poor task by method: each seed and the mean, floor and ceiling as lines."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "mfed"})
    figure, places = plt.subplots(1, len(found), figsize=(5.5 * len(found), 4.2), layout="constrained", squeeze=False)
    for axes, (setting, frame) in zip(places[0], found.items(), strict=True):
        names = [name for name in SETTINGS[setting].methods if not name.startswith("ceiling")]
        poor = frame[frame["task"] == SETTINGS[setting].poor].groupby("method")["value"]
        for place, name in enumerate(names):
            values = poor.get_group(name).to_numpy()
            colour = "#0072B2" if name.startswith("M-Fed") else "#999999"
            axes.bar(place, values.mean(), color=colour, alpha=0.45, width=0.7)
            axes.plot(np.full(len(values), place), values, "o", color=colour, markeredgecolor="black", markersize=4)
        for name, style in ((CEILING, "-"), ("ceiling of a task", "--"), ("floor", ":")):
            axes.axhline(poor.get_group(name).mean(), color="black", linewidth=0.9, linestyle=style, label=name)
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
        axes.set(title=f"{setting}: {SETTINGS[setting].poor}, four images a client", ylabel="headline metric")
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(path)


def main() -> None:
    """Run, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/sharing_study"))
    parser.add_argument("--processes", type=int, default=2, help="runs side by side, one core each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--figure", type=Path, help="an SVG or PNG")
    asked = parser.parse_args()
    found = {}
    for setting in asked.settings:
        jobs = list(product((setting,), SETTINGS[setting].methods, asked.seeds))
        run(asked.out, *jobs[0])  # alone: it draws the images
        with ThreadPoolExecutor(asked.processes) as pool:
            list(pool.map(lambda job: run(asked.out, *job), jobs[1:]))
        found[setting] = scores(asked.out, setting, asked.seeds)
        print(f"\n{setting}\n{_markdown(table(found[setting], SETTINGS[setting]))}", flush=True)
    if asked.figure:
        draw(found, asked.figure)


if __name__ == "__main__":
    main()
