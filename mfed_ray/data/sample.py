"""What a dataset yields: one image with the targets of the tasks asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mfed_ray.annotations import Target


@dataclass(frozen=True)
class Sample:
    """One image and its targets, all of the image's height H and width W.

    ``image``: uint8 [H, W, 3], RGB. ``targets`` by task name:

    - ``semantic_segmentation``: uint8 [H, W], 0 background, 1..20 classes, 255 void (``mfed_ray.labels``)
    - ``human_parts``: uint8 [H, W], 0 background, 1..6 parts, 255 void
    - ``saliency``: uint8 [H, W], 0 or 1, 255 void
    - ``edge_detection``: uint8 [H, W, A], thinned boundaries 0 or 1, one map per annotator, 255 void
    - ``surface_normals``: float32 [H, W, 3], unit vectors, the first component along the image's
      width; the zero vector is void
    - ``instance_segmentation``: ``Objects`` with masks; ``keypoint_detection``: ``Objects`` with keypoints, label 1
    - ``stuff_segmentation``: uint8 [H, W], 0..91 (``mfed_ray.coco_categories.STUFF``), 255 void
    - ``panoptic_segmentation``: ``Segments``
    """

    image_id: str
    image: NDArray[np.uint8]
    targets: Mapping[str, Target]


class Dataset(Protocol):
    """A folder on disk, read only, never written to. Instances are cheap to build and picklable."""

    @property
    def tasks(self) -> frozenset[str]:
        """Names of the tasks that this dataset has targets for."""
        ...

    def image_ids(self, split: str) -> Sequence[str]:
        """Ids of the split's images, in the order of the split's file."""
        ...

    def usable(self, image_id: str, task: str) -> bool:
        """Whether the image has a target for the task (an image without people has none for human_parts)."""
        ...

    def trainable(self, image_id: str, task: str) -> bool:
        """Whether it is usable and has something to learn from (an image without objects counts in tests only)."""
        ...

    def dominant_class(self, image_id: str) -> int:
        """The class that covers most of the image, background aside: what label skew is drawn over."""
        ...

    def read(self, image_id: str, tasks: Sequence[str]) -> Sample:
        """The image with the targets of just these tasks."""
        ...
