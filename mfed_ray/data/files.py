"""Decoding of single files; every failure is a ``DataError`` that names the file."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat

from mfed_ray.data.mat_structure import check_structure
from mfed_ray.errors import DataError

RECORD = "generated.json"
"""The file that says with which parameters a data set's folder was generated here."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image of 8 bits a channel as RGB, uint8 [H, W, 3]: grey, palette and CMYK are converted.

    An orientation in EXIF is not applied: COCO's and PASCAL's annotations are of the pixels as they are stored. Raises
    DataError if the file is missing, cannot be decoded, or has more bits a channel.
    """
    return _decode(path, "RGB")


def read_label(path: Path) -> NDArray[np.uint8]:
    """Single-channel 8-bit PNG, uint8 [H, W]; of a palette PNG the indices, not the colours.

    Raises DataError if the file is missing, cannot be decoded, or has several channels.
    """
    return _decode(path, None)


def read_mat(path: Path, variable: str) -> NDArray[Any]:
    """One variable of a MATLAB file (version 4 to 7.2). Raises DataError if missing, unreadable or without it."""
    found = read_mat_variables(path, (variable,))
    if variable not in found:
        raise DataError(f"{path}: has no variable {variable!r}")
    return found[variable]


def read_mat_variables(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Those of the named variables that the MATLAB file has. Raises DataError if it is missing or unreadable."""
    try:
        whole = path.read_bytes()
        check_structure(whole, names)
        buffer: Any = io.BytesIO(whole)  # SciPy's stubs know paths only
        content: dict[str, NDArray[Any]] = loadmat(buffer, variable_names=list(names))
    except FileNotFoundError:
        raise DataError(f"{path}: file not found") from None
    except Exception as error:  # a damaged file makes loadmat raise nearly anything: ValueError, TypeError, zlib.error
        raise DataError(f"{path}: cannot be read as a MATLAB file ({error})") from error
    return {name: content[name] for name in names if name in content}


def _decode(path: Path, mode: str | None) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":  # I, I;16, F: converting would clip
                raise DataError(f"{path}: pixel mode is {image.mode}, an image must have 8 bits a channel")
            if mode is None and image.mode not in ("P", "L"):
                raise DataError(f"{path}: pixel mode is {image.mode}, a label must be an 8-bit palette or grey PNG")
            return np.array(image if mode is None else image.convert(mode), dtype=np.uint8)
    except FileNotFoundError:
        raise DataError(f"{path}: file not found") from None
    except (OSError, SyntaxError, ValueError, MemoryError, Image.DecompressionBombError) as error:
        # Pillow: truncated, not an image, broken PNG chunk, more pixels than any photo or than memory holds
        raise DataError(f"{path}: cannot be decoded as an image ({error})") from error
