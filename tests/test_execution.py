"""One run in a folder at a time, and only the one that belongs there."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mfed_ray.errors import RunFolderError
from mfed_ray.execution import simulate
from mfed_ray.experiment import Experiment
from mfed_ray.federation import checkpoint
from mfed_ray.messages import ClientSpec
from mfed_ray.results.run_folder import RunFolder
from mfed_ray.runtime.hosts import SerialHost, Start

MakeExperiment = Callable[..., Experiment]


class Overtaken(SerialHost):
    """Clients in this process. While they start, another run begins and ends in the same folder."""

    def __init__(self, other: Experiment, folder: Path) -> None:
        super().__init__()
        self._other, self._folder = other, folder

    def start(self, experiment: Experiment, clients: Sequence[ClientSpec]) -> Start:
        for _ in simulate(self._other, self._folder, SerialHost(), Path.cwd()):
            pass
        return super().start(experiment, clients)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_that_began_after_the_check_is_not_gone_on_with(tiny: MakeExperiment, tmp_path: Path) -> None:
    """FedAvg begins where FedProx was about to: FedProx must not take up its checkpoint."""
    evaluation = {"max_images": 1, "stages": ["after_aggregation"]}
    fedavg = tiny(rounds=1, algorithm={"name": "fedavg"}, evaluation=evaluation)
    fedprox = tiny(rounds=1, algorithm={"name": "fedprox"}, evaluation=evaluation)
    host, folder = Overtaken(fedavg, tmp_path / "run"), tmp_path / "run"
    with pytest.raises(RunFolderError, match=r"run holds a run with another algorithm\.name, algorithm\.proximal"):
        list(simulate(fedprox, folder, host, Path.cwd()))
    assert checkpoint.latest_round(folder / "checkpoints") == 1
    left = contents(folder)
    assert list(simulate(fedavg, folder, SerialHost(), Path.cwd())) == []  # it is whole, and was not written to
    assert contents(folder) == left


def test_a_run_waits_for_nobody_in_a_folder_that_is_held(tiny: MakeExperiment, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        before = contents(folder.path)
        with pytest.raises(RunFolderError, match=r"run: another process runs here; wait for it, or choose another"):
            list(simulate(tiny(rounds=1), folder.path, SerialHost(), Path.cwd(), patience=0.0))
        assert contents(folder.path) == before
