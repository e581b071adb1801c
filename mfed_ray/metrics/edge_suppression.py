"""Non-maximum suppression of edge maps, as many papers apply it before the BSDS benchmark."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

Map = NDArray[np.float64]

_MARGIN = 1.01
_BORDER = 5


def suppress(prediction: NDArray[np.floating]) -> Map:
    """Edge probabilities [H, W], at least 2x2, with all but the ridges set to 0: float64 [H, W].

    The prediction is smoothed a little, and a pixel survives where it times 1.01 is no smaller than its neighbours
    at one pixel's distance across the edge; 5 pixels along the image's border are faded out. Dollar's Structured
    Edge Detection Toolbox, ``edgesDetect.m`` and ``edgesNmsMex``, with its usual arguments (r 1, s 5, m 1.01). Its
    orientation of an edge that is horizontal to the last bit is wrong by a right angle; so it is here.
    """
    edges = _smooth(np.asarray(prediction, dtype=np.float64), 1)
    return _thin_ridges(edges, _orientation(edges))


def _thin_ridges(edges: Map, orientation: Map) -> Map:
    """Suppress ``edges`` along ``orientation``, the angle across the edge in radians; both [H, W]."""
    y, x = np.mgrid[: edges.shape[0], : edges.shape[1]]
    dy, dx = np.sin(orientation), np.cos(orientation)
    strongest = np.maximum(_between(edges, y + dy, x + dx), _between(edges, y - dy, x - dx))
    ridges = np.where(edges * _MARGIN < strongest, 0, edges)
    fade = [_fade(length) for length in edges.shape]
    return ridges * fade[0][:, None] * fade[1][None]


def _orientation(edges: Map) -> Map:
    gy, gx = np.gradient(_smooth(edges, 4))
    gxx = np.gradient(gx, axis=1)
    gyy, gxy = np.gradient(gy)
    return np.asarray(np.mod(np.arctan(gyy * np.sign(-gxy) / (gxx + 1e-5)), np.pi))


def _smooth(image: Map, radius: int) -> Map:
    """Convolve with a triangle of the radius, mirrored at the border (``convTri``)."""
    triangle = np.concatenate([np.arange(1, radius + 1), np.arange(radius + 1, 0, -1)]) / (radius + 1) ** 2
    return np.asarray(convolve1d(convolve1d(image, triangle, axis=0), triangle, axis=1))


def _between(image: Map, y: Map, x: Map) -> Map:
    """Bilinear interpolation; positions outside are moved to the border."""
    y = np.clip(y, 0, image.shape[0] - 1.001)
    x = np.clip(x, 0, image.shape[1] - 1.001)
    top, left = y.astype(int), x.astype(int)
    down, right = y - top, x - left
    upper = image[top, left] * (1 - right) + image[top, left + 1] * right
    lower = image[top + 1, left] * (1 - right) + image[top + 1, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down)


def _fade(length: int) -> Map:
    border = min(_BORDER, length // 2)
    distance = np.minimum(np.arange(length), np.arange(length)[::-1])
    return np.minimum(distance / border, 1)
