"""Stuff segmentation: one of COCO's 91 stuff classes, or "other" (things), for every pixel."""

from functools import partial

from mfed_ray.coco_categories import STUFF
from mfed_ray.metrics.segmentation import MeanIoU
from mfed_ray.models.semantic_fpn import SemanticFPN
from mfed_ray.predictions.label_maps import StuffMaps
from mfed_ray.tasks.class_labels import class_labels
from mfed_ray.tasks.constants import most_frequent_class
from mfed_ray.tasks.contract import Headline, Task

STUFF_SEGMENTATION = Task(
    name="stuff_segmentation",
    headline=Headline("miou", higher_is_better=True),
    loss_weight=1.0,
    make_decoder=partial(SemanticFPN, classes=len(STUFF)),
    make_metric=partial(MeanIoU, len(STUFF), over="target"),
    make_writer=StuffMaps,
    train_target=class_labels,
    constant=most_frequent_class,
)
