from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mfed_ray.boundaries import label_boundaries
from mfed_ray.data.sample import Sample
from mfed_ray.data.settings import Augmentation
from mfed_ray.data.transforms import augment, crop, flip, jitter_colour, resize, to_tensor
from mfed_ray.errors import ConfigError
from mfed_ray.labels import VOID

MEAN_COLOUR = (124, 116, 104)


def _quadrants(height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:height, :width]
    quadrants: NDArray[np.uint8] = (1 + 2 * (rows >= height // 2) + (columns >= width // 2)).astype(np.uint8)
    return quadrants


def _sample() -> Sample:
    """Every target, and the image's red channel, is a function of one label map."""
    labels = _quadrants()
    image = np.repeat(labels[:, :, None] * 50, 3, axis=2)
    normals = np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 0.6, 0.8], [0, 0, 1]], np.float32)[labels]
    targets: dict[str, NDArray[Any]] = {
        "semantic_segmentation": labels,
        "human_parts": labels,
        "saliency": (labels > 2).astype(np.uint8),
        "edge_detection": label_boundaries(labels)[:, :, None].repeat(2, axis=2),
        "surface_normals": normals,
    }
    return Sample("one", image, targets)


def test_targets_stay_functions_of_each_other() -> None:
    settings = Augmentation(crop_size=48, scale=(0.5, 2.0), flip=0.0, colour=0.0)
    normals = _sample().targets["surface_normals"][[0, 0, 39, 39], [0, 59, 0, 59]]
    for seed in range(20):
        sample = augment(_sample(), settings, np.random.default_rng(seed))
        labels = sample.targets["semantic_segmentation"]
        inside = labels != VOID
        np.testing.assert_array_equal(sample.targets["human_parts"], labels)
        np.testing.assert_array_equal(sample.targets["saliency"], np.where(inside, labels > 2, VOID))
        np.testing.assert_array_equal(sample.targets["surface_normals"][inside], normals[labels[inside] - 1])
        assert not sample.targets["surface_normals"][~inside].any()
        assert (sample.targets["edge_detection"][~inside] == VOID).all()
        assert (sample.image[~inside] == MEAN_COLOUR).all()
        # bilinear mixes colours next to a boundary only
        assert np.mean(sample.image[inside][:, 0] == 50 * labels[inside]) > 0.8
        assert sample.image.shape == (48, 48, 3)


def test_edges_lie_on_the_resized_labels_boundaries_and_stay_whole() -> None:
    for size in ((20, 30), (27, 41), (40, 60), (61, 97), (80, 120)):
        resized = resize(_sample(), size)
        edges, labels = resized.targets["edge_detection"], resized.targets["semantic_segmentation"]
        assert edges.shape == (*size, 2)
        for annotator in range(2):
            rows, columns = np.nonzero(edges[:, :, annotator])
            boundary = np.argwhere(label_boundaries(labels))
            distance = np.abs(boundary[:, None] - np.stack([rows, columns], 1)[None]).max(axis=2)
            assert distance.min(axis=0).max() <= 2, "an edge away from any boundary"
            assert distance.min(axis=1).max() <= 2, "a boundary without an edge"
            per_row = (edges[:, :, annotator] == 1).sum(axis=1)
            assert np.median(per_row) == 1, "the vertical line is one pixel wide in most rows"
            assert per_row[1:-1].min() >= 1, "and has no gap; thinning may shorten its ends by a pixel"


def test_resize_to_the_same_size_changes_nothing() -> None:
    sample, same = _sample(), resize(_sample(), (40, 60))
    np.testing.assert_array_equal(same.image, sample.image)
    for task, target in sample.targets.items():
        np.testing.assert_array_equal(same.targets[task], target)


def test_nearest_takes_the_old_pixel_under_each_new_centre() -> None:
    labels = np.array([[0, 1, 2, 3, 4]], np.uint8).repeat(2, axis=0)
    sample = Sample("one", np.zeros((2, 5, 3), np.uint8), {"saliency": labels})
    assert resize(sample, (2, 2)).targets["saliency"].tolist() == [[1, 3]] * 2  # centres 1.25 and 3.75
    assert resize(sample, (1, 10)).targets["saliency"].tolist() == [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]]


def test_flip_mirrors_everything_and_negates_the_normals_first_component() -> None:
    sample, mirrored = _sample(), flip(_sample())
    np.testing.assert_array_equal(mirrored.image, sample.image[:, ::-1])
    np.testing.assert_array_equal(
        mirrored.targets["semantic_segmentation"], sample.targets["semantic_segmentation"][:, ::-1]
    )
    assert mirrored.targets["surface_normals"][0, 0].tolist() == [1, 0, 0]  # was [-1, 0, 0] on the right
    assert mirrored.targets["surface_normals"][39, 59].tolist() == pytest.approx([0, 0.6, 0.8])
    np.testing.assert_array_equal(flip(mirrored).targets["surface_normals"], sample.targets["surface_normals"])


def test_crop_of_the_images_own_size_is_the_image_and_small_images_are_padded() -> None:
    rng = np.random.default_rng(0)
    small = Sample("one", np.full((2, 3, 3), 7, np.uint8), {"saliency": np.ones((2, 3), np.uint8)})
    padded = crop(small, 5, rng)
    assert (padded.targets["saliency"] == 1).sum() == 6
    assert (padded.targets["saliency"] == VOID).sum() == 19
    assert (padded.image[padded.targets["saliency"] == 1] == 7).all()
    square = Sample("one", np.arange(27, dtype=np.uint8).reshape(3, 3, 3), {})
    np.testing.assert_array_equal(crop(square, 3, rng).image, square.image)


def test_colour_jitter_by_hand() -> None:
    image = np.array([[[100, 100, 100], [200, 200, 200]]], np.uint8)
    assert jitter_colour(image, np.array([0.5, 1, 1]))[0, :, 0].tolist() == [50, 100]
    assert jitter_colour(image, np.array([1, 0.5, 1]))[0, :, 0].tolist() == [125, 175]  # towards the mean, 150
    red = np.array([[[100, 0, 0]]], np.uint8)
    assert jitter_colour(red, np.array([1, 1, 0.0]))[0, 0].tolist() == [30, 30, 30]  # 0.299 * 100


def test_colour_jitter_leaves_targets_alone_and_is_drawn_from_the_generator() -> None:
    settings = Augmentation(crop_size=40, scale=(1, 1), flip=0, colour=0.5)
    first, again, other = (augment(_sample(), settings, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.image, again.image)
    assert np.any(first.image != other.image)
    assert np.unique(first.targets["semantic_segmentation"]).tolist() == [1, 2, 3, 4]


def test_to_tensor_normalises_with_imagenets_statistics() -> None:
    image = np.array([[MEAN_COLOUR, (255, 255, 255)]], np.uint8)
    tensor = to_tensor(image)
    assert tensor.shape == (3, 1, 2)
    assert tensor.dtype == torch.float32
    assert tensor[:, 0, 0].abs().max() < 0.01
    assert tensor[:, 0, 1].tolist() == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop_size": 0}, "augmentation.crop_size: 0 found, must be at least 1 pixel"),
        ({"crop_size": 8, "scale": (2.0, 1.0)}, r"augmentation.scale: \(2.0, 1.0\) found, must be \(low, high\)"),
        ({"crop_size": 8, "flip": 1.5}, "augmentation.flip: 1.5 found, must be a probability"),
        ({"crop_size": 8, "colour": 1.0}, "augmentation.colour: 1.0 found, must be from 0 to below 1"),
    ],
)
def test_fields_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Augmentation(**arguments)
