"""Training targets made of a sample's targets."""

import numpy as np
import pytest

from mfed_ray.tasks import get_task
from mfed_ray.tasks.edge_detection import consensus


def votes(*pixels: list[int]) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """One row of pixels, each with its annotators' marks."""
    return np.array([pixels], dtype=np.uint8)


def test_edge_where_half_of_the_annotators_agree() -> None:
    maps = votes([0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [255, 255, 255, 255])
    assert consensus(maps).tolist() == [[0, 255, 1, 1, 255]]


def test_void_annotators_have_no_vote() -> None:
    assert consensus(votes([1, 255, 255, 0], [1, 0, 0, 255], [0, 255, 255, 255])).tolist() == [[1, 255, 0]]


def test_one_annotator_decides_alone() -> None:
    maps = votes([0], [1], [255])
    assert consensus(maps).tolist() == [[0, 1, 255]]
    assert consensus(maps).dtype == np.uint8


@pytest.mark.parametrize(
    ("task", "dtype"), [("semantic_segmentation", np.int64), ("human_parts", np.int64), ("saliency", np.uint8)]
)
def test_label_maps_keep_their_values(task: str, dtype: type[np.generic]) -> None:
    labels = np.array([[0, 1, 255]], dtype=np.uint8)
    target = get_task(task).train_target(labels)
    assert target.dtype == dtype
    assert target.tolist() == [[0, 1, 255]]


def test_normals_stay_channels_last() -> None:
    normals = np.array([[[0.6, 0.0, 0.8], [0.0, 0.0, 0.0]]], dtype=np.float32)
    target = get_task("surface_normals").train_target(normals)
    assert target.dtype == np.float32
    assert np.array_equal(target, normals)
