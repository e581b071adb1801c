import subprocess
import sys

import pytest

import mfed_ray


def test_all_is_what_there_is() -> None:
    assert mfed_ray.__all__ == ["load", "load_experiment", "load_results", "run", "summarise"]
    assert all(callable(getattr(mfed_ray, name)) for name in mfed_ray.__all__)


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="'mfed_ray' has no attribute 'trian'; it has load, load_exp"):
        mfed_ray.trian  # noqa: B018


def test_the_import_is_light() -> None:
    code = "import sys, mfed_ray; sys.exit(int(any(name in sys.modules for name in ('torch', 'ray', 'pandas'))))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
