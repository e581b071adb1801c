import numpy as np
import pytest

from mfed_ray.data.scenes.palette import solid_colour
from mfed_ray.data.scenes.render import Layer, Pose, render
from mfed_ray.data.scenes.solids import IDENTITY, Solid, ball, box, cone, intersect, limb, ring, turn

GREY = solid_colour((0.5, 0.5, 0.5))
VIEW = np.array([0, 0, 1], np.float32)


def _ray(solid: Solid, x: float, y: float) -> tuple[float, list[float], list[float]]:
    depth, point, normal = intersect(solid, np.array([[x], [y], [0]], np.float32), VIEW)
    return float(depth[0]), point[:, 0].tolist(), normal[:, 0].tolist()


def _render(*solids: Solid, rotation: np.ndarray = IDENTITY) -> Layer:
    layer = render(solids, Pose(column=50, row=80, scale=20, rotation=rotation), 100)
    assert layer is not None
    return layer


def test_rays_meet_the_near_side_by_hand() -> None:
    sphere, cube = ball((0, 0, 0), (1, 1, 1), GREY), box((0, 0, 0), (1, 1, 1), GREY)
    depth, point, normal = _ray(sphere, 0.6, 0.0)
    assert depth == pytest.approx(0.8)
    assert point == normal == pytest.approx([0.6, 0, 0.8])
    depth, point, normal = _ray(cube, 0.9, -0.9)
    assert (depth, normal) == (1.0, [0, 0, 1])
    assert point == pytest.approx([0.9, -0.9, 1], abs=1e-5)
    cylinder = cone((0, 0, 0), (1, 1, 1), GREY)
    depth, point, normal = _ray(cylinder, 0.6, 0.3)
    assert depth == pytest.approx(0.8, abs=1e-5)
    assert normal == pytest.approx([0.6, 0, 0.8], abs=1e-5)
    tapered = cone((0, 0, 0), (1, 1, 1), GREY, taper=0.0)
    depth, _, normal = _ray(tapered, 0.0, 0.0)
    assert depth == pytest.approx(0.5)  # halfway up a pointed cone
    assert np.array(normal) / np.linalg.norm(normal) == pytest.approx([0, 1 / 5**0.5, 2 / 5**0.5])


@pytest.mark.parametrize("make", [ball, box, cone])
def test_rays_beside_the_shape_miss(make: object) -> None:
    solid = make((0, 0, 0), (1, 1, 1), GREY)  # type: ignore[operator]
    assert _ray(solid, 1.01, 0)[0] == -np.inf
    assert _ray(solid, 0, 1.01)[0] == -np.inf


def test_a_ring_has_a_hole() -> None:
    tyre = ring((0, 0, 0), 1.0, GREY)
    assert _ray(tyre, 0, 0)[0] == -np.inf
    assert _ray(tyre, 0.9, 0)[0] == 0
    assert _ray(tyre, 1.1, 0)[0] == -np.inf


def test_cap_of_a_cylinder_seen_from_above() -> None:
    layer = _render(cone((0, 0, 0), (1, 0.2, 1), GREY), rotation=turn(x=np.pi / 2 - 0.01))
    middle = layer.normals[layer.mask.shape[0] // 2, layer.mask.shape[1] // 2]
    assert middle == pytest.approx([0, np.sin(0.01), np.cos(0.01)], abs=1e-3)


def test_objects_stand_on_their_foot_at_their_scale() -> None:
    layer = _render(box((0.7, 7, 0), (0.5, 1, 0.5), GREY))  # 1 x 2 units, high above the origin
    rows, columns = np.nonzero(layer.mask)
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (40, 20)
    assert rows.max() + layer.window[0].start == 79
    assert columns.min() + layer.window[1].start == 50 + 14 - 10


@pytest.mark.parametrize("angles", [(0.3, 0.7, 0.1), (-0.5, 2.0, 0.9), (1.5, 0.0, 0.0)])
@pytest.mark.parametrize("make", [ball, box, cone])
def test_nothing_is_cut_off_at_the_bounding_box(make: object, angles: tuple[float, float, float]) -> None:
    solid = make((0, 0, 0), (0.9, 0.5, 0.3), GREY, rotation=turn(*angles))  # type: ignore[operator]
    alone = _render(solid)
    shape = tuple(alone.mask.shape)
    assert alone.mask.any(axis=1).sum() >= shape[0] - 3, "the box is tight above and below"
    assert alone.mask.any(axis=0).sum() >= shape[1] - 3, "and at the sides"
    assert alone.mask[0].sum() <= 0.6 * shape[1]


def test_nearer_solids_hide_others_and_normals_are_unit() -> None:
    front, back = ball((0, 0, 1), (0.5, 0.5, 0.5), GREY, part=1), box((0, 0, -1), (1, 1, 0.1), GREY)
    layer = _render(back, front)
    middle = layer.mask.shape[0] // 2
    assert layer.parts[middle, layer.mask.shape[1] // 2] == 1
    assert layer.parts[2, 2] == 0
    assert np.linalg.norm(layer.normals[layer.mask], axis=1) == pytest.approx(1, abs=1e-5)
    assert (layer.normals[layer.mask][:, 2] >= -1e-4).all(), "what is seen faces the viewer"


def test_limbs_span_their_ends() -> None:
    for end in ((0.0, 2.0, 0.0), (1.2, 1.0, 0.0), (0.5, -1.0, 1.0)):
        rod = limb((0, 0, 0), end, (0.1, 0.05), GREY)[0]
        assert rod.rotation @ (0, 1, 0) == pytest.approx(np.array(end) / np.linalg.norm(end), abs=1e-6)
        assert rod.rotation @ rod.rotation.T == pytest.approx(np.eye(3), abs=1e-6)
        assert np.linalg.det(rod.rotation) == pytest.approx(1, abs=1e-5)


def test_objects_off_the_canvas_are_none() -> None:
    pose = Pose(column=500, row=50, scale=20, rotation=IDENTITY)
    assert render([ball((0, 0, 0), (1, 1, 1), GREY)], pose, 100) is None
