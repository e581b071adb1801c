"""What runs under differential privacy have spent of it, in a sentence."""

import pandas as pd

from mfed_ray.report.words import listed, number

SPENT = ("epsilon", "epsilon_bound", "delta")


def privacy_spent(metrics: pd.DataFrame) -> str:
    """Of one experiment's metrics: by variant the most that a task group has spent in a run; empty where none has."""
    rows = metrics[metrics["metric"].isin(SPENT)]
    if rows.empty:
        return ""
    most = rows.pivot_table(index="variant", columns="metric", values="value", aggfunc="max")
    told = [
        f"{variant} epsilon {number(one['epsilon'], 3)} ({number(one['epsilon_bound'], 3)} if it is known who took "
        f"part) at delta {one['delta']:g}"
        for variant, one in most.iterrows()
    ]
    return f" Differential privacy of a client, the most over tasks: {listed(told)}."
