import numpy as np
import pytest
from numpy.typing import NDArray

from mfed_ray.coco_categories import KEYPOINTS
from mfed_ray.data.scenes.arrays import Floats
from mfed_ray.data.scenes.composition import make_scene
from mfed_ray.data.scenes.keypoints import keypoints
from mfed_ray.data.scenes.people import PART_NAMES, person
from mfed_ray.data.scenes.render import Layer, Pose, render
from mfed_ray.data.scenes.solids import IDENTITY, turn

SIZE = 256
FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
LIMBS = {"shoulder": {"uarm"}, "elbow": {"uarm", "larm"}, "wrist": {"larm", "hand"}, "knee": {"uleg", "lleg"}}


def _seen(seed: int, rotation: Floats, column: float = 128) -> tuple[Layer, dict[str, NDArray[np.int32]]]:
    """A person about 200 pixels tall, and the keypoints of the canvas that only it is on."""
    solids, pose = person(np.random.default_rng(seed)), Pose(column, 240, 200, rotation)
    layer = render(solids, pose, SIZE)
    assert layer is not None
    own = np.zeros((SIZE, SIZE), bool)
    own[layer.window] = layer.mask
    return layer, dict(zip(KEYPOINTS, keypoints(solids, pose, layer, own, 1), strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_left_is_the_persons_own(seed: int) -> None:
    layer, front = _seen(seed, IDENTITY)
    _, back = _seen(seed, turn(y=np.pi))
    for joint in ("shoulder", "hip"):
        assert front[f"left_{joint}"][0] > front[f"right_{joint}"][0] + 10
        assert back[f"left_{joint}"][0] < back[f"right_{joint}"][0] - 10
    for name, (column, row, visibility) in front.items():
        side, _, joint = name.partition("_")
        if visibility == 2 and joint in LIMBS:
            number = layer.parts[row - layer.window[0].start, column - layer.window[1].start]
            assert PART_NAMES[number - 1] in {side[0] + limb for limb in LIMBS[joint]} | {"torso"}


@pytest.mark.parametrize("seed", range(6))
def test_faces_are_seen_from_the_front_only(seed: int) -> None:
    _, front = _seen(seed, IDENTITY)
    _, back = _seen(seed, turn(y=np.pi))
    assert front["nose"][2] == 2
    assert [back[name][2] for name in FACE[:3]] == [1, 1, 1]
    assert front["nose"][1] > front["left_eye"][1] - 15, "below the eyes, give or take a nod"


def test_the_far_side_is_hidden_in_profile() -> None:
    _, left_side = _seen(0, turn(y=-np.pi / 2))  # its left is towards the viewer
    assert left_side["left_shoulder"][2] == 2
    assert left_side["right_hip"][2] == 1
    assert left_side["left_hip"][2] == 2


def test_points_follow_the_pose() -> None:
    _, centre = _seen(1, IDENTITY)
    _, shifted = _seen(1, IDENTITY, column=139)
    for name in KEYPOINTS:
        np.testing.assert_array_equal(shifted[name] - centre[name], [11, 0, 0])


def test_outside_the_image_all_three_are_zero() -> None:
    _, cut = _seen(1, IDENTITY, column=0)
    outside = [name for name, one in cut.items() if one[2] == 0]
    assert "right_shoulder" in outside
    assert "left_shoulder" not in outside
    assert not np.any([cut[name] for name in outside])


def test_a_keypoint_behind_another_object_is_hidden() -> None:
    solids, pose = person(np.random.default_rng(1)), Pose(128, 240, 200, IDENTITY)
    layer = render(solids, pose, SIZE)
    assert layer is not None
    found = keypoints(solids, pose, layer, np.zeros((SIZE, SIZE), bool), 1)
    assert set(found[:, 2]) == {1}


def test_people_of_scenes_have_keypoints_on_their_pixels() -> None:
    for seed in range(4):
        scene = make_scene(np.random.default_rng(seed), 64, with_person=True)
        assert {one.number for one in scene.objects if one.label == 15} <= set(scene.keypoints)
        for number, points in scene.keypoints.items():
            visible = points[points[:, 2] == 2]
            assert (scene.instances[visible[:, 1], visible[:, 0]] == number).all()
        assert not make_scene(np.random.default_rng(seed), 64, with_person=False).keypoints
