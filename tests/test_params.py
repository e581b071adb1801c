import numpy as np
import pytest

from mfed_ray.averages import weighted_mean
from mfed_ray.messages import Params
from mfed_ray.params import cosine, decoders_of, difference, encoder_of, is_output_head, nbytes


def tree(**values: list[float]) -> Params:
    return {name.replace("__", "."): np.array(value, np.float32) for name, value in values.items()}


MODEL = tree(encoder__conv=[1.0], decoders__saliency__conv=[2.0], decoders__saliency_two__conv=[3.0])


def test_split_by_prefix() -> None:
    assert list(encoder_of(MODEL)) == ["encoder.conv"]
    assert list(decoders_of(MODEL)) == ["decoders.saliency.conv", "decoders.saliency_two.conv"]
    # a task whose name begins like another's is another task
    assert list(decoders_of(MODEL, "saliency")) == ["decoders.saliency.conv"]


def test_output_heads_by_name() -> None:
    assert is_output_head("decoders.saliency.classifier.weight")
    assert is_output_head("decoders.instance_segmentation.detector.boxes.box_predictor.cls_score.bias")
    assert not is_output_head("decoders.saliency.trunk.classifiers.weight")


def test_weighted_mean_by_hand() -> None:
    # (1 * 1 + 3 * 5) / 4 = 4 and (1 * 2 + 3 * -2) / 4 = -1
    mean = weighted_mean([tree(w=[1, 2]), tree(w=[5, -2])], [1, 3])
    assert mean["w"].tolist() == [4.0, -1.0]
    assert mean["w"].dtype == np.float32


def test_weighted_mean_of_one_is_that_one_bit_for_bit() -> None:
    value = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    assert np.array_equal(weighted_mean([{"w": value}], [0.3])["w"], value)


def test_weighted_mean_of_unlike_values_is_exact_to_a_step() -> None:
    # in a sum of float32, 2^24 + 1 is 2^24: the mean of (2^24, 1, 1) would be 2^24 / 3, two steps off
    mean = weighted_mean([tree(w=[2**24]), tree(w=[1]), tree(w=[1])], [1, 1, 1])
    exact = (2**24 + 2) / 3
    assert abs(mean["w"][0] - exact) <= np.spacing(np.float32(exact))


def test_weighted_mean_leaves_its_inputs_alone() -> None:
    first = tree(w=[1.0])
    weighted_mean([first, tree(w=[3.0])], [1, 1])
    assert first["w"].tolist() == [1.0]


def test_difference() -> None:
    assert difference(tree(w=[3, 5]), tree(w=[1, 7]))["w"].tolist() == [2.0, -2.0]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (tree(x=[1, 0], y=[0]), tree(x=[1, 0], y=[0]), 1.0),
        (tree(x=[1, 0], y=[0]), tree(x=[-2, 0], y=[0]), -1.0),
        (tree(x=[3, 0], y=[4]), tree(x=[0, 5], y=[0]), 0.0),
        (tree(x=[3, 0], y=[4]), tree(x=[1, 0], y=[0]), 0.6),  # 3 / (5 * 1)
        (tree(x=[0, 0], y=[0]), tree(x=[1, 0], y=[0]), 0.0),
    ],
)
def test_cosine_by_hand(a: Params, b: Params, expected: float) -> None:
    assert cosine(a, b) == pytest.approx(expected, abs=1e-12)


def test_cosine_ignores_running_statistics() -> None:
    a, b = tree(w=[1, 0], bn__running_var=[1e6, 0]), tree(w=[0, 1], bn__running_var=[1e6, 0])
    assert cosine(a, b) == 0.0


def test_nbytes_counts_a_shared_tree_once() -> None:
    shared = tree(w=[1, 2, 3])
    assert nbytes([shared, shared, tree(w=[1])]) == 4 * 3 + 4
