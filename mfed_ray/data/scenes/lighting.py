"""Light and camera: shading from the normals, cast shadows, exposure, blur, noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from mfed_ray.data.scenes.arrays import Floats
from mfed_ray.data.scenes.render import Layer, Pose
from mfed_ray.data.scenes.surfaces import Backdrop


@dataclass(frozen=True)
class Light:
    """One distant light. ``direction``: unit vector towards it [3]; ``colour``, ``ambient``: linear RGB [3]."""

    direction: Floats
    colour: Floats
    ambient: Floats


def random_light(rng: np.random.Generator) -> Light:
    """From above and the viewer's side, warmer or cooler, harder or softer."""
    around, height = rng.uniform(-1.2, 1.2), rng.uniform(0.4, 1.1)
    direction = np.array([np.sin(around) * np.cos(height), np.sin(height), np.cos(around) * np.cos(height)], np.float32)
    warmth, hardness = rng.uniform(-0.12, 0.16), rng.uniform(0.4, 0.85)
    colour = np.array([1 + warmth, 1, 1 - warmth], np.float32) * np.float32(1.35 * hardness)
    ambient = np.array([1 - warmth / 2, 1, 1 + warmth / 2], np.float32) * np.float32(1.05 - hardness)
    return Light(direction, colour, ambient + np.float32(0.12))


def cast_shadows(placed: Sequence[tuple[Pose, Layer]], scenery: Backdrop, light: Light) -> Floats:
    """Factor [S, S] in (0, 1] that darkens the ground: each object's silhouette, sheared away from the light."""
    size = len(scenery.ground)
    shadow = np.zeros((size, size), np.float32)
    x, y, z = light.direction
    for pose, layer in placed:
        if pose.row < scenery.foot:
            continue  # it flies
        rows, columns = np.nonzero(layer.mask)
        height = pose.row - (rows + layer.window[0].start)
        to_row = (pose.row - height * z / y * np.sin(scenery.pitch)).astype(np.int32)
        to_column = (columns + layer.window[1].start - height * x / y).astype(np.int32)
        inside = (to_row >= 0) & (to_row < size) & (to_column >= 0) & (to_column < size)
        shadow[to_row[inside], to_column[inside]] = 1
    soft = gaussian_filter(shadow, size / 120, mode="nearest")
    depth = light.colour.mean() / (light.colour.mean() + light.ambient.mean())
    factor: Floats = 1 - np.float32(0.9 * depth) * np.clip(1.4 * soft, 0, 1) * scenery.ground
    return factor


def photograph(
    rng: np.random.Generator, albedo: Floats, normals: Floats, gloss: Floats, light: Light
) -> NDArray[np.uint8]:
    """The shaded scene, averaged over 2 x 2 pixels: uint8 [S / 2, S / 2, 3], sRGB-like."""
    radiance = _shade(albedo, normals, gloss, light)
    sigma = float(rng.choice([0.0, 0.5, 0.9, 1.4], p=[0.3, 0.35, 0.25, 0.1]))
    radiance = gaussian_filter(radiance, (sigma, sigma, 0), mode="nearest", truncate=3) if sigma else radiance
    size = radiance.shape[0] // 2
    coarse = radiance.reshape(size, 2, size, 2, 3).mean(axis=(1, 3))
    coarse *= np.float32(rng.uniform(0.75, 1.25)) * _vignette(rng, size)[:, :, None]
    display = np.clip(coarse, 0, 1) ** np.float32(1 / 1.6)
    grain = rng.standard_normal(display.shape, dtype=np.float32) * np.float32(rng.uniform(0.006, 0.03))
    picture: NDArray[np.uint8] = (np.clip(display + grain, 0, 1) * 255 + 0.5).astype(np.uint8)
    return picture


def _shade(albedo: Floats, normals: Floats, gloss: Floats, light: Light) -> Floats:
    """Lambert plus hemispheric ambient plus Blinn highlights; pixels without a normal (sky) shine by themselves."""
    diffuse = np.maximum(normals @ light.direction, 0)[:, :, None] * light.colour
    ambient = (0.8 + 0.2 * normals[:, :, 1:2]) * light.ambient
    half = light.direction + np.array([0, 0, 1], np.float32)
    shine = np.maximum(normals @ (half / np.linalg.norm(half)), 0) ** 24 * gloss
    lit = albedo * (diffuse + ambient) + (0.6 * shine)[:, :, None] * light.colour
    sky = ~normals.any(axis=2)
    lit[sky] = albedo[sky]
    shaded: Floats = lit.astype(np.float32)
    return shaded


def _vignette(rng: np.random.Generator, size: int) -> Floats:
    axis = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    fall: Floats = 1 - np.float32(rng.uniform(0, 0.2)) * (axis[:, None] + axis) / 2
    return fall
