"""A small generated dataset that several tests read."""

from pathlib import Path

import pytest

from mfed_ray.data.generated import generate_pascal_context

IMAGES = 8


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generated") / "set"
    generate_pascal_context(root, images=IMAGES, size=48, seed=3)
    return root
