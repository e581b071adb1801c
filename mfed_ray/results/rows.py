"""A summary's rows: what a variant's runs amount to, and why where they amount to nothing."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from mfed_ray.evaluation import AFTER_AGGREGATION, BEFORE_AGGREGATION, Headline
from mfed_ray.results.comparison import FEWEST, LOCAL, holm, paired_p
from mfed_ray.results.delta import DELTA, delta_m
from mfed_ray.results.order import natural

BEST = "best stage"
FLOOR, AT_FLOOR = "floor", "at floor"

Row = dict[tuple[str, str], Any]
"""A summary's row by the two levels of its columns."""


class RunTask(Protocol):
    """A run's headline metric in one task, as ``with_gain`` leaves it, and its floor."""

    run_id: str
    experiment: str
    algorithm: str
    variant: str
    seed: int
    last: int
    planned: int
    finished: bool
    task: str
    value: float
    better: float
    gain: float
    no_gain: str
    floor: float
    lacking: str
    """How many clients failed in the last evaluation; empty where none did."""


class _Outcome(NamedTuple):
    """A seed's number, or why there is none."""

    seed: int
    value: float
    why: str


def row(runs: Sequence[RunTask], tasks: Mapping[str, Headline]) -> Row:
    """A variant's row, with columns for all the tasks in their order."""
    done = [one for one in runs if one.finished]
    stopped = {one.run_id: one for one in runs if not one.finished}
    told = _stopped(list(stopped.values()))
    found: Row = {
        ("experiment", ""): runs[0].experiment,
        ("variant", ""): runs[0].variant,
        ("seeds", ""): len({one.run_id for one in done}),
        ("seeds", "note"): f"{len(stopped)} {told}" if told else None,
    }
    for task, headline in tasks.items():
        name, of_task = f"{task} {headline.metric}", [one for one in done if one.task == task]
        absent = "no such task" if done else told
        outcomes = [_Outcome(one.seed, one.value, _absence(one)) for one in of_task]
        found |= _cell(name, outcomes, absent)
        found |= _floor(name, found[name, "mean"], [one.floor for one in of_task], headline)
        found[name, BEST] = _best([one.better for one in of_task])
    by_run = defaultdict[str, list[RunTask]](list)
    for one in done:
        by_run[one.run_id].append(one)
    deltas = [_delta(one) for one in by_run.values()]
    best = _best([delta_m([task.better for task in one]) for one in by_run.values()])
    found |= _cell(DELTA, deltas, told)
    found |= _test(found[DELTA, "note"], deltas, runs[0].algorithm)
    missing = None if best else "not evaluated at both stages" if done else told
    return found | {(BEST, ""): best, (BEST, "note"): missing}


def _absence(one: RunTask) -> str:
    return one.lacking or ("not evaluated" if np.isnan(one.value) else "")


def _delta(run: Sequence[RunTask]) -> _Outcome:
    why = next((one.no_gain for one in run if one.no_gain), "")
    return _Outcome(run[0].seed, delta_m([one.gain for one in run]), why)


def _cell(name: str, outcomes: Sequence[_Outcome], absent: str | None) -> Row:
    """Mean and spread over seeds; why there is none, or no spread."""
    if why := _reasons(outcomes) or (None if outcomes else absent):
        return {(name, "mean"): np.nan, (name, "sd"): np.nan, (name, "note"): why}
    values = [one.value for one in outcomes]
    several = len(values) > 1
    return {
        (name, "mean"): float(np.mean(values)),
        (name, "sd"): float(np.std(values, ddof=1)) if several else np.nan,
        (name, "note"): None if several else "one seed",
    }


def _floor(name: str, mean: float, floors: Sequence[float], headline: Headline) -> Row:
    """The floor, and whether the mean is no better; of seeds that all have one."""
    floor = float(np.mean(floors)) if floors else np.nan
    gap = mean - floor if headline.higher_is_better else floor - mean
    return {(name, FLOOR): floor, (name, AT_FLOOR): None if np.isnan(gap) else bool(gap <= 0)}


def _reasons(outcomes: Sequence[_Outcome]) -> str:
    """Why seeds have no number, and which where others have one."""
    seeds = defaultdict[str, list[str]](list)
    for one in sorted(outcomes):
        if one.why:
            seeds[one.why].append(str(one.seed))
    return "; ".join(
        why if len(of) == len(outcomes) else f"{why} (seed{'s' * (len(of) > 1)} {', '.join(of)})"
        for why, of in seeds.items()
    )


def _test(no_delta: str | None, deltas: Sequence[_Outcome], algorithm: str) -> Row:
    """The paired test's p, or why there is none."""
    p, note = np.nan, no_delta
    if algorithm == LOCAL and deltas:
        note = "baseline"
    elif deltas and not any(one.why for one in deltas):
        p = paired_p([one.value for one in deltas]) if len(deltas) >= FEWEST else np.nan
        note = f"n < {FEWEST}" if len(deltas) < FEWEST else "no spread" if np.isnan(p) else None
    return {("p", ""): p, ("p", "holm"): np.nan, ("p", "note"): note}


def adjust(rows: Iterable[Row]) -> None:
    """Fill in the adjusted p-values; the tests of one experiment are a family."""
    families = defaultdict[str, list[Row]](list)
    for one in rows:
        if not np.isnan(one["p", ""]):
            families[one["experiment", ""]].append(one)
    for family in families.values():
        for one, adjusted in zip(family, holm([one["p", ""] for one in family]), strict=True):
            one["p", "holm"] = adjusted


def place(row: Row) -> Any:
    """A sort key: by experiment, the baseline first, numbers by value."""
    return natural(row["experiment", ""]), row["variant", ""] != LOCAL, natural(row["variant", ""])


def _best(gains: Sequence[float]) -> str | None:
    """The stage with the better headline, given how much better it is after aggregation by seed."""
    if not gains or np.isnan(gains).any():
        return None
    gain = np.mean(gains)
    return AFTER_AGGREGATION if gain > 0 else BEFORE_AGGREGATION if gain < 0 else "equal"


def _stopped(runs: Sequence[RunTask]) -> str | None:
    if not runs:
        return None
    low, high = min(one.last for one in runs), max(one.last for one in runs)
    return f"stopped at {low if low == high else f'{low} to {high}'} of {max(one.planned for one in runs)}"
