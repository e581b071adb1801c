import json
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mfed_ray.data.coco.masks import decode_mask
from mfed_ray.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' decode


def _decode(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    return decode_mask(json.dumps(segmentation).encode(), size)


def _random_masks() -> list[np.ndarray]:
    """Sparse, dense, empty, full, of one pixel, and with runs of thousands of pixels."""
    rng = np.random.default_rng(0)
    noise = [(rng.random((37, 23)) < share).astype(np.uint8) for share in (0, 0.01, 0.3, 0.9, 1)]
    blob = np.zeros((480, 640), np.uint8)
    blob[100:400, 30:600] = 1
    blob[200, 300] = 0
    return [*noise, blob, np.ones((1, 1), np.uint8)]


@pytest.mark.parametrize("mask", _random_masks())
def test_run_lengths_are_those_of_pycocotools(mask: np.ndarray) -> None:
    encoded = coco_mask.encode(np.asfortranarray(mask))
    size = mask.shape
    decoded = _decode({"size": size, "counts": encoded["counts"].decode()}, size)
    np.testing.assert_array_equal(decoded, mask)
    assert decoded.dtype == np.uint8
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=0, append=2)).tolist()
    counts = np.diff([0, *edges]).tolist()
    np.testing.assert_array_equal(_decode({"size": size, "counts": counts}, size), mask)


def test_polygons_are_joined() -> None:
    squares = [[1, 1, 4, 1, 4, 3, 1, 3], [3, 2, 6, 2, 6, 5, 3, 5]]
    expected = np.zeros((6, 7), np.uint8)
    expected[1:3, 1:4] = expected[2:5, 3:6] = 1
    np.testing.assert_array_equal(_decode(squares, (6, 7)), expected)


def test_no_string_is_read_as_another_mask_than_pycocotools() -> None:
    """Strings broken in every place: refused, or the mask that pycocotools makes of them."""
    mask = (np.random.default_rng(1).random((9, 8)) < 0.4).astype(np.uint8)
    text = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    broken = [text[:place] + put + text[place + 1 :] for place in range(len(text)) for put in ("", "1", "o", "~", "é")]
    refused = 0
    for one in broken:
        try:
            decoded = _decode({"size": [9, 8], "counts": one}, (9, 8))
        except DataError:
            refused += 1
        else:
            np.testing.assert_array_equal(decoded, coco_mask.decode({"size": [9, 8], "counts": one}))
    assert len(broken) / 2 < refused < len(broken)


@pytest.mark.parametrize("text", ["", "o", " 1", "oooooooo0", "é"])
def test_broken_strings(text: str) -> None:
    with pytest.raises(DataError, match="run lengths are a broken string"):
        _decode({"size": [1, 1], "counts": text}, (1, 1))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([], "run lengths add up to 0, must be 0 or more each and 6 together"),
        ([3, 4], "run lengths add up to 7, must be 0 or more each and 6 together"),
        ([7, -1], r"neither polygons nor run lengths \(Expected `int` >= 0 - at `\$.counts\[1\]`\)"),
    ],
)
def test_wrong_counts(counts: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _decode({"size": [2, 3], "counts": counts}, (2, 3))
