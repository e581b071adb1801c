"""Boundaries of label maps, and thinning: what edge targets are made of and what the edge metric thins."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfed_ray.jit import jit

Mask = NDArray[np.uint8]
Queues = NDArray[np.int32]

_FIRST, _SECOND = 1, 2


def _deletable(code: int) -> int:
    """Bits of the sub-iterations that delete a pixel whose neighbours are ``code``'s bits, counter-clockwise from east.

    Conditions G1, G2, G3 of Guo and Hall (1989), numbered as in MATLAB's documentation of ``bwmorph``.
    """
    x = [code >> bit & 1 for bit in range(8)] * 2
    crossings = sum(1 for k in (0, 2, 4, 6) if not x[k] and (x[k + 1] or x[k + 2]))
    pairs = min(sum(x[k] | x[k + 1] for k in (0, 2, 4, 6)), sum(x[k + 1] | x[k + 2] for k in (0, 2, 4, 6)))
    if crossings != 1 or pairs not in (2, 3):
        return 0
    first = not ((x[1] or x[2] or not x[7]) and x[0])
    second = not ((x[5] or x[6] or not x[3]) and x[4])
    return _FIRST * first + _SECOND * second


_DELETABLE = np.array([_deletable(code) for code in range(256)], dtype=np.uint8)


def thin(mask: NDArray[Any]) -> Mask:
    """Thin the foreground (non-zero) of ``mask`` [H, W] to lines one pixel wide: uint8 [H, W], 0 or 1.

    Equal to MATLAB's ``bwmorph(mask, 'thin', Inf)``: Guo and Hall, Parallel thinning with two-subiteration
    algorithms, CACM 32(3), 1989; 8-connected components and their holes survive.
    """
    return _thin(np.ascontiguousarray(mask != 0).view(np.uint8), _DELETABLE)


def label_boundaries(labels: NDArray[Any]) -> Mask:
    """Boundaries between the regions of ``labels`` [H, W], thinned: uint8 [H, W], 0 or 1.

    A pixel is on a boundary where its label differs from that of its right, lower or lower-right neighbour
    (BSDS500's ``seg2bmap``).
    """
    differs = np.zeros(labels.shape, dtype=np.uint8)
    differs[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    differs[:-1] |= labels[:-1] != labels[1:]
    differs[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    return thin(differs)


@jit
def _thin(mask: Mask, deletable: Mask) -> Mask:
    height, width = mask.shape
    stride = width + 2
    padded = np.zeros((height + 2, stride), dtype=np.uint8)
    padded[1:-1, 1:-1] = mask
    image = padded.ravel()
    codes = _neighbours(padded).ravel()
    offsets = np.array([1, 1 - stride, -stride, -1 - stride, -1, stride - 1, stride, stride + 1])
    # A pixel can become deletable only when a neighbour goes, so each sub-iteration keeps a queue instead of sweeping.
    queues = np.empty((2, image.size), dtype=np.int32)
    lengths = np.zeros(2, dtype=np.int64)
    queued = np.zeros(image.size, dtype=np.uint8)
    for pixel in range(image.size):
        if image[pixel]:
            _enqueue(pixel, deletable[codes[pixel]], queues, lengths, queued)
    while lengths[0] + lengths[1] > 0:
        for step in range(2):
            doomed = _doomed(step, image, codes, deletable, queues, lengths, queued)
            _delete(doomed, image, codes, offsets)
            for pixel in doomed:
                for offset in offsets:
                    if image[pixel + offset]:
                        _enqueue(pixel + offset, deletable[codes[pixel + offset]], queues, lengths, queued)
    return padded[1:-1, 1:-1].copy()


@jit
def _neighbours(padded: Mask) -> Mask:
    codes = np.zeros_like(padded)
    for y in range(1, padded.shape[0] - 1):
        for x in range(1, padded.shape[1] - 1):
            codes[y, x] = (
                padded[y, x + 1]
                | padded[y - 1, x + 1] << 1
                | padded[y - 1, x] << 2
                | padded[y - 1, x - 1] << 3
                | padded[y, x - 1] << 4
                | padded[y + 1, x - 1] << 5
                | padded[y + 1, x] << 6
                | padded[y + 1, x + 1] << 7
            )
    return codes


@jit
def _enqueue(pixel: int, steps: int, queues: Queues, lengths: NDArray[np.int64], queued: Mask) -> None:
    """Add the pixel to the queues of ``steps`` (bits) that do not hold it yet."""
    new = steps & ~queued[pixel]
    queued[pixel] |= steps
    for step in range(2):
        if new >> step & 1:
            queues[step, lengths[step]] = pixel
            lengths[step] += 1


@jit
def _doomed(
    step: int, image: Mask, codes: Mask, deletable: Mask, queues: Queues, lengths: NDArray[np.int64], queued: Mask
) -> NDArray[np.int32]:
    """Empty the sub-iteration's queue; the pixels in it that are deletable as the image now stands."""
    count = 0
    for position in range(lengths[step]):
        pixel = queues[step, position]
        queued[pixel] &= ~np.uint8(1 << step)
        if image[pixel] and deletable[codes[pixel]] >> step & 1:
            queues[step, count] = pixel
            count += 1
    lengths[step] = 0
    return queues[step, :count].copy()


@jit
def _delete(pixels: NDArray[np.int32], image: Mask, codes: Mask, offsets: NDArray[np.int64]) -> None:
    for pixel in pixels:
        image[pixel] = 0
        for bit in range(8):
            # Seen from the neighbour in direction ``bit`` the pixel lies the opposite way.
            codes[pixel + offsets[bit]] &= ~np.uint8(1 << ((bit + 4) % 8))
