import pytest

from mfed_ray.coco_categories import PANOPTIC, STUFF, THINGS
from mfed_ray.labels import PART_CLASSES, PASCAL_CLASSES
from mfed_ray.predictions.palette import HUES, class_colour, colour, instance_colours, shade


def test_numbers_take_the_hues_in_turn_and_no_two_share_a_colour() -> None:
    assert tuple(colour(number) for number in range(7)) == HUES
    assert len({colour(number) for number in range(250)}) == 250


@pytest.mark.parametrize(
    "names",
    [*([category.name for category in space] for space in (THINGS, STUFF, PANOPTIC)), PASCAL_CLASSES, PART_CLASSES],
)
def test_no_two_classes_of_a_task_share_a_colour(names: list[str]) -> None:
    assert len({class_colour(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("name", "other", "number"),
    [
        ("person", "person", 0),
        ("airplane", "aeroplane", 4),  # as PASCAL calls it
        ("couch", "sofa", 57),
        ("banner", "banner", 80),  # the first of STUFF, after the 80 THINGS
        ("tree", "tree-merged", 157),  # number 77 of STUFF, and a class of the panoptic task
        ("sky-other", "sky-other-merged", 145),
    ],
)
def test_a_class_has_one_colour_in_every_task(name: str, other: str, number: int) -> None:
    assert class_colour(name) == class_colour(other) == colour(number)


def test_a_class_that_is_in_no_list_has_a_colour_of_its_own() -> None:
    assert class_colour("glove") == class_colour("glove") != class_colour("unicorn")


def test_shades_lie_between_black_and_white() -> None:
    # Number 1: (0.5 + 0.618...) % 1 = 0.118..., that is 0.6 * 0.7639... = 45.8% black.
    assert shade((100, 200, 0), 1) == (54, 108, 0)
    # Number 2: 0.736..., 28.3% white.
    assert shade((100, 200, 0), 2) == (144, 216, 72)
    assert shade((100, 200, 0), 0) == (100, 200, 0)


def test_instances_of_a_class_are_shades_of_its_colour() -> None:
    cat, dog = class_colour("cat"), class_colour("dog")
    colours = instance_colours(["cat", "dog", "cat", "cat", "dog"])
    assert colours == [cat, dog, shade(cat, 1), shade(cat, 2), shade(dog, 1)]
    assert instance_colours([]) == []
