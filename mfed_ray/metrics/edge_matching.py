"""One-to-one matching of predicted edge pixels with one annotator's, within a distance: compiled, exact."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfed_ray.jit import jit

Mask = NDArray[np.uint8]
Indices = NDArray[np.int32]

FREE = -1
DEAD = -2


class Reach(NamedTuple):
    """What each pixel of the image can be matched with, nearest first.

    Pixel p (row-major index) reaches the annotated edge pixels ``truth[start[p]:start[p + 1]]``, numbered
    0..``points`` - 1, at the squared distances ``distance[start[p]:start[p + 1]]`` in pixels.
    """

    start: Indices
    truth: Indices
    distance: Indices
    points: int


def reach(edges: Mask, radius: float) -> Reach:
    """Where the annotated ``edges`` (uint8 [H, W], 0 or 1) lie within ``radius`` pixels of each pixel."""
    size = int(radius)
    dy, dx = np.mgrid[-size : size + 1, -size : size + 1].reshape(2, -1)
    squared = dy**2 + dx**2
    order = np.argsort(squared, kind="stable")
    order = order[squared[order] <= radius * radius]
    offsets = np.stack([dy[order], dx[order], squared[order]], axis=1).astype(np.int32)
    rows, columns = np.nonzero(edges)
    points = np.stack([rows, columns], axis=1).astype(np.int32)
    return Reach(*_reach(points, offsets, *edges.shape), points=len(points))


def match(pixels: Indices, reachable: Reach) -> NDArray[np.bool_]:
    """Which of ``pixels`` (row-major indices, int32 [N]) a maximum matching uses: bool [N].

    No matching within the radius has more pairs. Of the maximum matchings it is one with short distances: a greedy
    matching by increasing distance, made maximum by shortest augmenting paths, then shortened by handing points to
    nearer pixels. BSDS's solver (Martin, Fowlkes, Malik, PAMI 2004) minimises the summed distance plus 100 radii for
    each unmatched pixel, which asks for the same number of pairs; its sparse random outlier links miss about one in
    a thousand. Short distances matter where several annotators' matchings are united, for precision.
    """
    return _match(pixels, *reachable)


@jit
def _reach(points: Indices, offsets: Indices, height: int, width: int) -> tuple[Indices, Indices, Indices]:
    start = np.zeros(height * width + 1, dtype=np.int32)
    for y, x in points:
        for dy, dx, _ in offsets:
            if 0 <= y + dy < height and 0 <= x + dx < width:
                start[(y + dy) * width + x + dx + 1] += 1
    start = np.cumsum(start).astype(np.int32)
    end = start.copy()
    truth = np.empty(start[-1], dtype=np.int32)
    distance = np.empty(start[-1], dtype=np.int32)
    for dy, dx, squared in offsets:
        for index in range(len(points)):
            y, x = points[index, 0] + dy, points[index, 1] + dx
            if 0 <= y < height and 0 <= x < width:
                position = end[y * width + x]
                truth[position] = index
                distance[position] = squared
                end[y * width + x] += 1
    return start, truth, distance


@jit
def _match(pixels: Indices, start: Indices, truth: Indices, distance: Indices, points: int) -> NDArray[np.bool_]:
    near = np.flatnonzero(start[pixels] < start[pixels + 1])
    first = start[pixels[near]]
    last = start[pixels[near] + 1]
    of_pixel = np.full(len(near), FREE, dtype=np.int32)
    of_point = np.full(points, FREE, dtype=np.int32)
    _match_nearest(first, last, truth, distance, of_pixel, of_point)
    _match_rest(first, last, truth, of_pixel, of_point)
    _shorten(first, last, truth, distance, of_pixel, of_point)
    used = np.zeros(len(pixels), dtype=np.bool_)
    used[near] = of_pixel != FREE
    return used


@jit
def _match_nearest(
    first: Indices, last: Indices, truth: Indices, distance: Indices, of_pixel: Indices, of_point: Indices
) -> None:
    """Greedy matching in the order of distance, then of the pixels."""
    position = first.copy()
    active = np.arange(len(first))
    squared = 0
    while len(active) > 0:
        kept = 0
        for pixel in active:
            while position[pixel] < last[pixel] and distance[position[pixel]] == squared:
                point = truth[position[pixel]]
                if of_point[point] == FREE:
                    of_pixel[pixel] = point
                    of_point[point] = pixel
                    break
                position[pixel] += 1
            if of_pixel[pixel] == FREE and position[pixel] < last[pixel]:
                active[kept] = pixel
                kept += 1
        active = active[:kept]
        squared += 1


@jit
def _match_rest(first: Indices, last: Indices, truth: Indices, of_pixel: Indices, of_point: Indices) -> None:
    """Augment from every free pixel, once each: a search that fails fails for good, and so do the points it saw."""
    parent = np.empty(len(of_point), dtype=np.int32)
    seen_by = np.full(len(of_point), FREE, dtype=np.int32)
    queue = np.empty(len(of_point), dtype=np.int32)
    for root in range(len(first)):
        if of_pixel[root] != FREE:
            continue
        end, length = _search(root, first, last, truth, of_point, parent, seen_by, queue)
        if end == FREE:
            seen_by[queue[:length]] = DEAD
            continue
        while end != FREE:
            pixel = parent[end]
            of_point[end] = pixel
            end, of_pixel[pixel] = of_pixel[pixel], end


@jit
def _search(
    root: int,
    first: Indices,
    last: Indices,
    truth: Indices,
    of_point: Indices,
    parent: Indices,
    seen_by: Indices,
    queue: Indices,
) -> tuple[int, int]:
    """Breadth first along alternating paths: the nearest free point (or FREE), and how many points ``queue`` holds."""
    pixel = root
    head = 0
    length = 0
    while True:
        for position in range(first[pixel], last[pixel]):
            point = truth[position]
            if seen_by[point] == root or seen_by[point] == DEAD:
                continue
            seen_by[point] = root
            parent[point] = pixel
            if of_point[point] == FREE:
                return point, length
            queue[length] = point
            length += 1
        if head == length:
            return FREE, length
        pixel = of_point[queue[head]]
        head += 1


@jit
def _shorten(
    first: Indices, last: Indices, truth: Indices, distance: Indices, of_pixel: Indices, of_point: Indices
) -> None:
    """Hand points over from their pixel to a nearer free one; the number of pairs stays."""
    length = np.zeros(len(first), dtype=np.int32)
    for pixel in range(len(first)):
        for position in range(first[pixel], last[pixel]):
            if truth[position] == of_pixel[pixel]:
                length[pixel] = distance[position]
                break
    for root in range(len(first)):
        free = root
        while free != FREE and of_pixel[free] == FREE:
            free = _displace(free, first, last, truth, distance, of_pixel, of_point, length)


@jit
def _displace(
    free: int,
    first: Indices,
    last: Indices,
    truth: Indices,
    distance: Indices,
    of_pixel: Indices,
    of_point: Indices,
    length: Indices,
) -> int:
    """Give the free pixel the first point that it is nearer to than the point's pixel, which is returned (or FREE)."""
    for position in range(first[free], last[free]):
        point = truth[position]
        loser = int(of_point[point])
        if distance[position] < length[loser]:
            of_pixel[loser] = FREE
            of_pixel[free] = point
            of_point[point] = free
            length[free] = distance[position]
            return loser
    return FREE
