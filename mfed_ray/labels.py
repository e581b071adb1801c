"""The label spaces of the PASCAL-Context multi-task benchmark."""

VOID = 255
"""Label of pixels that no loss and no metric counts."""

PASCAL_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""The 21 classes of semantic segmentation; the index is the label."""

PERSON = PASCAL_CLASSES.index("person")

PART_CLASSES = ("background", "head", "torso", "upper_arm", "lower_arm", "upper_leg", "lower_leg")
"""The 7 classes of human parts; the index is the label. Torso includes the neck, lower limbs the hands and feet."""
