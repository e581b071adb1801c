"""Where a run's server lives: in this process (serial), or in a driver actor on a Ray cluster."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mfed_ray.errors import DriverError, MfedError
from mfed_ray.experiment import Experiment
from mfed_ray.federation.events import Event, Notice, Trained
from mfed_ray.runtime.client_actor import import_from
from mfed_ray.runtime.cluster import connect
from mfed_ray.runtime.hosts import Host, RayHost, SerialHost, in_actors
from mfed_ray.storage import is_remote

SILENCE = 12.0
"""Seconds without news from the driver actor after which that is told; it tells itself sooner whom it waits for."""


def run(experiment: Experiment, folder: str | Path) -> Iterator[Event]:
    """Run the experiment in its folder, or go on from its last finished round; yields events as it goes.

    ``folder``: a path, or a URI as ``mfed_ray.storage`` knows them. Raises InputError before anything is written if the
    input or the folder is wrong.
    """
    if experiment.runtime.backend == "serial":
        from mfed_ray.execution import simulate

        return simulate(experiment, folder, SerialHost(), Path.cwd())
    return _on_ray(experiment, folder, Path.cwd())


def start_beside(experiment: Experiment, work: Callable[[], object]) -> None:
    """Join or start Ray, where the experiment runs on it, while ``work`` is done in a thread.

    Raises what ``work`` raises, and PlacementError.
    """
    with ThreadPoolExecutor(1) as beside:
        working = beside.submit(work)
        if experiment.runtime.backend == "ray":
            connect(experiment.runtime.address)  # in this thread: Ray's processes end with the thread that started them
        working.result()


def _on_ray(experiment: Experiment, folder: str | Path, directory: Path) -> Iterator[Event]:
    connect(experiment.runtime.address)
    place = folder if is_remote(folder) else Path(folder).resolve()
    with in_actors(experiment) as host:  # the clients' processes start at once, beside the driver's
        driven = partial(_driven, experiment, place, directory, host)
        yield from restarted(driven, experiment.runtime.max_retries, host.pool.ask_again)


def restarted(driven: Callable[[], Iterator[Event]], retries: int, before_again: Callable[[], None]) -> Iterator[Event]:
    """Events of a driver, which is started again where it dies: ``retries`` times without getting any further.

    Further is a round later than all that were told. A round that is trained a second time is none. Raises DriverError
    where no retry is left, and what the driver itself raises.
    """
    deaths, last = 0, -1
    while True:
        try:
            for event in driven():
                if isinstance(event, Trained) and event.round > last:
                    deaths, last = 0, event.round
                yield event
            return
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, MfedError) else error) from None
        except ray.exceptions.RayError as error:
            deaths += 1
            if deaths > retries:
                raise DriverError(
                    f"the driver actor died ({error}); the same command goes on from the last round"
                ) from error
            yield Notice(f"the driver actor died; it goes on from the last checkpoint, try {deaths} of {retries}")
            before_again()


def _driven(experiment: Experiment, place: str | Path, directory: Path, host: RayHost) -> Iterator[Event]:
    """Events of a driver actor, to its end, and what its silence may come from. Raises what Ray raises."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    driver = ray.remote(Driver).options(num_cpus=0, scheduling_strategy=here).remote(sys.path)
    try:
        events = driver.run.options(num_returns="streaming").remote(experiment, place, directory, host)
        began = heard = time.monotonic()
        patience, is_told = SILENCE, False
        while True:
            if ray.wait([events], timeout=patience)[0]:
                try:
                    event: Event = ray.get(next(events))
                except StopIteration:
                    return
                yield event
                heard, patience = time.monotonic(), SILENCE
            else:
                patience = time.monotonic() - heard  # so each line comes after twice the time
                yield Notice(f"no news from the driver for {patience:.0f} s")
            if not is_told and time.monotonic() > began + SILENCE:
                is_told = True
                if missing := host.pool.missing():
                    yield Notice(missing)
    finally:
        ray.kill(driver)


class Driver:
    """The driver actor: owns the server's state, averages and fuses, and writes the run's folder."""

    def __init__(self, path: Sequence[str]) -> None:
        import_from(path)

    def run(self, experiment: Experiment, folder: str | Path, directory: Path, host: Host) -> Iterator[Event]:
        """``driver.run``, called in ``directory``, with the clients on the host."""
        from mfed_ray.execution import simulate

        yield from simulate(experiment, folder, host, directory)
