"""Where a run was started: versions, commit and hardware of this process."""

import platform
import socket
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("mfed-ray", "ray", "torch", "torchvision", "numpy", "pandas")


def environment(directory: Path) -> dict[str, Any]:
    """Versions and hardware of this process, and the ``directory`` that the run's relative paths start from."""
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "commit": _commit(),
        "directory": str(directory),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpus": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": _gpus(),
    }


def _gpus() -> list[str]:
    """Names of this machine's GPUs, from the driver's own tool: this process need not load torch."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return []


def _commit() -> str | None:
    """The checkout's commit; None where the package was not installed from one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
