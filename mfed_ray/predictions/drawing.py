"""Drawing predictions over their image, so that a person can judge them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mfed_ray.coco_categories import SKELETON
from mfed_ray.predictions.palette import Colour

SMALLEST = 384
"""Pixels of a picture's long side, at least: smaller images are enlarged by a whole number."""

NOTHING = "nothing found"
"""What a picture says instead of a prediction that has nothing to draw."""

_FILL = 0.45
_PADDING = 3
_WHITE: Colour = (255, 255, 255)
_BLACK: Colour = (0, 0, 0)


def overlay_folder(folder: Path) -> Path:
    """Make the folder and the one for overlays in it, which is returned."""
    overlays = folder / "overlays"
    overlays.mkdir(parents=True, exist_ok=True)
    return overlays


class Picture:
    """A copy of an image, uint8 [H, W, 3], to draw on; where something is drawn is said in the image's pixels."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        height, width = image.shape[:2]
        self._factor = max(1, math.ceil(SMALLEST / max(height, width)))
        size = width * self._factor, height * self._factor
        self._canvas = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
        self._line = max(2, round(max(size) / 200))
        self._font = ImageFont.load_default(max(11, max(size) // 50))

    def blend(self, colours: NDArray[Any], weights: NDArray[np.floating]) -> None:
        """Mix in ``colours``, uint8 [H, W, 3] or one [3], by their ``weights`` in [0, 1], [H, W]."""
        if colours.ndim == 3:
            colours = self._enlarged(colours)
        self._mix(colours, self._enlarged(weights))

    def tint(self, regions: NDArray[np.integer], colours: Sequence[Colour]) -> None:
        """Fill regions translucently and outline them: region i of ``regions`` [H, W] in colour i, -1 not at all."""
        large = self._enlarged(regions)
        weights = np.where(_borders(large, (self._line + 1) // 2), 1.0, _FILL) * (large >= 0)
        self._mix(np.array([*colours, _BLACK], dtype=np.uint8)[large], weights)

    def box(self, box: NDArray[np.float32], text: str, colour: Colour) -> None:
        """Draw a box, x1 y1 x2 y2, and text at its upper left corner."""
        x1, y1, x2, y2 = (float(value) * self._factor for value in box)
        ImageDraw.Draw(self._canvas).rectangle((x1, y1, x2, y2), outline=colour, width=self._line)
        height = self._extent(text)[1]
        self._tag(x1, y1 - height if y1 >= height else y1, text, colour)

    def names(self, regions: NDArray[np.integer], names: Sequence[str], colours: Sequence[Colour]) -> None:
        """Write the names of ``regions`` (as in ``tint``) that cover a hundredth of the image or more into them."""
        for region in range(len(names)):
            rows, columns = np.nonzero(regions == region)
            if len(rows) * 100 >= regions.size:
                middle = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
                width, height = self._extent(names[region])
                x, y = (float(place[middle] + 0.5) * self._factor for place in (columns, rows))
                self._tag(x - width / 2, y - height / 2, names[region], colours[region])

    def skeleton(self, keypoints: NDArray[np.float32], colour: Colour) -> None:
        """Draw a person's keypoints, [17, 3], and what connects them; those of visibility 0 are left out."""
        draw = ImageDraw.Draw(self._canvas)
        points = [(float(x) * self._factor, float(y) * self._factor) for x, y, _ in keypoints]
        known = keypoints[:, 2] > 0
        for start, end in SKELETON:
            if known[start] and known[end]:
                draw.line((points[start], points[end]), fill=colour, width=self._line)
        for x, y in (points[index] for index in np.flatnonzero(known)):
            radius = self._line + 1
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_WHITE, outline=colour, width=2)

    def legend(self, entries: Sequence[tuple[str, Colour]]) -> None:
        """Add a strip below the image that names colours."""
        sizes = [self._extent(name) for name, _ in entries]
        step = max((height for _, height in sizes), default=0)
        places, x, y = [], 0, self._canvas.height
        for width, _ in sizes:
            if x > 0 and x + step + width > self._canvas.width:
                x, y = 0, y + step
            places.append((x, y))
            x += step + width + _PADDING
        widest = max((step + width for width, _ in sizes), default=0)
        self._extend(widest, y + step)
        draw = ImageDraw.Draw(self._canvas)
        for (name, colour), (left, top) in zip(entries, places, strict=True):
            draw.rectangle((left + 2, top + 2, left + step - 3, top + step - 3), fill=colour, outline=_BLACK)
            draw.text((left + step + _PADDING, top + _PADDING), name, fill=_BLACK, font=self._font)

    def note(self, text: str) -> None:
        """Add a strip below the image with the text."""
        width, height = self._extent(text)
        place = _PADDING, self._canvas.height + _PADDING
        self._extend(width, self._canvas.height + height)
        ImageDraw.Draw(self._canvas).text(place, text, fill=_BLACK, font=self._font)

    def save(self, path: Path) -> None:
        """Write the picture as it is now."""
        self._canvas.save(path)

    def _extend(self, width: int, height: int) -> None:
        """White to the right and below, up to a size that is at least this wide."""
        extended = Image.new("RGB", (max(self._canvas.width, width), height), _WHITE)
        extended.paste(self._canvas)
        self._canvas = extended

    def _enlarged(self, values: NDArray[Any]) -> NDArray[Any]:
        return values.repeat(self._factor, axis=0).repeat(self._factor, axis=1)

    def _mix(self, colours: NDArray[Any], weights: NDArray[np.floating]) -> None:
        below = np.asarray(self._canvas).astype(np.float32)
        mixed = below + (colours - below) * weights[..., None]
        self._canvas = Image.fromarray(np.rint(mixed).astype(np.uint8))

    def _tag(self, left: float, top: float, text: str, colour: Colour) -> None:
        """Write text on a ground of the colour, moved so that the picture holds it."""
        width, height = self._extent(text)
        left = max(0, min(left, self._canvas.width - width))
        top = max(0, min(top, self._canvas.height - height))
        draw = ImageDraw.Draw(self._canvas)
        draw.rectangle((left, top, left + width, top + height), fill=colour)
        draw.text((left + _PADDING, top + _PADDING), text, fill=_readable_on(colour), font=self._font)

    def _extent(self, text: str) -> tuple[int, int]:
        """Width and height of the text and the padding around it."""
        bottom = self._font.getbbox("Ag")[3]
        return math.ceil(self._font.getlength(text)) + 2 * _PADDING, math.ceil(bottom) + 2 * _PADDING


def _borders(regions: NDArray[np.integer], width: int) -> NDArray[np.bool_]:
    """Pixels closer than ``width`` to one of another region along rows or columns."""
    borders = np.zeros(regions.shape, dtype=bool)
    for step in range(1, width + 1):
        rows = regions[step:] != regions[:-step]
        columns = regions[:, step:] != regions[:, :-step]
        for side in (slice(step, None), slice(None, -step)):
            borders[side] |= rows
            borders[:, side] |= columns
    return borders


def _readable_on(colour: Colour) -> Colour:
    """Black or white."""
    red, green, blue = colour
    return _BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else _WHITE
