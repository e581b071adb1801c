"""What a picture says below its image."""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mfed_ray.predictions.drawing import Picture


def said(path: Path, image: NDArray[np.uint8], text: str) -> bool:
    """Whether the picture is the image, enlarged as pictures are, with the text as its note and nothing drawn."""
    picture = Picture(image)
    picture.note(text)
    with tempfile.TemporaryDirectory() as folder:
        picture.save(Path(folder) / "expected.png")
        return np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(Path(folder) / "expected.png")))
