import subprocess
import sys

import pytest

import mfed_ray
from mfed_ray import errors


def test_all_is_what_there_is() -> None:
    assert mfed_ray.__all__ == [
        "Algorithm",
        "CheckpointError",
        "ClientError",
        "ClientLostError",
        "ClientMemoryError",
        "ClientSpec",
        "ConfigError",
        "DataError",
        "Diagnostics",
        "DriverError",
        "Fit",
        "InputError",
        "Instruction",
        "MfedError",
        "Params",
        "PlacementError",
        "Probe",
        "Proximal",
        "ResultsWarning",
        "RunFolderError",
        "RunInterruptedError",
        "State",
        "StorageError",
        "SweepError",
        "Trainer",
        "Update",
        "WeightsError",
        "by_group",
        "common_encoder",
        "decoders_of",
        "encoder_of",
        "load",
        "load_experiment",
        "load_results",
        "parse_experiment",
        "run",
        "summarise",
        "weighted_mean",
    ]
    assert all(getattr(mfed_ray, name) is not None for name in mfed_ray.__all__)


def test_every_error_is_exported() -> None:
    defined = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert defined <= set(mfed_ray.__all__)


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="'mfed_ray' has no attribute 'trian'; it has Algorithm, Check"):
        mfed_ray.trian  # noqa: B018


def test_the_import_is_light() -> None:
    code = "import sys, mfed_ray; sys.exit(int(any(name in sys.modules for name in ('torch', 'ray', 'pandas'))))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
