"""The clients that failed, as the page shows them."""

import pandas as pd

_KEYS = ["experiment", "variant", "seed", "round", "phase", "outcome", "error"]
_MOST = 100
"""Rows that are shown; all are in the runs' tables."""


def failure_cells(failures: pd.DataFrame) -> pd.DataFrame | None:
    """Texts, in the order of time: clients that failed together in one row. None where nobody failed.

    ``failures``: of ``mfed_ray.load``'s results.
    """
    if failures.empty:
        return None
    rows = failures.sort_values("time", kind="stable").groupby([*_KEYS, "time"], sort=False)["client"]
    cells = rows.agg(", ".join).reset_index()[[*_KEYS[:5], "client", "outcome", "error"]].astype(str)
    if (rest := len(cells) - _MOST) > 0:
        cells = pd.concat(
            [cells[:_MOST], pd.DataFrame([{**dict.fromkeys(cells, ""), "experiment": f"and {rest} more"}])]
        )
    return cells
