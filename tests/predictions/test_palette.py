import numpy as np

from mfed_ray.predictions.palette import HUES, class_colour, instance_colours, shade


def test_classes_take_the_hues_in_turn_and_no_two_share_a_colour() -> None:
    assert tuple(class_colour(label) for label in range(7)) == HUES
    assert len({class_colour(label) for label in range(133)}) == 133


def test_shades_lie_between_black_and_white() -> None:
    # Number 1: (0.5 + 0.618...) % 1 = 0.118..., that is 0.6 * 0.7639... = 45.8% black.
    assert shade((100, 200, 0), 1) == (54, 108, 0)
    # Number 2: 0.736..., 28.3% white.
    assert shade((100, 200, 0), 2) == (144, 216, 72)
    assert shade((100, 200, 0), 0) == (100, 200, 0)


def test_instances_of_a_class_are_shades_of_its_colour() -> None:
    colours = instance_colours(np.array([3, 5, 3, 3, 5]))
    assert colours[:2] == [class_colour(3), class_colour(5)]
    assert colours[2:] == [shade(class_colour(3), 1), shade(class_colour(3), 2), shade(class_colour(5), 1)]
    assert instance_colours(np.zeros(0, dtype=np.int64)) == []
