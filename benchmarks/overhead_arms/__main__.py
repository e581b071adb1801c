"""One run of an arm, in the environment that it needs: what ``benchmarks.overhead`` starts.

    python -m benchmarks.overhead_arms loop --size 16x0.5MB --rounds 8 --out loop.json

The arm's module is imported, not run, so that Ray's workers can import it too.
"""

import argparse
import importlib
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.overhead_arms.arms import ARMS
from benchmarks.overhead_arms.federation import SIZES, Clock, load, make_model, training_loss


def main() -> None:
    """Train, then write when that began, the seconds of each round, the loss before and after, and versions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arm", choices=list(ARMS))
    parser.add_argument("--size", choices=list(SIZES), required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    arm, size, clock = ARMS[asked.arm], SIZES[asked.size], Clock()
    module = importlib.import_module(f"benchmarks.overhead_arms.{arm.module}")
    final = getattr(module, arm.function)(size, asked.rounds, clock)
    if os.environ.get("RANK", "0") != "0":
        return
    model = make_model(size)
    initial = training_loss(model, size)
    load(model, final)
    content = {
        "began": clock.began,
        "seconds": clock.rounds,
        "initial_loss": initial,
        "loss": training_loss(model, size),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", *arm.reports)},
        },
    }
    asked.out.write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    main()
