"""A configuration is read without what trains: an error in it is told at once, not after seconds of imports."""

import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
HEAVY = {"torch", "torchvision", "ray", "numba", "pycocotools", "scipy", "pandas", "PIL"}


def imported_by(code: str) -> set[str]:
    """Which of the heavy packages a fresh process has imported after the code."""
    script = f"{code}\nimport sys; print('imported', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return HEAVY.intersection(done.stdout.rpartition("imported ")[2].split())


def mfed(*arguments: str) -> str:
    """Code that runs the command and outlives its exit."""
    lines = ("import contextlib, mfed_ray.cli", "with contextlib.suppress(SystemExit):")
    return "\n".join((*lines, f"    mfed_ray.cli.main({[*arguments]!r})"))


def test_the_probe_sees_an_import() -> None:
    assert imported_by("import scipy") == {"scipy"}


@pytest.mark.parametrize("name", ["quickstart", "coco/mfed_resnet50"])
def test_parsing_imports_nothing_that_trains(name: str) -> None:
    path = str(EXPERIMENTS / f"{name}.yaml")
    assert imported_by(f"from mfed_ray.experiment import load_experiment; load_experiment({path!r})") == set()


@pytest.mark.parametrize("command", ["run", "doctor"])
def test_a_command_refuses_a_configuration_before_it_imports_what_trains(command: str) -> None:
    assert imported_by(mfed(command, str(EXPERIMENTS / "quickstart.yaml"), "rounds=0")) == set()


def test_the_help_imports_nothing_that_trains() -> None:
    assert imported_by(mfed("--help")) == set()
