from typing import get_args

import numpy as np
import pytest

from mfed_ray.boundaries import label_boundaries
from mfed_ray.data.human_parts import PART_OF_NAME
from mfed_ray.data.scenes.classes import CLUTTER, KINDS, PERSON_KIND, Kind
from mfed_ray.data.scenes.composition import make_scene
from mfed_ray.data.scenes.lighting import Light, cast_shadows, photograph
from mfed_ray.data.scenes.people import PART_NAMES
from mfed_ray.data.scenes.render import Pose, render
from mfed_ray.data.scenes.saliency import salient_mask
from mfed_ray.data.scenes.solids import IDENTITY
from mfed_ray.data.scenes.surfaces import backdrop
from mfed_ray.data.scenes.textures import Material, Pattern, albedo, noise_tile
from mfed_ray.labels import PASCAL_CLASSES, PERSON


@pytest.mark.parametrize("index", range(6))
def test_all_targets_come_from_one_scene(index: int) -> None:
    scene = make_scene(np.random.default_rng(index), 64, with_person=index % 2 == 0)
    assert (PERSON in scene.classes) == (index % 2 == 0)
    for one in scene.objects:
        assert set(np.unique(scene.classes[scene.instances == one.number])) == {one.label}
    np.testing.assert_array_equal(scene.parts > 0, scene.classes == PERSON)
    context = {kind.label: kind.context for kind in (*KINDS, PERSON_KIND)}
    for label in np.unique(scene.classes)[1:]:
        assert set(np.unique(scene.labels[scene.classes == label])) == {context[label]}
    boundary = label_boundaries(scene.labels) == 1
    assert 0 < boundary.mean() < 0.3
    assert scene.image.std() > 10


def test_a_scene_depends_on_its_generator_only() -> None:
    first, again, other = (make_scene(np.random.default_rng(seed), 48, True) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.normals, again.normals)
    assert np.any(first.image != other.image)


def test_the_20_classes_each_once() -> None:
    assert sorted(kind.label for kind in (*KINDS, PERSON_KIND)) == list(range(1, len(PASCAL_CLASSES)))
    assert {kind.label for kind in CLUTTER} == {0}
    contexts = [kind.context for kind in (*KINDS, PERSON_KIND, *CLUTTER)]
    assert len(set(contexts)) == len(contexts)
    assert all(1 <= context <= 459 for context in contexts)


@pytest.mark.parametrize("kind", [*KINDS, PERSON_KIND, *CLUTTER], ids=lambda kind: kind.build.__name__)
def test_every_object_renders_at_a_comparable_size(kind: Kind) -> None:
    pose = Pose(column=64, row=120, scale=128 * kind.scale, rotation=IDENTITY)
    layer = render(kind.build(np.random.default_rng(0)), pose, 128)
    assert layer is not None
    assert 0.01 < layer.mask.sum() / 128**2 < 0.8
    assert np.isfinite(layer.albedo).all()
    assert layer.albedo[layer.mask].min() >= 0


def test_parts_of_people_are_pascals() -> None:
    assert set(PART_NAMES) <= set(PART_OF_NAME)
    layer = render(PERSON_KIND.build(np.random.default_rng(1)), Pose(64, 120, 110, IDENTITY), 128)
    assert layer is not None
    assert len({PART_OF_NAME[PART_NAMES[part - 1]] for part in np.unique(layer.parts[layer.mask])}) == 6


@pytest.mark.parametrize("setting", ["room", "street", "field", "water"])
def test_backdrops_cover_the_canvas(setting: str) -> None:
    scenery = backdrop(np.random.default_rng(2), setting, 64)  # type: ignore[arg-type]
    assert scenery.labels.min() >= 1
    length = np.linalg.norm(scenery.normals, axis=2)
    sky = scenery.labels == 360
    assert length[~sky] == pytest.approx(1, abs=1e-5)
    assert not length[sky].any()
    assert (scenery.normals[scenery.ground][:, 1] > 0.5).all(), "the ground faces up"


def test_shading_follows_the_normals() -> None:
    normals = np.zeros((64, 64, 3), np.float32)
    normals[:, :32, 0], normals[:, 32:, 0] = -1, 1  # a ridge, its right side towards the light
    light = Light(np.array([1, 0, 0], np.float32), np.full(3, 0.6, np.float32), np.full(3, 0.2, np.float32))
    flat = np.full((64, 64, 3), 0.5, np.float32)
    image = photograph(np.random.default_rng(0), flat, normals, np.zeros((64, 64), np.float32), light).astype(float)
    assert image.shape == (32, 32, 3)
    assert image[:, 20:].mean() > 1.8 * image[:, :12].mean()  # (0.16 / 0.76) ** (1 / 1.6) = 0.38


def test_shadows_fall_on_the_ground_away_from_the_light() -> None:
    scenery = backdrop(np.random.default_rng(2), "field", 128)
    pose = Pose(column=64, row=110, scale=50, rotation=IDENTITY)
    layer = render(PERSON_KIND.build(np.random.default_rng(1)), pose, 128)
    assert layer is not None
    direction = np.array([0.6, 0.7, 0.39], np.float32)
    light = Light(direction, np.ones(3, np.float32), np.full(3, 0.3, np.float32))
    factor = cast_shadows([(pose, layer)], scenery, light)
    assert (factor[~scenery.ground] == 1).all()
    dark = factor < 0.8
    assert np.nonzero(dark)[1].mean() < 60
    assert 0 < factor.min() < 0.5


def test_saliency_prefers_the_large_central_contrasting_object() -> None:
    image = np.full((40, 40, 3), 100, np.uint8)
    instances = np.zeros((40, 40), np.uint8)
    instances[12:28, 12:28], instances[0:6, 0:6], instances[30:36, 2:8] = 1, 2, 3
    image[instances == 1] = 255
    np.testing.assert_array_equal(salient_mask(image, instances, [1, 2, 3]), instances == 1)
    twins = np.zeros((40, 40), np.uint8)
    twins[12:28, 4:18], twins[12:28, 22:36] = 1, 2  # mirror images of each other
    np.testing.assert_array_equal(
        salient_mask(np.where(twins[..., None] > 0, 255, 100).astype(np.uint8), twins, [1, 2]), twins > 0
    )
    assert not salient_mask(image, instances, []).any()


@pytest.mark.parametrize("pattern", get_args(Pattern))
def test_patterns_mix_their_two_colours(pattern: Pattern) -> None:
    u, v = (axis.ravel().astype(np.float32) for axis in np.mgrid[0:2:80j, 0:2:80j])
    colours = albedo(Material(pattern, (0.0, 0.0, 0.0), (0.5, 0.5, 0.5), 3.0), u, v)
    assert colours.shape == (6400, 3)
    assert colours.min() >= 0
    assert colours.max() <= 0.5 * 1.4
    assert colours.std() > 0.02
    shifted = albedo(Material(pattern, (0.0, 0.0, 0.0), (0.5, 0.5, 0.5), 3.0, offset=(0.3, 0.4)), u, v)
    assert np.any(shifted != colours)


def test_noise_is_standardised_and_periodic() -> None:
    tile = noise_tile()
    assert (tile.mean(), tile.std()) == pytest.approx((0, 1), abs=1e-5)
    wrapped = np.abs(tile[:, 0] - tile[:, -1]).mean()
    assert wrapped < 2 * np.abs(np.diff(tile, axis=1)).mean()
