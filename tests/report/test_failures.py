"""The page's account of clients that failed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mfed_ray.report import write_report
from mfed_ray.report.failures import failure_cells
from mfed_ray.results.loading import Results

ABOUT = {"experiment": "trial", "variant": "mfed", "seed": 0}


def failed(number: int, client: str, time: str, **more: Any) -> dict[str, Any]:
    row = {"round": number, "phase": "fit", "client": client, "time": time, "error": "it <died>", "outcome": "retried"}
    return {**ABOUT, **row, **more}


def test_clients_that_failed_together_have_a_row_in_the_order_of_time() -> None:
    rows = [failed(2, "c", "10:02"), failed(1, "a", "10:01"), failed(1, "b", "10:01")]
    cells = failure_cells(pd.DataFrame(rows))
    assert cells is not None
    assert list(cells.itertuples(index=False, name=None)) == [
        ("trial", "mfed", "0", "1", "fit", "a, b", "retried", "it <died>"),
        ("trial", "mfed", "0", "2", "fit", "c", "retried", "it <died>"),
    ]


def test_nobody_failed() -> None:
    assert failure_cells(pd.DataFrame()) is None


def test_no_more_rows_than_a_reader_takes() -> None:
    cells = failure_cells(pd.DataFrame([failed(number, "c", f"{number:03d}") for number in range(103)]))
    assert cells is not None
    assert cells["experiment"].tolist()[99:] == ["trial", "and 3 more"]


def test_the_page_has_a_section_of_failures(make_results: Callable[..., Results], tmp_path: Path) -> None:
    made = make_results([{"algorithm": "mfed", "seed": 0, "values": {"saliency": [[0.1, 0.2]]}}])
    (page,) = write_report(made, tmp_path / "quiet.html")
    assert "Failures of clients" not in page.read_text()
    told = replace(made, failures=pd.DataFrame([failed(1, "saliency-0", "10:01", outcome="dropped")]))
    (page,) = write_report(told, tmp_path / "told.html")
    text = page.read_text()
    assert '<a href="#failures">Failures of clients</a>' in text
    assert "<td>saliency-0</td><td>dropped</td><td>it &lt;died&gt;</td>" in text
