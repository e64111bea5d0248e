"""What other sensors make of a composed scene: coarse pixels, heights, shaded relief, radar, noisy land cover."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .pool import Layer
from .textures import smooth_noise

Image = NDArray[np.uint8]
Gray = NDArray[np.floating]

COARSENINGS = (2, 3, 4)


def coarsened(
    image: Image, layers: Sequence[Layer], rng: np.random.Generator, factor: int | None = None
) -> tuple[Image, list[Layer]]:
    """Reduce a scene to pixels of ``factor`` times the size, so that its smaller things are a few mixed pixels wide.

    Sampling enlarges it again, as the plugin does with ten-metre imagery.

    Args:
        image: (S, S, 3).
        layers: kinds and (S, S) label maps.
        rng: random generator.
        factor: 2 to 4; drawn if None.

    Returns:
        Image and layers of S // factor pixels a side. A label is that of most of its pixel's centre.
    """
    by = int(rng.choice(COARSENINGS)) if factor is None else factor
    side = image.shape[0] // by
    part = image[: side * by, : side * by].astype(np.float32)
    mixed = part.reshape(side, by, side, by, 3).mean(axis=(1, 3))
    mixed += rng.normal(0, rng.uniform(0, 5), mixed.shape) + rng.normal(0, rng.uniform(0, 4), (side, side, 1))
    centre = slice(by // 2, side * by, by)
    return np.clip(mixed, 0, 255).astype(np.uint8), [(kind, labels[centre, centre]) for kind, labels in layers]


def heights(ground: NDArray[np.uint16], objects: NDArray[np.uint16], rng: np.random.Generator) -> Gray:
    """Return (S, S) heights: a rolling ground with low steps from part to part, on it flat-topped and domed things."""
    size = ground.shape[0]
    relief = smooth_noise(rng, size, float(rng.uniform(1, 6))) * rng.uniform(0, 0.12)
    steps = rng.uniform(0, rng.uniform(0.02, 0.25), int(ground.max()) + 1)
    surface = relief + steps[ground]
    count = int(objects.max()) + 1
    tops = rng.uniform(0.25, 1.0, count)
    tops[0] = 0.0
    domed = rng.random(count) < rng.choice([0.1, 0.5, 0.9])
    depth = ndimage.distance_transform_edt(objects > 0)
    deepest = ndimage.maximum(depth, objects, np.arange(count))
    share = np.clip(depth / np.maximum(np.asarray(deepest)[objects], 1e-6), 0, 1)
    shape = np.where(domed[objects], np.sqrt(share), 1.0)
    surface = surface + tops[objects] * shape
    surface = surface + rng.normal(0, rng.uniform(0, 0.04), surface.shape)
    return np.asarray(ndimage.gaussian_filter(surface, rng.uniform(0.3, 1.2)))


def shaded(surface: Gray, rng: np.random.Generator) -> Gray:
    """Return the relief of an (S, S) surface lit from one side."""
    rows, columns = np.gradient(surface * rng.uniform(10, 60))
    azimuth, altitude = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(25, 60))
    facing = np.sin(altitude) - np.cos(altitude) * (rows * np.sin(azimuth) + columns * np.cos(azimuth))
    return np.asarray(facing / np.sqrt(1 + rows**2 + columns**2))


def backscatter(regions: NDArray[np.integer], rng: np.random.Generator) -> Gray:
    """Return an (S, S) radar image in which every region has its own mean and the speckle of a few looks."""
    means = np.exp(rng.normal(0, rng.uniform(0.4, 1.2), int(regions.max()) + 1))
    looks = float(np.exp(rng.uniform(np.log(2), np.log(30))))
    speckle = rng.gamma(looks, 1 / looks, regions.shape)
    speckle = ndimage.gaussian_filter(speckle, rng.uniform(0, 1.0))
    return np.asarray(np.log(means[regions] * np.maximum(speckle, 1e-3)))


def noisy_cover(regions: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.floating]:
    """Return an (S, S, 3) image of regions whose insides vary about as much as they differ from one another."""
    size, count = regions.shape[0], int(regions.max()) + 1
    colours = rng.uniform(60, 190, 3) + rng.normal(0, rng.uniform(12, 40), (count, 3))
    grain = float(rng.uniform(6, 26))
    noise = np.zeros((size, size, 3))
    for cells in np.exp(rng.uniform(np.log(6), np.log(size / 3), 3)):
        noise += smooth_noise(rng, size, float(cells))[..., None] * rng.normal(1, 0.4, 3) * grain / 2
    noise += rng.normal(0, grain / 3, noise.shape)
    return np.asarray(colours[regions] + noise)


def as_gray_image(values: Gray, rng: np.random.Generator) -> Image:
    """Stretch (S, S) values between two quantiles to an (S, S, 3) gray image."""
    tail = float(rng.uniform(0.0, 0.03))
    low, high = np.quantile(values, (tail, 1 - tail))
    gray = np.clip((values - low) / max(float(high - low), 1e-6), 0, 1) ** float(np.exp(rng.uniform(-0.4, 0.4)))
    return np.repeat((255 * gray).astype(np.uint8)[..., None], 3, axis=2)


def resensed(image: Image, layers: Sequence[Layer], rng: np.random.Generator) -> tuple[Image, list[Layer]]:
    """Return a scene as one of the sensors above sees it.

    Args:
        image: (S, S, 3).
        layers: must have kinds ``cell`` and ``object``.
        rng: random generator.

    Returns:
        Image and layers, of the scene's size or a half to a quarter of it.
    """
    found = dict(layers)
    ground, objects = found["cell"], found["object"]
    way = rng.random()
    kept = list(layers)
    if way < 0.22:
        surface = heights(ground, objects, rng)
        image = as_gray_image(shaded(surface, rng) if rng.random() < 0.3 else surface, rng)
    elif way < 0.34:
        image = as_gray_image(backscatter(_together(ground, objects), rng), rng)
    elif way < 0.55:
        image = np.clip(noisy_cover(_together(ground, objects), rng), 0, 255).astype(np.uint8)
    else:
        return coarsened(image, kept, rng)
    return coarsened(image, kept, rng) if rng.random() < 0.6 else (image, kept)


def _together(ground: NDArray[np.uint16], objects: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Return one label map of both: objects over ground, numbers from 0."""
    return np.where(objects > 0, objects.astype(np.int64) + int(ground.max()), ground.astype(np.int64))
