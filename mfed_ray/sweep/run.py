"""A sweep from its first trial to its last, on Ray Tune."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import yaml

from mfed_ray.errors import RunFolderError, SweepError
from mfed_ray.experiment import Experiment
from mfed_ray.results.run_folder import RunFolder, differing, parse_config
from mfed_ray.runtime.cluster import connect, nodes, own_node
from mfed_ray.storage import below, is_remote, read_text, replace_text, shown
from mfed_ray.sweep.ledger import CLOSED, Ledger
from mfed_ray.sweep.planning import Plan, check_placement, plan
from mfed_ray.sweep.points import Point, identity, label
from mfed_ray.sweep.schema import CONFIG, Sweep
from mfed_ray.sweep.tuning import OnEvent, Tuning, check_packages

SHARED = ("name", "experiment")
"""Keys that must stay when a sweep's folder is used again. The others may change: an old point is the same run."""


def run(
    sweep: Sweep, place: str | Path, address: str | None, prepare: Callable[[Experiment], object], on_event: OnEvent
) -> None:
    """Run every trial that has not ended, in the sweep's folder at ``place``, a path or a URI.

    ``prepare`` sees an experiment with each data section before any trial starts. Raises InputError before anything is
    written if the sweep, the folder or the cluster is wrong, and SweepError at the end if trials failed.
    """
    directory = Path.cwd()
    place = str(place) if is_remote(place) else str(Path(place).resolve())
    planned = plan(sweep)
    check_packages(sweep)
    _check_folder(sweep, place)
    if not _is_open(sweep, planned, Ledger(place)):
        return
    address = address or next(iter(planned.experiments.values())).runtime.address
    if here := own_node(address):
        check_placement(planned.experiments, here)  # before Ray takes its seconds to start
    connect(address)
    check_placement(planned.experiments, nodes())
    for experiment in {repr(one.data): one for one in planned.experiments.values()}.values():
        prepare(experiment)
    with _held(place):
        replace_text(below(place, CONFIG), yaml.safe_dump(sweep.resolved(), sort_keys=False))
        ledger = Ledger(place)
        tuning = Tuning(sweep, planned, place, directory, ledger, on_event)
        if sweep.adaptive:
            tuning.fit(_open(planned.first, ledger))
            _raise_failures(ledger, planned.first)  # an objective without its baseline would be none
            tuning.adapt()
            ledger.end_search(_search(sweep))
        else:
            tuning.fit(_open(planned.points, ledger))
        _raise_failures(ledger, tuning.points)


def _is_open(sweep: Sweep, planned: Plan, ledger: Ledger) -> bool:
    """Whether anything is left to do."""
    searching = sweep.search.method == "optuna" and not ledger.has_searched(_search(sweep))
    failed = sweep.search.method == "optuna" and any(entry.state == "failed" for entry in ledger)
    return searching or failed or bool(_open(planned.points, ledger))


def _search(sweep: Sweep) -> str:
    return identity({key: sweep.resolved()[key] for key in ("space", "search")})


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
    file = below(place, CONFIG)
    text = read_text(file)
    if text is None:
        if not is_remote(place):
            RunFolder(Path(place)).check_free()
        return
    found, own = parse_config(BytesIO(text.encode()), shown(file)), sweep.resolved()
    if wrong := sorted(differing({k: found.get(k) for k in SHARED}, {k: own[k] for k in SHARED})):
        raise RunFolderError(
            f"{shown(place)} holds a sweep with another {', '.join(wrong)}; choose another folder with --out"
        )


@contextmanager
def _held(place: str) -> Iterator[None]:
    """Two sweeps at once would run the same trials. At a URI nothing can be locked."""
    if is_remote(place):
        yield
        return
    with RunFolder(Path(place)).locked():
        yield
