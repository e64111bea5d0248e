"""Radiometric variety: other sensors, seasons, haze, band combinations, noise; and images with nothing in them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional


def radiometric(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Change an image's radiometry as another sensor, product or stretch would.

    Args:
        image: (3, S, S) uint8.
        rng: random generator.

    Returns:
        (3, S, S) uint8.
    """
    x = image.float() / 255.0
    if rng.random() < 0.5:
        x = _other_bands(x, rng)
    if rng.random() < 0.5:
        x = x.clamp(0, 1) ** float(np.exp(rng.uniform(-0.6, 0.6)))
    if rng.random() < 0.15:
        veil = torch.tensor(rng.uniform(0.6, 1.0, 3), dtype=torch.float32)[:, None, None]
        x = x + (veil - x) * float(rng.uniform(0.1, 0.6))
    if rng.random() < 0.3:
        x = _stretched(x, rng)
    if rng.random() < 0.6:
        gain = torch.tensor(np.exp(rng.normal(0, 0.08, 3) + rng.normal(0, 0.2)), dtype=torch.float32)
        x = (x - 0.5) * gain[:, None, None] + 0.5 + float(rng.normal(0, 0.08))
    if rng.random() < 0.35:
        x = _softened(x, rng)
    if rng.random() < 0.3:
        noise = torch.from_numpy(rng.standard_normal(x.shape, np.float32)) * float(rng.uniform(0.005, 0.05))
        x = x * (1 + 2 * noise) if rng.random() < 0.2 else x + noise
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


def _other_bands(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    way = rng.random()
    if way < 0.2:  # one band, or a panchromatic sum
        weights = torch.tensor(rng.dirichlet((1.0, 1.0, 1.0)), dtype=torch.float32)
        return (weights[:, None, None] * x).sum(0, keepdim=True).expand(3, -1, -1)
    if way < 0.45:
        return x[torch.from_numpy(rng.permutation(3))]
    if way < 0.6:  # more or less saturated
        gray = x.mean(0, keepdim=True)
        return gray + (x - gray) * float(rng.uniform(0.0, 2.0))
    if way < 0.68:  # one band inverted, as infrared is to red over vegetation
        band = int(rng.integers(3))
        return torch.cat([x[:band], 1 - x[band : band + 1], x[band + 1 :]])
    mixing = torch.from_numpy(np.eye(3) + rng.normal(0, 0.25, (3, 3))).float()
    return torch.einsum("ij,jhw->ihw", mixing, x) + torch.from_numpy(rng.normal(0, 0.05, 3)).float()[:, None, None]


def _stretched(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    tail = float(rng.uniform(0.0, 0.03))
    flat = x.flatten(1)[:, ::7].sort(dim=1).values
    last = flat.shape[1] - 1
    low, high = flat[:, int(tail * last)], flat[:, int((1 - tail) * last)]
    if rng.random() < 0.5:
        low, high = low.min().expand(3), high.max().expand(3)
    return (x - low[:, None, None]) / (high - low).clamp_min(0.05)[:, None, None]


def _softened(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Lose detail, as an image enlarged from a coarser one has."""
    size = x.shape[-1]
    small = max(int(size / rng.uniform(1.2, 4.5)), 16)
    reduced = functional.interpolate(x[None], (small, small), mode="bilinear", antialias=True)
    way = "nearest" if rng.random() < 0.2 else "bicubic"
    return functional.interpolate(reduced, (size, size), mode=way)[0]


def textureless(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Return an (S, S, 3) uint8 image without any object: flat or a soft gradient, with or without noise."""
    coarse = rng.uniform(0, 1) * rng.normal(0, 12, (4, 4, 3))
    image = rng.uniform(0, 255, 3) + ndimage.zoom(coarse, (size / 4, size / 4, 1), order=1)
    image = image + rng.normal(0, 1, (size, size, 3)) * rng.choice([0.0, 2.0, 8.0])
    return np.clip(image, 0, 255).astype(np.uint8)
