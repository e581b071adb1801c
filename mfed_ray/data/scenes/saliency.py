"""Which objects draw the eye: the large, central and contrasting ones."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mfed_ray.data.scenes.arrays import Floats

_RIVAL = 0.7  # a second object is salient too if its score is this share of the best one's


def salient_mask(image: NDArray[np.uint8], instances: NDArray[np.uint8], numbers: Sequence[int]) -> NDArray[np.bool_]:
    """Pixels [S, S] of the one or two objects among ``numbers`` with the highest scores; empty without any."""
    colours = image.astype(np.float32) / 255
    scores = {number: _score(colours, instances == number) for number in numbers}
    ranked = sorted(scores, key=lambda number: -scores[number])
    chosen = [number for number in ranked[:2] if scores[number] >= _RIVAL * scores[ranked[0]]]
    return np.isin(instances, chosen)


def _score(colours: Floats, mask: NDArray[np.bool_]) -> float:
    """Root of the area (levelling off at a quarter of the image) x centrality x contrast to everything else."""
    rows, columns = np.nonzero(mask)
    size = mask.shape[0]
    area = min(mask.mean(), 0.25)
    off_centre = np.hypot(rows.mean() / size - 0.5, columns.mean() / size - 0.5)
    contrast = np.abs(colours[mask].mean(axis=0) - colours[~mask].mean(axis=0)).mean() if not mask.all() else 0.0
    return float(np.sqrt(area) * np.exp(-((off_centre / 0.35) ** 2)) * (0.3 + contrast))
