"""Training augmentation that keeps an image and all its targets aligned, and the network's input normalisation."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mfed_ray.annotations import Objects, Segments, Target
from mfed_ray.data.object_geometry import crop_objects, flip_objects, resize_objects
from mfed_ray.data.resampling import centres, nearest, window
from mfed_ray.data.sample import Sample
from mfed_ray.data.settings import OWN_SIZE, Augmentation, InputSize, scaled
from mfed_ray.labels import VOID

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_MEAN_COLOUR = np.array([round(255 * mean) for mean in IMAGENET_MEAN], np.uint8)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow and torchvision weigh grey


def augment(
    sample: Sample, settings: Augmentation, rng: np.random.Generator, input_size: InputSize = OWN_SIZE
) -> Sample:
    """Random scale, crop, horizontal flip and colour jitter, in this order, of an image at its ``input_size``.

    The result is an image uint8 [S, S, 3] with targets [S, S, ...], S being ``settings.crop_size``.
    """
    height, width = sample.image.shape[:2]
    factor = input_size.factor(height, width) * rng.uniform(*settings.scale)
    sample = resize(sample, scaled(height, width, factor))
    if rng.random() < settings.flip:
        sample = flip(sample)
    factors = 1 + rng.uniform(-settings.colour, settings.colour, 3)
    if settings.colour:
        sample = replace(sample, image=jitter_colour(sample.image, factors))
    return crop(sample, settings.crop_size, rng)


def resize(sample: Sample, size: tuple[int, int]) -> Sample:
    """The sample at ``size`` = (H, W): the image bilinear, labels and normals nearest (never mixed across objects)."""
    targets = {task: _resized(task, target, size) for task, target in sample.targets.items()}
    return Sample(sample.image_id, resize_image(sample.image, size), targets)


def resize_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image [H, W, 3] at ``size`` = (h, w), bilinear and antialiased; the image itself if that is its size."""
    if image.shape[:2] == size:
        return image
    return np.array(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def _resized(task: str, target: Target, size: tuple[int, int]) -> Target:
    if isinstance(target, Objects):
        return resize_objects(target, size)
    if isinstance(target, Segments):
        return replace(target, map=nearest(target.map, size))
    return _resize_edges(target, size) if task == "edge_detection" else nearest(target, size)


def flip(sample: Sample) -> Sample:
    """The sample mirrored left to right; the normals' component along the width changes its sign."""
    targets = {task: _flipped(task, target) for task, target in sample.targets.items()}
    return Sample(sample.image_id, np.ascontiguousarray(sample.image[:, ::-1]), targets)


def _flipped(task: str, target: Target) -> Target:
    if isinstance(target, Objects):
        return flip_objects(target)
    if isinstance(target, Segments):
        return replace(target, map=np.ascontiguousarray(target.map[:, ::-1]))
    mirrored = np.ascontiguousarray(target[:, ::-1])
    return mirrored * np.array([-1, 1, 1], np.float32) if task == "surface_normals" else mirrored


def crop(sample: Sample, size: int, rng: np.random.Generator) -> Sample:
    """A random square of ``size`` pixels. Where the image is smaller it lies at a random place in the square.

    Around it the image has ImageNet's mean colour, labels are void (255), normals are void (the zero vector), and
    there is nothing of objects and segments.
    """
    height, width = sample.image.shape[:2]
    top, left = (int(rng.integers(min(0, room), max(0, room) + 1)) for room in (height - size, width - size))
    targets = {task: _cropped(task, target, (top, left), size) for task, target in sample.targets.items()}
    return Sample(sample.image_id, window(sample.image, (top, left), size, _MEAN_COLOUR), targets)


def _cropped(task: str, target: Target, corner: tuple[int, int], size: int) -> Target:
    if isinstance(target, Objects):
        return crop_objects(target, corner, size)
    if isinstance(target, Segments):
        return replace(target, map=window(target.map, corner, size, 0))
    return window(target, corner, size, 0 if task == "surface_normals" else VOID)


def jitter_colour(image: NDArray[np.uint8], factors: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Brightness, contrast and saturation multiplied by ``factors`` [3], as torchvision's ColorJitter defines them."""
    brightness, contrast, saturation = (np.float32(factor) for factor in factors)
    colour = image * brightness
    mean = (colour @ _LUMA).mean()
    colour = mean + contrast * (colour - mean)
    grey = (colour @ _LUMA)[:, :, None]
    colour = grey + saturation * (colour - grey)
    jittered: NDArray[np.uint8] = np.clip(colour + np.float32(0.5), 0, 255).astype(np.uint8)
    return jittered


def to_tensor(image: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 [H, W, 3] to float32 [3, H, W], in [0, 1] and then normalised with ImageNet's mean and deviation."""
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float().div_(255)
    return tensor.sub_(torch.tensor(IMAGENET_MEAN)[:, None, None]).div_(torch.tensor(IMAGENET_STD)[:, None, None])


def _resize_edges(maps: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Nearest neighbour would lose most of a one-pixel line when it shrinks and thicken it when it grows.

    So each new pixel takes its nearest old one, which leaves no gaps when growing; each old edge pixel also marks the
    new pixel that its centre falls on, which loses none when shrinking (neighbours stay neighbours); then every map
    is thinned to one pixel again.
    """
    resized = nearest(maps, size)
    row, column, annotator = np.nonzero(maps == 1)
    edge = (resized == 1).astype(np.uint8)
    edge[centres(maps.shape[0], size[0])[row], centres(maps.shape[1], size[1])[column], annotator] = 1
    from mfed_ray.boundaries import thin  # compiled code, for edges alone

    thinned = np.stack([thin(edge[:, :, index]) for index in range(edge.shape[2])], axis=2)
    return np.where(resized == VOID, np.uint8(VOID), thinned)
