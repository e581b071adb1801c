"""Federated algorithms: one file per paper, client half and server half side by side."""

from mfed_ray.algorithms.contract import Algorithm
from mfed_ray.algorithms.fedavg import FedAvg
from mfed_ray.algorithms.local import Local
from mfed_ray.algorithms.mfed import MFed

ALGORITHMS: dict[str, type[Algorithm]] = {"local": Local, "fedavg": FedAvg, "mfed": MFed}
"""Algorithms by the name that a configuration gives."""

__all__ = ["ALGORITHMS", "Algorithm"]
