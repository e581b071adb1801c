from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyarrow import parquet

from mfed_ray.results.find import folder_at
from mfed_ray.results.growing import Table
from mfed_ray.results.parts import read_whole
from mfed_ray.results.tables import CORRELATIONS, DESCRIBED, FUSING, METRICS, ROUNDS

CONFIG: dict[str, Any] = {
    "name": "tiny",
    "seed": 0,
    "rounds": 2,
    "algorithm": {"name": "mfed", "decoder_proximal_weight": 0.01, "correlation_threshold": -1.0},
    "clients": [{"tasks": ["saliency"], "count": 2}],
    "runtime": {"backend": "serial", "threads_per_client": 1},
}
COLUMNS = {"metrics": METRICS, "rounds": ROUNDS, "correlations": CORRELATIONS, "fusing": FUSING}
MakeRun = Callable[..., Path]
JUDGED_BY = {
    "semantic_segmentation": ("miou", True),
    "saliency": ("max_miou", True),
    "surface_normals": ("mean_error", False),
}


def whole_table(folder: Path, name: str) -> pd.DataFrame:
    """A table of the run's folder, parts included."""
    frame: pd.DataFrame = read_whole(folder_at(str(folder)), f"{name}.parquet", COLUMNS[name]).rows.to_pandas()
    return frame


def headline_columns(task: str, setting: str) -> dict[str, Any]:
    """What rows of a task's headline metric have in common."""
    metric, higher = JUDGED_BY[task]
    return {"split": "val", "metric": metric, "headline": True, "higher_is_better": higher, "setting": setting}


def changed(keys: Mapping[str, Any]) -> dict[str, Any]:
    """CONFIG with other values at dotted keys of at most two parts."""
    config = {**CONFIG, "algorithm": dict(CONFIG["algorithm"]), "runtime": dict(CONFIG["runtime"])}
    for key, value in keys.items():
        section, dot, name = key.partition(".")
        if dot:
            config[section] = {**config[section], name: value}
        else:
            config[section] = value
    return config


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """``make_run(name, until=2, value=0.5, **{dotted key: value})``: the folder of a run of one client in one task.

    It is called NAME unless ``run_id`` is given, and has ``until`` of its planned rounds.
    """

    def make(name: str, *, until: int = 2, value: float = 0.5, run_id: str | None = None, **keys: Any) -> Path:
        config, folder = changed(keys), tmp_path / name
        folder.mkdir(parents=True)
        run = {"run_id": run_id or name, "experiment": config["name"], "seed": config["seed"]}
        run["algorithm"] = config["algorithm"]["name"]
        texts = {"client": "saliency-0", "task": "saliency", "dataset": "x", **headline_columns("saliency", "s")}
        metrics = Table(folder / "metrics.parquet", METRICS, config)
        metrics.add(
            {**run, **texts, "stage": "after_aggregation", "round": number, "value": value if number else 0.0}
            for number in range(until + 1)
        )
        costs = Table(folder / "rounds.parquet", ROUNDS, config)
        costs.add({**dict.fromkeys(ROUNDS, 1), "run_id": run["run_id"], "round": n} for n in range(until + 1))
        pair = {"run_id": run["run_id"], "group": "a", "other": "b", "correlation": 0.5, "fused": True}
        correlations = Table(folder / "correlations.parquet", CORRELATIONS, config)
        correlations.add({**pair, "round": number} for number in range(1, until + 1))
        step = {"run_id": run["run_id"], "group": "a", "other": "a", "block": "encoder", "agreement": None}
        fusing = Table(folder / "fusing.parquet", FUSING, config)
        fusing.add({**step, "own_length": 2.0, "fused_length": 1.0, "round": n} for n in range(1, until + 1))
        for table in (metrics, costs, correlations, fusing):
            table.write()
        return folder

    return make


@pytest.fixture
def as_version_1() -> Callable[[Path], None]:
    """Rewrites a run's tables as they were before they said by which version they were made."""

    def rewrite(folder: Path) -> None:
        for path in folder.glob("*.parquet"):
            frame = pd.read_parquet(path)
            frame.drop(columns=[*DESCRIBED], errors="ignore").to_parquet(path, index=False)

    return rewrite


def rewrite_as_version_2(folder: Path) -> None:
    """Make a run's tables what they were before they said what tasks are judged by, and the setting."""
    for path in folder.glob("*.parquet"):
        rows = parquet.read_table(path)
        rows = rows.drop_columns([name for name in rows.column_names if name in DESCRIBED])
        made = rows.schema.metadata[b"mfed_ray"].replace(b'"version": 3', b'"version": 2')
        parquet.write_table(rows.replace_schema_metadata({b"mfed_ray": made}), path)
