"""Instance segmentation: the box, class and mask of every object of COCO's 80 classes."""

from functools import partial

from mfed_ray.metrics.coco_objects import CocoObjects
from mfed_ray.models.detection import MaskRCNN
from mfed_ray.predictions.coco_results import CocoResults
from mfed_ray.tasks.constants import nothing_found
from mfed_ray.tasks.contract import Headline, Task
from mfed_ray.tasks.objects import learnable

INSTANCE_SEGMENTATION = Task(
    name="instance_segmentation",
    headline=Headline("mask_ap", higher_is_better=True),
    loss_weight=1.0,
    make_decoder=MaskRCNN,
    make_metric=partial(CocoObjects, "mask"),
    make_writer=partial(CocoResults, kind="mask"),
    train_target=learnable,
    constant=nothing_found,
)
