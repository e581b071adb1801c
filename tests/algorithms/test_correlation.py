import numpy as np
import pytest

from mfed_ray.algorithms.correlation import feature_cka, linear_cka, update_cosine


def test_update_cosine_by_hand() -> None:
    updates = {
        "a": {"encoder.w": np.array([3, 4], np.float32)},
        "b": {"encoder.w": np.array([4, 3], np.float32)},
        "c": {"encoder.w": np.array([-4, 3], np.float32)},
    }
    found = update_cosine(updates)
    assert found["a", "b"] == found["b", "a"] == pytest.approx(24 / 25)  # (12 + 12) / (5 * 5)
    assert found["a", "c"] == pytest.approx(0.0)
    assert found["b", "c"] == pytest.approx(-7 / 25)  # (-16 + 9) / 25
    assert found["c", "c"] == 1.0


def test_linear_cka_by_hand() -> None:
    # centred: x = (-1, 0, 1), y = (-1, 2, -1) + a column equal to x.  Y'X = (0, 2), X'X = 2,
    # Y'Y = diag(6, 2): CKA = (0^2 + 2^2) / (2 * sqrt(36 + 4)) = 1 / sqrt(10) * 2 / 2 = 0.316...
    x = np.array([[0], [1], [2]], np.float32)
    y = np.array([[1, 5], [4, 6], [1, 7]], np.float32)
    assert linear_cka(x, y) == pytest.approx(4 / (2 * np.sqrt(40)))


def test_linear_cka_is_invariant_to_rotation_scale_and_shift() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4))
    rotation, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    assert linear_cka(x.astype(np.float32), (3 * x @ rotation + 7).astype(np.float32)) == pytest.approx(1, abs=1e-5)


def test_constant_features_correlate_with_nothing() -> None:
    constant, varied = np.ones((3, 2), np.float32), np.array([[0], [1], [2]], np.float32)
    assert feature_cka({"a": constant, "b": varied})["a", "b"] == 0.0
