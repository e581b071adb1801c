"""When sharing an encoder across tasks pays: a task poor in data beside a rich one, related and not.

    python benchmarks/sharing_study.py --figure docs/sharing_study.svg
    python benchmarks/sharing_study.py --settings unrelated scenes --seeds 0 1 2

Runs ``experiments/textures.yaml`` for every setting, method and seed in ``--out`` (what is finished is not run again),
and prints the tables of ``docs/sharing_study.md``.

A method's share of the ceiling's gain is (M - M_FedAvg) / (M_ceiling - M_FedAvg) of the poor task, M the mean over
seeds, the ceiling one encoder for all tasks on all data; empty where the ceiling is not above FedAvg. p: two-sided
paired t-test over seeds of the poor task against FedAvg; Holm p: adjusted for all methods of the setting.
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
from matplotlib.axes import Axes
from scipy import stats

from mfed_ray.evaluation import AFTER_AGGREGATION, FLOOR
from mfed_ray.results.comparison import holm
from mfed_ray.results.loading import load_results

EXPERIMENT = Path(__file__).resolve().parents[1] / "experiments/textures.yaml"

METHODS = {
    "local": "{name: local}",
    "FedAvg": "{name: fedavg}",
    "M-Fed, mean": "{name: mfed, correlation_threshold: -1.0}",
    "M-Fed, sum": "{name: mfed, correlation_threshold: -1.0, fusion: sum}",
    "M-Fed, judged": "{name: mfed, correlation_threshold: judged}",
    "M-Fed, mean, own decoders": "{name: mfed, correlation_threshold: -1.0, decoder_init: local}",
    "M-Fed, judged, own decoders": "{name: mfed, correlation_threshold: judged, decoder_init: local}",
    "FedRep": "{name: fedrep}",
    "FedHCA2": "{name: fedhca2}",
    "MaT-FL": "{name: matfl, groups: 2}",
    "ceiling of a task": "{name: centralised, scope: task}",
    "ceiling of all": "{name: centralised, scope: all}",
}
BASE, CEILING = "FedAvg", "ceiling of all"
FEW = ("local", BASE, "M-Fed, mean", "M-Fed, sum", "M-Fed, judged", "ceiling of a task", CEILING)
CURVE = (BASE, "M-Fed, mean", "M-Fed, judged", CEILING)
SCENES = (
    "data.scenes={format: generated, root: data/sharing_scenes, images: 200, size: 48, seed: 0, val_fraction: 0.36}"
)


@dataclass(frozen=True)
class Setting:
    """A federation: what it changes in the experiment, its poor task and its rich one, and who is asked."""

    overrides: tuple[str, ...]
    poor: str
    rich: str
    methods: tuple[str, ...] = FEW
    seeds: int = 5


def clients(rich: str, poor: str = "{tasks: [saliency], data: boards, count: 2, images: 4}") -> str:
    """The federation's clients: rich ones and poor ones."""
    return f"clients=[{rich}, {poor}]"


PHOTOGRAPHS = (
    "data={photographs: {format: pascal_context, root: ../shared/data/bsds_mini}}",
    "model={encoder: mobilenet_v2, weights: ../shared/weights/mobilenet_v2_imagenet.safetensors, width: 64}",
    "model={normalisation: frozen, output_stride: 16}",
    "augmentation.crop_size=128",
    "local.learning_rate=1e-3",
    "evaluation.max_images=12",
    "clients=[{tasks: [edge_detection], data: photographs, count: 2, images: 40}, "
    "{tasks: [saliency], data: photographs, count: 2, images: 4}]",
)
"""Photographs of BSDS500 with what people marked on them, from an encoder that ImageNet has trained."""
NORMALS = "{tasks: [surface_normals], data: scenes, count: 2, images: 40}"
SEGMENTATION = "{tasks: [semantic_segmentation], data: boards, count: 2, images: 40}"
ON_SCENES = "{tasks: [semantic_segmentation], data: scenes, count: %d, images: 40}"
BRIDGE = "{tasks: [saliency, semantic_segmentation], data: boards, images: 8}"
SETTINGS = {
    "related": Setting((), "saliency", "semantic_segmentation", tuple(METHODS), seeds=10),
    "unrelated": Setting((SCENES, clients(NORMALS)), "saliency", "surface_normals"),
    "scenes": Setting(
        (SCENES, clients(NORMALS, "{tasks: [saliency], data: scenes, count: 2, images: 4}")),
        "saliency",
        "surface_normals",
    ),
    **{
        f"{images} images": Setting(
            (clients(SEGMENTATION, f"{{tasks: [saliency], data: boards, count: 2, images: {images}}}"),),
            "saliency",
            "semantic_segmentation",
            CURVE,
            seeds=3,
        )
        for images in (2, 8, 24)
    },
    "half related": Setting(
        (SCENES, clients(f"{SEGMENTATION.replace('count: 2', 'count: 1')}, {ON_SCENES % 1}")),
        "saliency",
        "semantic_segmentation",
        CURVE,
    ),
    "other pictures": Setting((SCENES, clients(ON_SCENES % 2)), "saliency", "semantic_segmentation", CURVE),
    "bridge": Setting((clients(f"{SEGMENTATION}, {BRIDGE}"),), "saliency", "semantic_segmentation", CURVE),
    "photographs": Setting(PHOTOGRAPHS, "saliency", "edge_detection", CURVE, seeds=3),
}
BY_IMAGES = {2: "2 images", 4: "related", 8: "8 images", 24: "24 images"}
"""By images of a poor client: the setting."""


def run(out: Path, setting: str, method: str, seed: int) -> None:
    """One run in a process of its own; goes on where it left off."""
    command = [sys.executable, "-m", "mfed_ray", "run", str(EXPERIMENT), *SETTINGS[setting].overrides]
    command += ["rounds=10", "evaluation.every=5", "runtime.backend=serial"]
    command += [f"algorithm={METHODS[method]}", f"seed={seed}"]
    command += ["--out", str(folder(out, setting, method, seed))]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603


def folder(out: Path, setting: str, method: str, seed: int) -> Path:
    """Where a run lies."""
    return out / f"{setting}-{method}-seed{seed}".replace(" ", "_").replace(",", "")


def scores(out: Path, setting: str, seeds: list[int]) -> pd.DataFrame:
    """Each task's headline metric by method and seed: the mean over the clients that have it alone, in the last round;
    and its floor."""
    rows = []
    for method, seed in product(SETTINGS[setting].methods, seeds):
        frame = load_results(folder(out, setting, method, seed))
        alone = frame["client"].str.rsplit("-", n=1).str[0] == frame["task"].astype(str)
        frame = frame[frame["headline"] & alone]
        last = frame[(frame["stage"] == AFTER_AGGREGATION) & (frame["round"] == frame["round"].max())]
        for name, part in ((method, last), ("floor", frame[frame["stage"] == FLOOR])):
            rows += [(name, seed, task, value) for task, value in part.groupby("task")["value"].mean().items()]
    return pd.DataFrame(rows, columns=["method", "seed", "task", "value"]).drop_duplicates(["method", "seed", "task"])


def table(found: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """A row per method: both tasks, the share of the ceiling's gain, and what seeds say of it."""
    wide = found.pivot_table(index="seed", columns=["task", "method"], values="value")
    poor, rich = wide[setting.poor], wide[setting.rich]
    tested = [name for name in setting.methods if name != BASE]
    raw = {name: stats.ttest_rel(poor[name], poor[BASE]).pvalue for name in tested}
    p = dict(zip(tested, holm(list(raw.values())), strict=True))
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
                "p": f"{raw[name]:.4f}" if name in raw else "",
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
    """The poor task by method: each seed and the mean, floor and ceilings as lines; and by its number of images."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "mfed"})
    by_images = {images: found[setting] for images, setting in BY_IMAGES.items() if setting in found}
    bars = [name for name in ("related", "unrelated") if name in found]
    panels = len(bars) + (len(by_images) > 1)
    figure, places = plt.subplots(1, panels, figsize=(4.6 * panels, 4.2), layout="constrained", squeeze=False)
    for axes, setting in zip(places[0], bars, strict=False):
        _draw_methods(axes, setting, found[setting])
    if len(by_images) > 1:
        _draw_curve(places[0][-1], by_images)
    figure.savefig(path)


def _draw_methods(axes: Axes, setting: str, frame: pd.DataFrame) -> None:
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


def _draw_curve(axes: Axes, by_images: dict[int, pd.DataFrame]) -> None:
    colours = dict(zip(CURVE, ("#999999", "#56B4E9", "#0072B2", "black"), strict=True))
    for method, colour in colours.items():
        values = {
            images: frame.loc[(frame["task"] == "saliency") & (frame["method"] == method), "value"]
            for images, frame in by_images.items()
        }
        means = [one.mean() for one in values.values()]
        axes.errorbar(list(values), means, [one.std(ddof=1) for one in values.values()], color=colour, label=method)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(by_images), [str(images) for images in by_images])
    axes.set(title="saliency by images of each of its clients", xlabel="images", ylabel="headline metric")
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def main() -> None:
    """Run, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/sharing_study"))
    parser.add_argument("--processes", type=int, default=2, help="runs side by side, one core each")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: as many as the setting has, from 0")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--figure", type=Path, help="an SVG or PNG")
    asked = parser.parse_args()
    found = {}
    for setting in asked.settings:
        seeds = asked.seeds or [*range(SETTINGS[setting].seeds)]
        jobs = list(product((setting,), SETTINGS[setting].methods, seeds))
        run(asked.out, *jobs[0])  # alone: it draws the images
        with ThreadPoolExecutor(asked.processes) as pool:
            list(pool.map(lambda job: run(asked.out, *job), jobs[1:]))
        found[setting] = scores(asked.out, setting, seeds)
        print(f"\n{setting}\n{_markdown(table(found[setting], SETTINGS[setting]))}", flush=True)
    if asked.figure:
        draw(found, asked.figure)


if __name__ == "__main__":
    main()
