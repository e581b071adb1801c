"""Where a run's server lives: in this process (serial), or in a driver actor on a Ray cluster."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mfed_ray.errors import DriverError, MfedError
from mfed_ray.experiment import Experiment
<<<<<<< HEAD
from mfed_ray.federation.simulation import Event
from mfed_ray.runtime.client_actor import import_from
=======
from mfed_ray.federation.events import Event
>>>>>>> h/a1
from mfed_ray.runtime.cluster import connect
from mfed_ray.runtime.hosts import Host, SerialHost, in_actors
from mfed_ray.storage import is_remote


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
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    with in_actors(experiment) as host:  # the clients' processes start at once, beside the driver's
        driver = ray.remote(Driver).options(num_cpus=0, scheduling_strategy=here).remote(sys.path)
        try:
            driving = driver.run.options(num_returns="streaming")
            place = folder if is_remote(folder) else Path(folder).resolve()
            for reference in driving.remote(experiment, place, directory, host):
                yield ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, MfedError) else error) from None
        except ray.exceptions.RayError as error:
            raise DriverError(
                f"the driver actor died ({error}); the same command goes on from the last round"
            ) from error
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
