from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mfed_ray.predictions.drawing import Picture, overlay_folder

RED, BLUE = (200, 0, 0), (0, 0, 200)


def grey(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 100, dtype=np.uint8)


def drawn(picture: Picture, folder: Path) -> NDArray[np.uint8]:
    picture.save(folder / "picture.png")
    return np.asarray(Image.open(folder / "picture.png"))


@pytest.mark.parametrize(
    ("size", "expected"), [((32, 20), (384, 240)), ((200, 100), (400, 200)), ((50, 500), (50, 500))]
)
def test_small_images_are_enlarged_by_a_whole_number(
    tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert drawn(Picture(grey(*size)), tmp_path).shape == (*expected, 3)


def test_regions_are_filled_translucently_and_outlined(tmp_path: Path) -> None:
    regions = np.full((400, 400), -1)
    regions[100:200, 100:200], regions[100:200, 200:300] = 0, 1
    picture = Picture(grey(400, 400))
    picture.tint(regions, [RED, BLUE])
    pixels = drawn(picture, tmp_path)
    assert pixels[50, 50].tolist() == [100, 100, 100]
    assert pixels[150, 150].tolist() == [145, 55, 55]  # 45% of the way to red
    assert pixels[150, 250].tolist() == [55, 55, 145]
    assert pixels[150, 199].tolist() == list(RED)
    assert pixels[150, 200].tolist() == list(BLUE)
    assert pixels[100, 150].tolist() == pixels[150, 100].tolist() == list(RED)
    assert pixels[150, 99].tolist() == [100, 100, 100]


def test_regions_of_a_small_image_cover_its_enlarged_pixels(tmp_path: Path) -> None:
    regions = np.full((32, 32), -1)
    regions[8:16, 8:16] = 0
    picture = Picture(grey(32, 32))
    picture.tint(regions, [RED])
    changed = (drawn(picture, tmp_path) != 100).any(axis=2)
    expected = np.zeros((384, 384), dtype=bool)
    expected[96:192, 96:192] = True
    assert np.array_equal(changed, expected)


def test_colours_are_blended_by_weight(tmp_path: Path) -> None:
    picture = Picture(grey(384, 384))
    weights = np.zeros((384, 384))
    weights[0], weights[1] = 1, 0.5
    picture.blend(np.array([0, 50, 200]), weights)
    pixels = drawn(picture, tmp_path)
    assert pixels[:3, 0].tolist() == [[0, 50, 200], [50, 75, 150], [100, 100, 100]]


def test_a_box_has_its_frame_and_its_text_stays_in_the_picture(tmp_path: Path) -> None:
    for box in ((100, 100, 300, 200), (0, 0, 60, 60), (380, 300, 400, 390)):
        picture = Picture(grey(400, 400))
        picture.box(np.array(box, dtype=np.float32), "person 0.97", RED)
        red = (drawn(picture, tmp_path) == RED).all(axis=2)
        x1, y1, x2, y2 = box
        assert red[y2, x1 + 1 : min(x2, 400)].all()
        assert red[y1 + 30 : y2, x1].all()
        assert red.sum() > 2 * (x2 - x1 + y2 - y1) + 500


def test_text_is_black_on_light_and_white_on_dark_colours(tmp_path: Path) -> None:
    for colour, text in (((240, 228, 66), 0), ((0, 60, 120), 255)):
        picture = Picture(grey(400, 400))
        picture.box(np.array([50, 50, 300, 300], dtype=np.float32), "person", colour)
        assert (drawn(picture, tmp_path) == text).all(axis=2).any()


def test_unlabelled_keypoints_and_what_hangs_on_them_are_left_out(tmp_path: Path) -> None:
    points = np.zeros((17, 3), dtype=np.float32)
    points[5] = (100, 100, 1)  # left shoulder
    points[6] = (200, 100, 2)  # right shoulder
    points[7] = (100, 300, 0)  # left elbow
    picture = Picture(grey(400, 400))
    picture.skeleton(points, RED)
    red = (drawn(picture, tmp_path) == RED).all(axis=2)
    assert red[100, 110:190].all()
    assert not red[120:].any()
    assert not red[:80].any()


def test_a_legend_wraps_below_the_image(tmp_path: Path) -> None:
    picture, longer = Picture(grey(400, 100)), Picture(grey(400, 100))
    picture.legend([("wall", RED)])
    longer.legend([("wall", RED), ("window-other", BLUE), ("sky", RED)])
    short, long = drawn(picture, tmp_path), drawn(longer, tmp_path)
    assert (short[:400, :100] == 100).all()
    assert 410 < len(short) < len(long)
    assert (short[400:] == RED).all(axis=2).sum() > 50
    assert (long[400:] == BLUE).all(axis=2).sum() > 50


def test_an_empty_legend_and_no_regions_leave_the_image(tmp_path: Path) -> None:
    picture = Picture(grey(400, 400))
    picture.tint(np.full((400, 400), -1), [])
    picture.names(np.full((400, 400), -1), [], [])
    picture.legend([])
    assert np.array_equal(drawn(picture, tmp_path), grey(400, 400))


def test_large_regions_are_named_inside_and_small_ones_not(tmp_path: Path) -> None:
    regions = np.full((400, 400), -1)
    regions[100:300, 100:300] = 0
    regions[350:360, 350:360] = 1
    picture = Picture(grey(400, 400))
    picture.names(regions, ["sky", "sea"], [RED, BLUE])
    pixels = drawn(picture, tmp_path)
    assert (pixels[180:220, 180:220] == RED).all(axis=2).sum() > 100
    assert not (pixels == BLUE).all(axis=2).any()


def test_folders_are_made(tmp_path: Path) -> None:
    overlays = overlay_folder(tmp_path / "run/predictions")
    assert overlays == tmp_path / "run/predictions/overlays"
    assert overlays.is_dir()
