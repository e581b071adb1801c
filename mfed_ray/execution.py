"""One run from its configuration to its last round, in this process; its clients live where its host has them."""

import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mfed_ray.environment import environment
from mfed_ray.errors import ConfigError, RunFolderError, StorageError
from mfed_ray.experiment import Experiment, parse_experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.federation import make_simulation
from mfed_ray.experiment.identity import identity
from mfed_ray.federation.events import Event
from mfed_ray.recording import is_finished, recorded
from mfed_ray.results.run_folder import FREE_KEYS, RunFolder
from mfed_ray.runtime.hosts import Host
from mfed_ray.storage import Mirror, is_remote, shown

Place = str | Path
"""Where a run's folder is: a path, or a URI as ``mfed_ray.storage`` knows them."""


def simulate(
    experiment: Experiment, place: Place, host: Host, directory: Path, patience: float = 20.0
) -> Generator[Event, None, None]:
    """Run the rounds that are left on the host. Relative paths of the experiment start from ``directory``.

    A folder that another run holds is waited for, ``patience`` seconds.
    """
    with _workplace(place) as (path, keep):
        folder, config = RunFolder(path), experiment.resolved()
        completed = partial(_with_defaults, trusted=experiment.algorithm_name)
        folder.check(config, FREE_KEYS, completed)
        if is_finished(folder, experiment.rounds, experiment.evaluation.stages):
            return
        located = experiment.located(directory)
        clients = make_clients(located)
        start = host.start(located, clients)
        simulation = make_simulation(located, clients, start.initial)
        _ = simulation.start  # before anything is written: the algorithm may refuse these clients
        backend = host.backend(located, simulation.everybody)
        with folder.locked(patience):
            folder.check(config, FREE_KEYS, completed)  # again: another run may have begun here meanwhile
            run, started, checkpoints = identity(experiment), environment(directory), experiment.checkpoints
            yield from recorded(simulation, backend, folder, config, run, started, start.headlines, checkpoints, keep)


def _with_defaults(config: Mapping[str, Any], trusted: str) -> Mapping[str, Any]:
    """A run's config with the keys that came after it was made; as it is where it cannot be read any more.

    Of the user's own algorithms, only the ``trusted`` one is imported: that which the caller asks for.
    """
    try:
        return parse_experiment(config, [trusted]).resolved()
    except ConfigError:
        return config


@contextmanager
def _workplace(place: Place) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A run's folder on this machine, and what brings it to where it belongs: for a path, that is done already."""
    if not is_remote(place):
        yield Path(place), lambda: None
        return
    mirror = Mirror(str(place))
    with tempfile.TemporaryDirectory(prefix="mfed_ray_") as scratch:
        folder = Path(scratch)
        mirror.pull(folder)
        try:
            yield folder, lambda: mirror.push(folder)
        except (RunFolderError, StorageError) as error:
            raise type(error)(str(error).replace(scratch, shown(place))) from error
