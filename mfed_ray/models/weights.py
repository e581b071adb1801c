"""Pretrained encoder weights: from torchvision or from a file with torchvision's parameter names."""

import pickle
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import safetensors.torch
import torch
import torchvision.models
from torch import Tensor, nn

from mfed_ray.errors import ConfigError, WeightsError
from mfed_ray.models.contract import Encoder

TORCHVISION = "torchvision"

_WRAPPERS = re.compile(r"^((module|backbone|encoder)\.)+")
_CLASSIFIER = re.compile(r"^(fc|classifier|features\.18)\.")
_UNUSED = "num_batches_tracked"


def load_weights(encoder: Encoder, name: str, source: str | Path) -> None:
    """Fill the encoder in place from ``"torchvision"`` or a .safetensors or .pth file.

    Keys may start with ``module.``, ``backbone.`` or ``encoder.``; the classifier is left out. GroupNorm layers keep
    their initial values, because BatchNorm's scale and shift belong to its statistics.

    Raises ConfigError where torchvision has none for the encoder; WeightsError where they cannot be downloaded, read
    or fitted.
    """
    found = _download(name) if source == TORCHVISION else read_weights(Path(source))
    grouped = {layer for layer, module in encoder.named_modules() if isinstance(module, nn.GroupNorm)}

    def wanted(key: str) -> bool:
        return not (_CLASSIFIER.match(key) or key.endswith(_UNUSED) or key.rpartition(".")[0] in grouped)

    unwrapped = {_WRAPPERS.sub("", key): value for key, value in found.items()}
    given = {key: value for key, value in unwrapped.items() if wanted(key)}
    expected = {key: value for key, value in encoder.state_dict().items() if wanted(key)}
    mismatch = _mismatch(expected, given)
    if mismatch:
        raise WeightsError(
            f"model.weights: {source} does not fit encoder {name!r}: {mismatch}; "
            f"allowed: the parameters of torchvision's {name}"
        )
    encoder.load_state_dict(given, strict=False)


def _mismatch(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    misshapen = [
        f"{key} {list(given[key].shape)} instead of {list(expected[key].shape)}"
        for key in expected
        if key in given and given[key].shape != expected[key].shape
    ]
    faults = {
        "missing": [key for key in expected if key not in given],
        "unexpected": [key for key in given if key not in expected],
        "wrong shape": misshapen,
    }
    return ", ".join(f"{fault}: {_few(keys)}" for fault, keys in faults.items() if keys)


def _few(keys: Collection[str]) -> str:
    listed = " ".join(list(keys)[:3])
    return listed if len(keys) <= 3 else f"{listed} ... ({len(keys)} in all)"


def _download(name: str) -> Mapping[str, Tensor]:
    if name not in torchvision.models.list_models(torchvision.models):
        raise ConfigError(
            f"model.weights: torchvision has no weights for encoder {name!r}, allowed: null or the path of a file"
        )
    weights = torchvision.models.get_model_weights(name).DEFAULT
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(
            progress=False, check_hash=True, weights_only=True, map_location="cpu"
        )
    except (URLError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"model.weights: cannot get torchvision's weights for {name} from {weights.url} ({_first_line(error)}); "
            "allowed without a network: null or the path of a file"
        ) from error
    return state


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """The state dict of a .safetensors or .pth file. Raises WeightsError. Nothing in the file is run."""
    readers: dict[str, Callable[[Path], Any]] = {".safetensors": _read_safetensors, ".pth": _read_pth}
    if path.suffix not in readers:
        raise WeightsError(
            f"model.weights: {path} has suffix {path.suffix!r}, allowed: {', '.join(readers)}, or {TORCHVISION!r}"
        )
    try:
        state = readers[path.suffix](path)
    except Exception as error:  # of a damaged file torch raises nearly anything: ValueError, UnicodeDecodeError
        raise WeightsError(
            f"model.weights: cannot read {path} ({_first_line(error)}); allowed: a readable {path.suffix} file"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise WeightsError(f"model.weights: {path} holds no state dict; allowed: a dict of tensors by parameter name")
    return state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(path)


def _read_pth(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
