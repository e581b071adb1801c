"""COCO 2017 folders: reader, index on disk, checker."""

from mfed_ray.data.coco.check import OnProgress, check
from mfed_ray.data.coco.problems import Problem
from mfed_ray.data.coco.reader import Coco

__all__ = ["Coco", "OnProgress", "Problem", "check"]
