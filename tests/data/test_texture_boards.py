"""Boards of pure texture: what they are, that they are the same every time, and that a run can use them."""

from pathlib import Path

import numpy as np
import pytest

from mfed_ray.data.pascal_context import PascalContext
from mfed_ray.data.texture_boards import PATTERNS, generate_textures, make_board
from mfed_ray.errors import ConfigError, DataError


def folder_bytes(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_board_is_patterns_alone() -> None:
    picture, classes = make_board(np.random.default_rng(0), 48)
    assert (picture.shape, classes.shape) == ((48, 48, 3), (48, 48))
    assert picture.dtype == classes.dtype == np.uint8
    seen = {int(label) for seed in range(20) for label in np.unique(make_board(np.random.default_rng(seed), 48)[1])}
    assert seen == set(range(1, len(PATTERNS) + 1))  # every pattern, and no background


def test_two_colours_stand_out_in_every_pattern() -> None:
    """In the negative too: one colour was at most 0.3 bright, the other at least 0.7."""
    for seed in range(20):
        picture, classes = make_board(np.random.default_rng(seed), 48)
        for label in np.unique(classes):
            if (classes == label).sum() > 100:
                brightest = picture[classes == label].max(axis=1)
                assert int(brightest.max()) - int(brightest.min()) > 60


def test_same_parameters_same_bytes_and_nothing_is_drawn_twice(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    generate_textures(tmp_path / "a", 6, 32, 3, 0.5, on_progress=lambda done, total: steps.append((done, total)))
    generate_textures(tmp_path / "b", 6, 32, 3, 0.5)
    assert folder_bytes(tmp_path / "a") == folder_bytes(tmp_path / "b")
    assert steps == [(done, 6) for done in range(1, 7)]
    generate_textures(tmp_path / "a", 6, 32, 3, 0.5, on_progress=lambda *_: pytest.fail("drawn again"))
    with pytest.raises(DataError, match=r"was generated with seed 3 \(asked for: 4\)"):
        generate_textures(tmp_path / "a", 6, 32, 4, 0.5)
    with pytest.raises(ConfigError, match="images: 3 found, must be at least 4"):
        generate_textures(tmp_path / "c", 3, 32)


def test_the_reader_finds_one_task_and_both_splits(tmp_path: Path) -> None:
    generate_textures(tmp_path / "boards", 8, 32, 0, 0.25)
    dataset = PascalContext(tmp_path / "boards")
    assert dataset.tasks == {"semantic_segmentation"}
    assert (len(dataset.image_ids("train")), len(dataset.image_ids("val"))) == (6, 2)
    image_id = dataset.image_ids("val")[0]
    sample = dataset.read(image_id, ["semantic_segmentation"])
    picture, classes = make_board(np.random.default_rng([0, int(image_id.removeprefix("board_"))]), 32)
    assert np.array_equal(sample.targets["semantic_segmentation"], classes)
    assert np.abs(sample.image.astype(int) - picture).mean() < 12  # JPEG
