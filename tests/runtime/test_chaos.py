"""A schedule of faults for real, on nodes of its own; ``python -m benchmarks.chaos`` runs as many as one likes."""

import os
import subprocess
import sys
from pathlib import Path


def test_a_run_with_faults_ends_as_the_calm_one() -> None:
    """Schedule 3: the driver actor is killed, then another process."""
    command = [sys.executable, "-m", "benchmarks.chaos", "--first", "3", "--schedules", "1", "--rounds", "2"]
    surroundings = {**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, cwd=root, env=surroundings, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (row,) = (line for line in ended.stdout.splitlines() if line.startswith("| 3 |"))
    _, _, _, faults, _, notices, *_ = (cell.strip() for cell in row.strip("|").split("|"))
    assert faults.startswith("kill driver at event")
    assert int(notices) >= 1  # that the driver was started again
    assert row.endswith("| the same |")
