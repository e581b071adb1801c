"""One run as its folder holds it, and in sentences what is missing there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import compute

from mfed_ray.errors import RunFolderError, StorageError
from mfed_ray.results.failures import read_failures
from mfed_ray.results.find import CORRELATIONS_FILE, FUSING_FILE, METRICS_FILE, ROUNDS_FILE, Found
from mfed_ray.results.older import unknown_tasks
from mfed_ray.results.parts import read_whole
from mfed_ray.results.run_folder import CONFIG, parse_config
from mfed_ray.results.tables import CORRELATIONS, FAILURES, FUSING, METRICS, ROUNDS, VERSION, table_schema
from mfed_ray.storage import reason

_NAMED = 3
"""Clients that were left out that a sentence names."""


@dataclass(frozen=True)
class Run:
    """A run's tables and names; ``config`` is empty where nobody knows it any more, ``problems`` in sentences."""

    place: str
    run_id: str
    experiment: str
    algorithm: str
    seed: int
    rounds: int
    """Planned; the last one that is there where ``config`` is empty."""
    config: Mapping[str, Any]
    metrics: pa.Table
    costs: pa.Table
    correlations: pa.Table
    fusing: pa.Table
    """Without rows in runs of versions that did not measure it."""
    failures: pa.Table
    problems: list[str]


def read_run(found: Found) -> Run:
    """Read a run's folder. Raises RunFolderError where there is nothing of it to show."""
    if METRICS_FILE not in found.files:
        raise RunFolderError(
            f"{found.place}: has no {METRICS_FILE} yet; the run has just begun, or ended before its first round"
        )
    problems: list[str] = []
    metrics = read_whole(found, METRICS_FILE, METRICS)
    config = _older(found, problems) if metrics.config is None else metrics.config
    if metrics.version < VERSION and (unknown := unknown_tasks(metrics.rows)):
        problems.append(
            f"{found.place}: written by an older version of mfed_ray: no headline metric is known of "
            f"{', '.join(unknown)}, so no summary has it"
        )
    if not metrics.rows.num_rows:
        raise RunFolderError(f"{found.place}: has no value in {METRICS_FILE}")
    first = metrics.rows.slice(0, 1).to_pylist()[0]
    costs = _rest(found, ROUNDS_FILE, ROUNDS, problems)
    correlations = _rest(found, CORRELATIONS_FILE, CORRELATIONS, problems)
    has_fusing = FUSING_FILE in found.files
    fusing = _rest(found, FUSING_FILE, FUSING, problems) if has_fusing else table_schema(FUSING).empty_table()
    failures = _failures(found, problems)
    last = compute.max(metrics.rows["round"]).as_py()
    planned = config.get("rounds", last)
    if last < planned:
        problems.append(f"{found.place}: {last} of {planned} rounds so far")
    names = {name: first[name] for name in ("run_id", "experiment", "algorithm", "seed")}
    return Run(
        found.place,
        **names,
        rounds=planned,
        config=config,
        metrics=metrics.rows,
        costs=costs,
        correlations=correlations,
        fusing=fusing,
        failures=failures,
        problems=problems,
    )


def _rest(found: Found, name: str, columns: Mapping[str, str], problems: list[str]) -> pa.Table:
    """A table without which a run can be shown: where it cannot be read, one without rows."""
    try:
        if name not in found.files:
            raise RunFolderError(f"{found.place}: has no {name}")
        return read_whole(found, name, columns).rows
    except (RunFolderError, StorageError) as error:
        problems.append(str(error))
        return table_schema(columns).empty_table()


def _failures(found: Found, problems: list[str]) -> pa.Table:
    """The failures, without rows where they cannot be read; whoever was left out of a round is a problem."""
    try:
        rows = read_failures(found)
    except RunFolderError as error:
        problems.append(str(error))
        return table_schema(FAILURES).empty_table()
    dropped = rows.filter(compute.equal(rows["outcome"], "dropped")).to_pylist()
    if dropped:
        first = ", ".join(f"{row['client']} ({row['phase']} of round {row['round']})" for row in dropped[:_NAMED])
        rest = f" and {len(dropped) - _NAMED} more" if len(dropped) > _NAMED else ""
        problems.append(f"{found.place}: clients were left out after they failed: {first}{rest}")
    return rows


def _older(found: Found, problems: list[str]) -> Mapping[str, Any]:
    """The config of a run of version 1 stands beside its tables."""
    told = f"{found.place}: written by an older version of mfed_ray"
    try:
        if CONFIG not in found.files:
            raise RunFolderError(f"no {CONFIG}")
        with found.open(CONFIG) as file:
            config = parse_config(file, found.place_of(CONFIG))
    except (OSError, RunFolderError) as error:
        problems.append(f"{told}: read without its config ({reason(error, found.place)})")
        return {}
    problems.append(f"{told}: read with its {CONFIG}")
    return config
