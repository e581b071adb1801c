"""Nearest-neighbour resampling of maps of labels, which are never mixed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def nearest(maps: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Maps [H, W, ...] at ``size`` = (h, w): each new pixel takes the old one in which its centre lies."""
    rows, columns = centres(size[0], maps.shape[0]), centres(size[1], maps.shape[1])
    return maps[rows[:, None], columns]


def centres(new: int, old: int) -> NDArray[np.int64]:
    """Index of the old pixel in which the centre of each new pixel lies."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def window(maps: NDArray[Any], corner: tuple[int, int], size: int, fill: NDArray[Any] | float) -> NDArray[Any]:
    """The square of ``size`` pixels of maps [H, W, ...] whose top left pixel is ``corner`` = (row, column).

    Where the square reaches beyond the maps it holds ``fill``.
    """
    top, left = corner
    square = np.empty((size, size, *maps.shape[2:]), maps.dtype)
    square[:] = fill
    inside = maps[max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)]
    row, column = max(-top, 0), max(-left, 0)
    square[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    return square
