"""Keypoint detection: the box and the 17 keypoints of every person."""

from functools import partial

from mfed_ray.metrics.coco_objects import CocoObjects
from mfed_ray.models.detection import KeypointRCNN
from mfed_ray.predictions.coco_results import CocoResults
from mfed_ray.tasks.constants import nothing_found
from mfed_ray.tasks.contract import Headline, Task
from mfed_ray.tasks.objects import learnable

KEYPOINT_DETECTION = Task(
    name="keypoint_detection",
    headline=Headline("keypoint_ap", higher_is_better=True),
    loss_weight=1.0,
    make_decoder=KeypointRCNN,
    make_metric=partial(CocoObjects, "keypoint"),
    make_writer=partial(CocoResults, kind="keypoint"),
    train_target=learnable,
    constant=nothing_found,
)
