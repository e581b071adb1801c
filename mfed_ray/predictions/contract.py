"""What writes a task's predictions."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class PredictionWriter(Protocol):
    """Writes one task's predictions of many images into a folder, image by image; built with the new folder's path."""

    def add(self, name: str, image: NDArray[np.uint8], prediction: Any) -> None:
        """One image, uint8 [H, W, 3], known by its file's ``name`` without suffix, and what was predicted of it."""
        ...

    def close(self) -> None:
        """Write what can be written only when every image has been added (a JSON of results)."""
        ...
