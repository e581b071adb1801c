"""Boards of pure texture: what they are, that they are the same every time, and that a run can use them."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

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


def test_boards_are_those_of_other_versions() -> None:
    """Three of seed 3: pixels of each class, and the pictures' mean colours."""
    known = [
        ([0, 407, 0, 290, 327], [121.6, 124.6, 117.9]),
        ([0, 71, 746, 207, 0], [112.5, 103.3, 121.0]),
        ([0, 690, 0, 0, 334], [106.5, 100.7, 97.3]),
    ]
    for index, (pixels, colour) in enumerate(known):
        picture, classes = make_board(np.random.default_rng([3, index]), 32)
        assert np.bincount(classes.ravel(), minlength=5).tolist() == pixels
        assert picture.mean(axis=(0, 1)) == pytest.approx(colour, abs=0.1)


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> PascalContext:
    """24 boards of 32 px: 18 to train on, 6 held out."""
    root = tmp_path_factory.mktemp("data") / "boards"
    generate_textures(root, 24, 32, 0, 0.25)
    return PascalContext(root)


def test_the_reader_finds_three_tasks_and_both_splits(boards: PascalContext) -> None:
    assert boards.tasks == {"semantic_segmentation", "saliency", "edge_detection"}
    assert (len(boards.image_ids("train")), len(boards.image_ids("val"))) == (18, 6)
    image_id = boards.image_ids("val")[0]
    sample = boards.read(image_id, sorted(boards.tasks))
    picture, classes = make_board(np.random.default_rng([0, int(image_id.removeprefix("board_"))]), 32)
    assert np.array_equal(sample.targets["semantic_segmentation"], classes)
    assert np.abs(sample.image.astype(int) - picture).mean() < 12  # JPEG


def label_maps(boards: PascalContext) -> list[dict[str, NDArray[np.uint8]]]:
    samples = [boards.read(image_id, sorted(boards.tasks)) for image_id in boards.image_ids("train")]
    return [{task: np.asarray(target) for task, target in sample.targets.items()} for sample in samples]


def test_stripes_and_checks_are_salient(boards: PascalContext) -> None:
    """Classes 1 and 2; spots and foliage, 3 and 4, are the background."""
    assert [PATTERNS[label - 1] for label in (1, 2)] == ["stripes", "checks"]
    for targets in label_maps(boards):
        assert np.array_equal(targets["saliency"], np.isin(targets["semantic_segmentation"], (1, 2)))


def test_edges_are_where_patterns_meet(boards: PascalContext) -> None:
    """Each edge has another pattern to its right, below or across; and each such place is an edge or touches one."""
    plain = 0
    for targets in label_maps(boards):
        classes, edges = targets["semantic_segmentation"], targets["edge_detection"][..., 0]
        grown = np.pad(classes, ((0, 1), (0, 1)), mode="edge")
        meets = np.any([grown[y : y + 32, x : x + 32] != classes for y, x in ((0, 1), (1, 0), (1, 1))], axis=0)
        around = np.pad(edges, 1)
        near = np.any([around[y : y + 32, x : x + 32] for y in range(3) for x in range(3)], axis=0)
        assert not np.any(edges.astype(bool) & ~meets)
        assert not np.any(meets & ~near)
        assert bool(edges.any()) == (len(np.unique(classes)) > 1)
        plain += not edges.any()
    assert plain > 0  # three cells of one pattern have no border


def test_a_folder_of_another_version_is_refused(tmp_path: Path) -> None:
    generate_textures(tmp_path / "a", 4, 32)
    record = tmp_path / "a" / "generated.json"
    record.write_text(record.read_text().replace('"format_version": 2', '"format_version": 1'))
    with pytest.raises(DataError) as caught:
        generate_textures(tmp_path / "a", 4, 32)
    assert str(caught.value) == (
        f"{tmp_path / 'a'}: was generated with format_version 1 (asked for: 2), nothing was overwritten"
    )
