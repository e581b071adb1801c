import numpy as np
import pytest
from numpy.typing import NDArray

from mfed_ray.coco_categories import PANOPTIC, STUFF, THINGS
from mfed_ray.data.coco_annotations import annotate, category_colour
from mfed_ray.data.scenes.classes import CLUTTER, KINDS, PERSON_KIND
from mfed_ray.data.scenes.composition import Instance, Scene
from mfed_ray.data.scenes.surfaces import PICTURE, SKY, TREE
from mfed_ray.labels import PASCAL_CLASSES, PERSON

CONTEXT_OF = {kind.label: kind.context for kind in (*KINDS, PERSON_KIND)}
BALL = CLUTTER[1].context
THING = {one.name: one.id for one in THINGS}


def _scene(instances: NDArray[np.uint8], labels: dict[int, int], objects: list[int]) -> Scene:
    """A scene under the sky of the given instances; ``labels`` by number, ``objects`` the numbers that count."""
    classes = np.zeros_like(instances)
    context = np.full(instances.shape, SKY, np.uint16)
    for number, label in labels.items():
        classes[instances == number], context[instances == number] = label, CONTEXT_OF[label]
    blank = np.zeros((*instances.shape, 3))
    keypoints = {number: np.full((17, 3), number, np.int32) for number, label in labels.items() if label == PERSON}
    return Scene(
        blank.astype(np.uint8), classes, instances, tuple(Instance(number, labels[number]) for number in objects),
        np.zeros_like(instances), instances > 0, context, blank.astype(np.float32), keypoints,
    )  # fmt: skip


def test_one_object_worked_by_hand() -> None:
    instances = np.zeros((4, 5), np.uint8)
    instances[1:3, 1:4] = 1
    found = annotate(7, _scene(instances, {1: PASCAL_CLASSES.index("sofa")}, [1]))
    common = {"area": 6, "iscrowd": 0, "bbox": [1, 1, 3, 2], "category_id": THING["couch"]}
    assert found.entries["instances"] == [
        common | {"segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]], "image_id": 7, "id": 7001}
    ]
    assert found.entries["person_keypoints"] == []
    sky, other = found.entries["stuff"]
    assert (sky["category_id"], sky["area"], sky["bbox"], sky["id"]) == (157, 14, [0, 0, 5, 4], 7157)
    assert (other["category_id"], other["area"], other["bbox"], other["id"]) == (183, 6, [1, 1, 3, 2], 7183)
    np.testing.assert_array_equal(found.stuff, np.where(instances == 1, 183, 157))
    (panoptic,) = found.entries["panoptic"]
    assert (panoptic["file_name"], panoptic["image_id"]) == ("000000000007.png", 7)
    couch, merged_sky = panoptic["segments_info"]
    assert {key: couch[key] for key in common} == common
    assert (merged_sky["category_id"], merged_sky["area"]) == (187, 14)
    np.testing.assert_array_equal(found.panoptic, np.where(instances == 1, couch["id"], merged_sky["id"]))


def test_what_is_hidden_or_has_no_class_is_void() -> None:
    instances = np.zeros((4, 4), np.uint8)
    instances[0, :3], instances[1, 0] = 1, 2
    scene = _scene(instances, {1: PERSON, 2: PERSON}, [1])
    scene.labels[2, :2] = PICTURE, BALL
    scene.labels[3, :] = TREE
    found = annotate(1, scene)
    void = np.zeros((4, 4), bool)
    void[1, 0] = void[2, 0] = void[2, 1] = True
    np.testing.assert_array_equal(found.stuff == 0, void)
    np.testing.assert_array_equal(found.panoptic == 0, void)
    assert [one["category_id"] for one in found.entries["panoptic"][0]["segments_info"]] == [1, 187, 184]
    assert [one["category_id"] for one in found.entries["stuff"]] == [157, 169, 183]
    (person,) = found.entries["person_keypoints"]
    assert (person["num_keypoints"], person["keypoints"]) == (17, [1] * 51)


def test_the_two_smallest_of_three_are_a_crowd() -> None:
    instances = np.zeros((3, 4), np.uint8)
    instances[0, :2], instances[1, :3], instances[2, 0], instances[2, 3] = 1, 2, 3, 4
    found = annotate(2, _scene(instances, {1: PERSON, 2: PERSON, 3: PERSON, 4: 3}, [1, 2, 3, 4]))
    alone, crowd, bird = found.entries["instances"]
    assert [one["iscrowd"] for one in (alone, crowd, bird)] == [0, 1, 0]
    assert (alone["id"], alone["area"]) == (2002, 3)
    # the columns of people 1 and 3 are 101, 100, 000, 000: no zeros, 1 pixel, 1 zero, 2 pixels, the rest
    assert crowd["segmentation"] == {"counts": [0, 1, 1, 2, 8], "size": [3, 4]}
    assert (crowd["id"], crowd["area"], crowd["bbox"]) == (2003, 3, [0, 0, 2, 3])
    assert bird["category_id"] == THING["bird"]
    first, second = found.entries["person_keypoints"]
    assert (first["num_keypoints"], second["num_keypoints"]) == (17, 0)
    assert second["keypoints"] == [0] * 51
    segments = found.entries["panoptic"][0]["segments_info"]
    assert [one["iscrowd"] for one in segments] == [0, 1, 0, 0]
    assert segments[1]["area"] == 3


@pytest.mark.parametrize("label", range(1, len(PASCAL_CLASSES)))
def test_every_pascal_class_is_a_thing(label: int) -> None:
    found = annotate(1, _scene(np.ones((2, 2), np.uint8), {1: label}, [1]))
    (segment,) = found.entries["panoptic"][0]["segments_info"]
    name = next(one.name for one in THINGS if one.id == segment["category_id"])
    renamed = {"aeroplane": "airplane", "motorbike": "motorcycle", "sofa": "couch", "tvmonitor": "tv"}
    pascal = renamed.get(PASCAL_CLASSES[label], PASCAL_CLASSES[label])
    assert name.replace(" ", "") == pascal


def test_segments_of_one_category_differ() -> None:
    instances = np.arange(1, 3, dtype=np.uint8).reshape(1, 2)
    found = annotate(1, _scene(instances, {1: 7, 2: 7}, [1, 2]))
    first, second = found.panoptic[0]
    assert first != second
    assert first >> 8 == second >> 8, "the category's green and blue"


def test_colours_are_distinct_in_every_channel() -> None:
    ids = {one.id for one in (*PANOPTIC, *STUFF)}
    for channel in range(3):
        assert len({category_colour(one)[channel] for one in ids}) == len(ids)
    assert category_colour(1) == (67, 131, 197)
