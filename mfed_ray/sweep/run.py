"""A sweep from its first trial to its last, on Ray Tune."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from mfed_ray.errors import RunFolderError, SweepError
from mfed_ray.results.run_folder import RunFolder, differing
from mfed_ray.runtime.cluster import connect, nodes
from mfed_ray.storage import is_remote, read_text, replace_text
from mfed_ray.sweep.ledger import CLOSED, Ledger
from mfed_ray.sweep.planning import check_placement, experiments
from mfed_ray.sweep.points import Point, baselines, identity, label, planned
from mfed_ray.sweep.schema import CONFIG, Sweep
from mfed_ray.sweep.tuning import OnEvent, Tuning, check_packages

SHARED = ("name", "experiment")
"""Keys that must stay when a sweep's folder is used again. The others may change: an old point is the same run."""


def run(sweep: Sweep, place: str | Path, address: str | None, on_event: OnEvent) -> None:
    """Run every trial that has not ended, in the sweep's folder at ``place``, a path or a URI.

    Raises InputError before anything is written if the sweep, the folder or the cluster is wrong, and SweepError at
    the end if trials failed.
    """
    place = str(place) if is_remote(place) else str(Path(place).resolve())
    known = experiments(sweep)
    check_packages(sweep)
    _check_folder(sweep, place)
    if not _is_open(sweep, Ledger(place)):
        return
    directory = Path.cwd()
    connect(address or next(iter(known.values())).runtime.address)
    check_placement(known, nodes())
    with _held(place):
        replace_text(f"{place}/{CONFIG}", yaml.safe_dump(sweep.resolved(), sort_keys=False))
        ledger = Ledger(place)
        tuning = Tuning(sweep, place, directory, ledger, on_event)
        if sweep.adaptive:
            tuning.fit(_open(baselines(sweep), ledger))
            _raise_failures(ledger, baselines(sweep))  # an objective without its baseline would be none
            tuning.adapt()
        else:
            tuning.fit(_open(_points(sweep, ledger), ledger))
        _raise_failures(ledger, _points(sweep, ledger))


def _points(sweep: Sweep, ledger: Ledger) -> list[Point]:
    """All points, baselines first; of Optuna's those that it has proposed."""
    if sweep.search.method != "optuna":
        return [*baselines(sweep), *planned(sweep)]
    return [entry.point for entry in ledger]


def _is_open(sweep: Sweep, ledger: Ledger) -> bool:
    """Whether anything is left to do."""
    if sweep.search.method != "optuna":
        return bool(_open(_points(sweep, ledger), ledger))
    first = {identity(point) for point in baselines(sweep)}
    tried = [entry for entry in ledger if identity(entry.point) not in first and entry.state in CLOSED]
    return bool(_open(baselines(sweep), ledger)) or len(tried) < (sweep.search.samples or 0)


def _open(points: Sequence[Point], ledger: Ledger) -> list[Point]:
    """Those that still have rounds to go."""
    return [point for point in points if not ((entry := ledger.get(point)) and entry.state in CLOSED)]


def _raise_failures(ledger: Ledger, points: Sequence[Point]) -> None:
    entries = (ledger.get(point) for point in points)
    failed = [f"{label(one.point)}: {one.message}" for one in entries if one and one.state == "failed"]
    if failed:
        more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
        told = f"{len(failed)} trials" if len(failed) > 1 else "1 trial"
        raise SweepError(f"{told} failed, the same command tries again: {'; '.join(failed[:3])}{more}")


def _check_folder(sweep: Sweep, place: str) -> None:
    """Raises RunFolderError where the folder holds something else."""
    text = read_text(f"{place}/{CONFIG}")
    if text is None:
        if not is_remote(place):
            RunFolder(Path(place)).check_free()
        return
    found, own = yaml.safe_load(text), sweep.resolved()
    if wrong := sorted(differing({k: found.get(k) for k in SHARED}, {k: own[k] for k in SHARED})):
        raise RunFolderError(f"{place} holds a sweep with another {', '.join(wrong)}; choose another folder with --out")


@contextmanager
def _held(place: str) -> Iterator[None]:
    if is_remote(place):
        yield
        return
    with RunFolder(Path(place)).locked():
        yield
