"""Processes load no more than they need."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = ("torch", "torchvision", "pycocotools", "pandas", "numba", "ray", "scipy", "pyarrow")
MODELS = ("torch", "torchvision")


def loaded(module: str, names: tuple[str, ...]) -> list[str]:
    code = f"import json, sys, {module}; print(json.dumps([name for name in {names} if name in sys.modules]))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    names_loaded: list[str] = json.loads(told)
    return names_loaded


@pytest.mark.parametrize(
    "module",
    ["mfed_ray.algorithms", "mfed_ray.algorithms.registry", "mfed_ray.federation.simulation", "mfed_ray.averages"],
)
def test_the_federated_core_stands_on_numpy_and_pydantic(module: str) -> None:
    assert loaded(module, CORE) == []


@pytest.mark.parametrize("name", ["fedamp", "matfl", "fedhca2", "mfed", "centralised"])
def test_so_does_every_algorithm(name: str) -> None:
    assert loaded(f"mfed_ray.algorithms.{name}", CORE) == []


@pytest.mark.parametrize(
    "module", ["mfed_ray.driver", "mfed_ray.execution", "mfed_ray.runtime.hosts", "mfed_ray.progress"]
)
def test_whoever_drives_or_watches_a_run_needs_no_models(module: str) -> None:
    assert loaded(module, MODELS) == []
