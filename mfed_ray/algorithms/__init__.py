"""Federated algorithms: one file per paper, client half and server half side by side."""

from mfed_ray.algorithms.contract import Algorithm
from mfed_ray.algorithms.registry import ALGORITHMS, algorithm_name, find_algorithm

__all__ = ["ALGORITHMS", "Algorithm", "algorithm_name", "find_algorithm"]
