"""A folder may name code, and lie beside it; none of it runs unless the user trusts it by name."""

import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from mfed_ray.cli import main
from mfed_ray.driver import run
from mfed_ray.errors import ConfigError, RunFolderError
from mfed_ray.experiment import parse_experiment
from mfed_ray.federation import checkpoint
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.messages import State
from mfed_ray.pictures import draw_pictures
from mfed_ray.results.run_folder import RunFolder
from tests.conftest import MakeExperiment

PLANTED = """
from pathlib import Path
from mfed_ray.algorithms.local import Local

Path(__file__).with_name("ran").touch()

class Planted(Local):
    pass
"""
NAME = "planted_code:Planted"


@pytest.fixture
def folder(tmp_path: Path, tiny: MakeExperiment, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder whose config names a module beside it; whoever looks at it stands there."""
    folder, experiment = RunFolder(tmp_path / "run"), tiny(clients=[{"tasks": ["saliency"], "data": "scenes"}])
    config = experiment.resolved()
    folder.write_config({**config, "algorithm": {"name": NAME}})
    checkpoint.save(folder.checkpoints, Checkpoint(1, State({}, {}), {"saliency-0": State()}))
    (folder.path / "planted_code.py").write_text(PLANTED)
    (folder.path / "images").mkdir()
    Image.new("RGB", (32, 32)).save(folder.path / "images" / "a.png")
    monkeypatch.chdir(folder.path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "planted_code", raising=False)
    return folder.path


def predict(*more: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["predict", ".", "--client", "saliency-0", "--images", "images", "--out", "out", *more])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_predict_imports_what_the_user_trusts_and_nothing_else(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict() == 2
    assert f"algorithm.name: '{NAME}' is code that a folder names, so it was not imported" in capsys.readouterr().err
    assert predict("--trust", "another_module:Planted") == 2
    assert not (folder / "ran").exists()
    assert predict("--trust", NAME) == 0
    assert (folder / "ran").exists()
    assert (folder / "out" / "saliency" / "a.png").is_file()


def test_pictures_import_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(ConfigError, match=r"was not imported; allowed without trust: local, .*--trust"):
        draw_pictures(folder)
    assert not (folder / "ran").exists()


def test_a_run_into_the_folder_imports_nothing(
    folder: Path, tiny: MakeExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads the config that it finds there, to see whether it may go on."""
    monkeypatch.syspath_prepend(folder)
    experiment = tiny(clients=[{"tasks": ["saliency"], "data": "scenes"}], algorithm={"name": "local"})
    with pytest.raises(RunFolderError, match=r"holds a run with another algorithm\.name"):
        next(run(experiment, folder))
    assert not (folder / "ran").exists()


def test_a_config_of_the_users_own_may_name_any(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    assert parse_experiment(tree).algorithm_name == NAME
    assert (folder / "ran").exists()
