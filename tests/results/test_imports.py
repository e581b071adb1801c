"""Results are read in any process, without what trains models."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.results.conftest import MakeRun

HEAVY = ("torch", "torchvision", "ray", "numba", "pycocotools", "scipy", "fsspec", "matplotlib")
ROOT = Path(__file__).resolve().parents[2]


def loaded(code: str) -> list[str]:
    """Which of the heavy packages a new process has loaded after the code."""
    told = f"import json, sys\n{code}\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, env=environment)
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return names


@pytest.mark.parametrize(
    "module",
    ["mfed_ray.results", "mfed_ray.results.curves", "mfed_ray.results.headline", "mfed_ray.evaluation", "mfed_ray.cli"],
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    assert loaded(f"import {module}") == []


def test_the_command_loads_nothing_heavy(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("x-mfed-s-aa-seed0")
    command = ["results", str(tmp_path)]
    assert (
        loaded(f"import contextlib, mfed_ray.cli\nwith contextlib.suppress(SystemExit): mfed_ray.cli.main({command})")
        == []
    )
