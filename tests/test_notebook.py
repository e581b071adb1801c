"""The notebook, from its first cell to its last, on a small sweep."""

import copy
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from mfed_ray.driver import run
from mfed_ray.experiment.loading import merge
from mfed_ray.sweep import parse_sweep
from mfed_ray.sweep.points import baselines, experiment_at, folder_name, planned

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "analysis.ipynb"


def test_the_notebook_makes_its_tables_and_figures(
    tiny_tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = parse_sweep(
        {
            "name": "small",
            "experiment": merge(
                copy.deepcopy(tiny_tree), {"rounds": 1, "local": {"max_steps": 1}, "model": {"width": 64}}
            ),
            "space": {
                "algorithm.decoder_proximal_weight": [0.0, 0.1],
                "algorithm.correlation_threshold": [0.5, -1.0],
                "seed": [0, 1],
            },
            "baselines": [{"algorithm": {"name": "local"}}],
        }
    )
    for point in [*baselines(sweep), *planned(sweep)]:  # as its trials would, without their actors
        list(run(experiment_at(sweep, point), tmp_path / "trials" / folder_name(point)))
    monkeypatch.setenv("MFED_SWEEP", str(tmp_path))
    monkeypatch.setenv("MFED_PAPER", str(tmp_path / "paper"))
    notebook = nbformat.reads(NOTEBOOK.read_text(encoding="utf-8"), as_version=4)  # type: ignore[no-untyped-call]
    assert all(not cell.get("outputs") for cell in notebook.cells), "figures of a sweep of ours would go stale"
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute(env={**os.environ, "MPLBACKEND": "agg"})
    names = sorted(path.name for path in (tmp_path / "paper").iterdir())
    assert names == [
        "figure_correlations.pdf",
        "figure_curves.pdf",
        "figure_lambda_tau.pdf",
        "table_cost.tex",
        "table_lambda_tau.tex",
        "table_variants.tex",
    ]
    grid = (tmp_path / "paper" / "table_lambda_tau.tex").read_text(encoding="utf-8")
    assert r"$\tau$ & -1.0 & 0.5 \\" in grid
    assert "toprule" in (tmp_path / "paper" / "table_variants.tex").read_text(encoding="utf-8")
