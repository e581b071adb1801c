"""Materials: procedural colour patterns over the surface of solids and backgrounds."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from mfed_ray.data.scenes.arrays import Floats

Colour = tuple[float, float, float]
Pattern = Literal["plain", "stripes", "checks", "spots", "patches", "grain", "wool", "bricks", "foliage", "panes"]

_TILE = 256
_TAU = 2 * math.pi


@dataclass(frozen=True)
class Material:
    """Two linear RGB colours in [0, 1] mixed by a pattern.

    ``frequency``: repeats per unit length; ``gloss``: strength of highlights, from 0; ``offset``: where the pattern
    starts, so that two objects of one material differ.
    """

    pattern: Pattern
    first: Colour
    second: Colour
    frequency: float = 4.0
    gloss: float = 0.0
    offset: tuple[float, float] = (0.0, 0.0)


@lru_cache(maxsize=1)
def noise_tile() -> Floats:
    """Periodic noise [256, 256] with a 1/f amplitude spectrum, mean 0, deviation 1; always the same."""
    white = np.random.default_rng(0).standard_normal((_TILE, _TILE))
    f = np.hypot(np.fft.fftfreq(_TILE)[:, None], np.fft.rfftfreq(_TILE))
    f[0, 0] = 1.0
    spectrum = np.fft.rfft2(white) / f**1.15
    spectrum[0, 0] = 0
    tile = np.fft.irfft2(spectrum, s=(_TILE, _TILE))
    periodic: Floats = (tile / tile.std()).astype(np.float32)
    return periodic


def noise(u: Floats, v: Floats) -> Floats:
    """The noise tile at (u, v), one tile per unit, repeated."""
    rows, columns = (np.floor(axis * _TILE).astype(np.int32) & (_TILE - 1) for axis in (v, u))
    values: Floats = noise_tile()[rows, columns]
    return values


def albedo(material: Material, u: Floats, v: Floats) -> Floats:
    """Linear RGB [n, 3] at surface coordinates u, v [n] (unit: the object's)."""
    u, v = u + np.float32(material.offset[0]), v + np.float32(material.offset[1])
    share = np.clip(_SHARES[material.pattern](material.frequency, u, v), 0, 1)[:, None]
    first, second = np.asarray(material.first, np.float32), np.asarray(material.second, np.float32)
    shade = 1 + np.float32(0.06) * noise(u * 1.7 + 0.3, v * 1.7)[:, None]
    mixed: Floats = ((first + (second - first) * share) * shade).astype(np.float32)
    return mixed


def _bricks(f: float, u: Floats, v: Floats) -> Floats:
    row = np.floor(v * f)
    along = u * f / 2 + 0.5 * (row % 2)
    mortar = (along % 1 < 0.06) | ((v * f) % 1 < 0.12)
    return np.where(mortar, 1, 0.18 + 0.2 * noise(np.floor(along) * 0.37, row * 0.21))


def _grain(f: float, u: Floats, v: Floats) -> Floats:
    rings = np.sin(_TAU * f * (v + 0.12 * noise(u * 0.15, v * 0.6)))
    return 0.5 + 0.5 * rings * (0.6 + 0.4 * noise(u * 0.3, v))


def _panes(f: float, u: Floats, v: Floats) -> Floats:
    frame = ((u * f) % 1 < 0.22) | ((v * f) % 1 < 0.3)
    return np.where(frame, 0, 0.85 + 0.15 * noise(u, v))


_SHARES: dict[Pattern, Callable[[float, Floats, Floats], Floats]] = {
    "plain": lambda _, u, v: 0.5 + 0.25 * noise(u, v),
    "stripes": lambda f, u, v: 0.5 + 2.5 * np.sin(_TAU * f * (v + 0.02 * noise(u, v))),
    "checks": lambda f, u, v: 0.5 + 4 * np.sin(_TAU * f * u) * np.sin(_TAU * f * v),
    "spots": lambda f, u, v: 4 * (np.cos(_TAU * f * u) + np.cos(_TAU * f * v) - 0.9),
    "patches": lambda f, u, v: 0.5 + 6 * (noise(u * f / 8, v * f / 8) - 0.1),
    "grain": _grain,
    "wool": lambda f, u, v: 0.5 + 0.45 * noise(u * f / 2, v * f / 2),
    "bricks": _bricks,
    "foliage": lambda f, u, v: 0.5 + 0.9 * noise(u * f / 3, v * f / 3),
    "panes": _panes,
}
"""Share of the second colour at (u, v), clipped to [0, 1], by pattern; the first argument is the frequency."""
