"""Bare Ray to its first training step: an actor for each CPU, which imports torch and torchvision and takes one step.

python -m benchmarks.startup_arms.bare_ray FOLDER
"""

import logging
import sys
from typing import Any

import ray

from benchmarks.startup_arms.mark import mark


class Actor:
    """Takes one step of a ResNet."""

    def step(self, folder: str) -> float:
        """Mark the time, then train; the loss."""
        import torch
        import torchvision

        torch.set_num_threads(1)
        model = torchvision.models.resnet18(num_classes=10)
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        images, classes = torch.randn(8, 3, 48, 48), torch.arange(8)
        mark(folder)
        loss = torch.nn.functional.cross_entropy(model(images), classes)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())


def main() -> None:
    """Start Ray and its actors, let each take its step, end."""
    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    ray.init(address="local", **quiet)
    remote = ray.remote(Actor).options(num_cpus=1)
    actors = [remote.remote() for _ in range(int(ray.cluster_resources()["CPU"]))]
    ray.get([actor.step.remote(sys.argv[1]) for actor in actors])
    ray.shutdown()


if __name__ == "__main__":
    main()
