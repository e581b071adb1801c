"""The experiment of the benchmarks that ask for many rounds: a round of four clients takes a fraction of a second."""

from pathlib import Path
from typing import Any

from mfed_ray import parse_experiment
from mfed_ray.experiment import Experiment


def tiny(data: Path, rounds: int, **sections: Any) -> Experiment:
    """Four clients of three tasks on scenes of 32 px in ``data``, ResNet-10 of a quarter of the channels, M-Fed."""
    tree = {
        "name": "tiny",
        "rounds": rounds,
        "algorithm": {"name": "mfed"},
        "data": {"scenes": {"format": "generated", "root": str(data), "images": 24, "size": 32, "val_fraction": 0.34}},
        "clients": [
            {"tasks": ["semantic_segmentation"], "data": "scenes", "count": 2},
            {"tasks": ["saliency"], "data": "scenes"},
            {"tasks": ["surface_normals"], "data": "scenes"},
        ],
        "model": {
            "encoder": "resnet10",
            "width": 16,
            "output_stride": 32,
            "normalisation": "group",
            "decoder": "light",
            "decoder_width": 8,
        },
        "augmentation": {"crop_size": 32},
        "local": {"batch_size": 2, "max_steps": 2},
        "evaluation": {"max_images": 1},
        **sections,
    }
    return parse_experiment(tree)
