"""Human parts: one of six body parts, or background, for every pixel of an image with people."""

from functools import partial

from mfed_ray.labels import PART_CLASSES
from mfed_ray.metrics.segmentation import MeanIoU
from mfed_ray.models.decoders import DenseDecoder
from mfed_ray.models.heads import class_head
from mfed_ray.predictions.label_maps import ClassMaps
from mfed_ray.tasks.class_labels import class_labels
from mfed_ray.tasks.constants import most_frequent_class
from mfed_ray.tasks.contract import Headline, Task

HUMAN_PARTS = Task(
    name="human_parts",
    headline=Headline("miou", higher_is_better=True),
    loss_weight=2.0,
    make_decoder=partial(DenseDecoder, head=class_head(len(PART_CLASSES))),
    make_metric=partial(MeanIoU, len(PART_CLASSES)),
    make_writer=partial(ClassMaps, names=PART_CLASSES),
    train_target=class_labels,
    constant=most_frequent_class,
)
