"""The settings of images: the configuration's sections ``images`` and ``augmentation``, free of torch and Pillow."""

from pydantic import model_validator

from mfed_ray.errors import ConfigError
from mfed_ray.section import Section


class InputSize(Section):
    """The size at which the network sees images, in training (before augmentation) and evaluation alike.

    Predictions and metrics are in the images' own size. Raises ConfigError if a side is out of range.
    """

    short_side: int | None = None
    """Pixels of the shorter side; None: the images' own size."""
    long_side: int = 1333
    """Pixels of the longer side, at most."""

    @model_validator(mode="after")
    def _check(self) -> "InputSize":
        if self.short_side is not None and not 1 <= self.short_side <= self.long_side:
            raise ConfigError(
                f"images.short_side: {self.short_side} found, must be from 1 to images.long_side ({self.long_side})"
            )
        return self

    def factor(self, height: int, width: int) -> float:
        """What an image's sides are multiplied by."""
        if self.short_side is None:
            return 1.0
        return min(self.short_side / min(height, width), self.long_side / max(height, width))

    def of(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of an image for the network."""
        return scaled(height, width, self.factor(height, width))


OWN_SIZE = InputSize()
"""Every image at its own size."""


def scaled(height: int, width: int, factor: float) -> tuple[int, int]:
    """Height and width times ``factor``, to the nearest pixel, at least 1."""
    return max(1, round(height * factor)), max(1, round(width * factor))


class Augmentation(Section):
    """Training augmentation: random scale, crop, horizontal flip and colour jitter, as ``transforms.augment`` draws it.

    Raises ConfigError if a field is out of range.
    """

    crop_size: int = 512
    """Height and width of the result, pixels."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Lowest and highest factor, drawn uniformly."""
    flip: float = 0.5
    """Probability."""
    colour: float = 0.2
    """Brightness, contrast and saturation are each multiplied by a factor from [1 - colour, 1 + colour]."""

    @model_validator(mode="after")
    def _check(self) -> "Augmentation":
        if self.crop_size < 1:
            raise ConfigError(f"augmentation.crop_size: {self.crop_size} found, must be at least 1 pixel")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ConfigError(f"augmentation.scale: {self.scale} found, must be (low, high) with 0 < low <= high")
        if not 0 <= self.flip <= 1:
            raise ConfigError(f"augmentation.flip: {self.flip} found, must be a probability from 0 to 1")
        if not 0 <= self.colour < 1:
            raise ConfigError(f"augmentation.colour: {self.colour} found, must be from 0 to below 1")
        return self
