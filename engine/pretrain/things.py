"""Things in a composed scene: buildings, crowns, vehicles, tanks, and objects cut from labelled images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from .canvas import Canvas, Window
from .pack import Entry
from .textures import TextureBank, smooth_noise


def add_buildings(canvas: Canvas, rng: np.random.Generator, bank: TextureBank) -> None:
    """Houses or halls with roofs of one to four tones, shadows, and now and then a colour close to the ground's."""
    scale = float(np.exp(rng.uniform(np.log(9), np.log(80))))
    count = int(min(int(rng.integers(3, 70)), (0.45 * canvas.size / scale) ** 2 + 3))
    heading, grid = rng.uniform(0, np.pi), rng.random() < 0.7
    roof = bank.colour(rng)
    shapes: list[tuple[Window, NDArray[np.bool_]]] = []
    taken = np.zeros_like(canvas.objects, np.bool_)
    for _ in range(count):
        centre = rng.uniform(0, canvas.size, 2)
        angle = heading + rng.choice([0, np.pi / 2]) + rng.normal(0, 0.03) if grid else rng.uniform(0, np.pi)
        half = scale * np.exp(rng.normal(0, 0.3, 2)) / 2 * np.array([1, rng.uniform(0.5, 1.2)])
        window = canvas.window(centre, float(np.hypot(*half)) + 2, angle)
        mask = _footprint(window, half, rng)
        grown = ndimage.binary_dilation(mask, iterations=int(rng.integers(1, 3)))
        if canvas.free(window, mask) and not taken[window.at][grown].any() and mask.sum() > 25:
            taken[window.at] |= mask
            shapes.append((window, mask))
    canvas.shadow(taken, scale * float(rng.uniform(0.0, 0.6)))
    mixed = rng.random() < 0.6
    for window, mask in shapes:
        colour = bank.colour(rng) if mixed else roof + rng.normal(0, 8)
        if rng.random() < 0.25:
            around = canvas.image[window.at][~mask]
            colour = 0.75 * around.mean(axis=0) + 0.25 * colour if len(around) else colour
        canvas.stamp(window, mask, _roof(window, mask, colour, rng, bank))


def _footprint(window: Window, half: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return a rectangle, or one with a corner or a bay missing (L, T, U shapes), or a round."""
    u, v = window.u, window.v
    inside = (np.abs(u) <= half[0]) & (np.abs(v) <= half[1])
    way = rng.random()
    if way < 0.05:
        return np.asarray(u**2 + v**2 <= half.min() ** 2)
    if way < 0.45:
        cut = half * rng.uniform(-0.2, 0.5, 2)
        inside &= ~((u > cut[0]) & (v > cut[1]))
    if way < 0.2:
        cut = half * rng.uniform(0.1, 0.6, 2)
        inside &= ~((u < -cut[0]) & (np.abs(v) < cut[1]))
    return inside


def _roof(
    window: Window,
    mask: NDArray[np.bool_],
    colour: NDArray[np.float32],
    rng: np.random.Generator,
    bank: TextureBank,
) -> NDArray[np.float32]:
    u, v = window.u, window.v
    tone = np.ones(mask.shape)
    relief = float(rng.uniform(0.04, 0.35))
    way = rng.random()
    if way < 0.45:  # gable: one half in the light
        tone += relief * np.sign(u + rng.normal(0, 0.5))
    elif way < 0.6:  # hip: four sides
        extent = np.abs(u[mask]).max() + 1e-6, np.abs(v[mask]).max() + 1e-6
        side = np.abs(u) / extent[0] > np.abs(v) / extent[1]
        tone += relief * np.where(side, np.sign(u), 0.5 * np.sign(v))
    elif way < 0.75:  # flat with a parapet
        tone[mask & ~ndimage.binary_erosion(mask, iterations=1)] += relief * rng.choice([-1, 1])
    if rng.random() < 0.4:
        tone += 0.06 * np.sign(np.sin(2 * np.pi * v / rng.uniform(2, 8)))
    colours = colour * tone[..., None]
    if rng.random() < 0.5:
        piece = bank.patch(rng, max(mask.shape))[: mask.shape[0], : mask.shape[1]]
        colours = colours + (piece - piece.mean(axis=(0, 1))) * rng.uniform(0.1, 0.5)
    for _ in range(int(rng.poisson(0.8))):  # chimneys, windows, panels
        place, reach = rng.uniform(-0.6, 0.6, 2) * (np.abs(u).max(), np.abs(v).max()), rng.uniform(1, 5, 2)
        box = (np.abs(u - place[0]) < reach[0]) & (np.abs(v - place[1]) < reach[1])
        colours[box] = colours[box] * rng.uniform(0.5, 1.5)
    colours += rng.normal(0, rng.uniform(0, 6), mask.shape)[..., None]
    return colours.astype(np.float32)


def add_crowns(canvas: Canvas, rng: np.random.Generator, bank: TextureBank) -> None:
    """Trees: round blobs lit from one side, alone, in rows or in clusters."""
    scale = float(np.exp(rng.uniform(np.log(4), np.log(34))))
    count = int(min(int(rng.integers(4, 120)), (0.6 * canvas.size / scale) ** 2))
    green = bank.colour(rng) if rng.random() < 0.4 else np.array([60, 85, 45]) * rng.uniform(0.4, 1.6)
    heart, spread = rng.uniform(0, canvas.size, 2), canvas.size * float(rng.choice([0.12, 0.3, 1.0]))
    placed: list[tuple[Window, NDArray[np.bool_], float]] = []
    taken = np.zeros_like(canvas.objects, np.bool_)
    rowed, heading = rng.random() < 0.3, rng.uniform(0, np.pi)
    for number in range(count):
        centre = heart + rng.normal(0, spread, 2)
        if rowed:
            along = np.array([np.sin(heading), np.cos(heading)])
            place = number % 12 * along + number // 12 * np.array([along[1], -along[0]])
            centre = heart + (place - 4) * scale * 2.6 + rng.normal(0, 1, 2)
        radius = scale * float(np.exp(rng.normal(0, 0.25)))
        window = canvas.window(centre, 1.4 * radius + 2)
        if window.u.size < 9:
            continue
        bearing = np.arctan2(window.u, window.v)
        waves = sum(rng.normal(0, 0.09) * np.sin(k * bearing + rng.uniform(0, 6)) for k in (2, 3, 5, 7))
        mask = np.hypot(window.u, window.v) <= radius * (1 + waves)
        if mask.sum() > 12 and canvas.free(window, mask):
            apart = mask & ~taken[window.at]
            if apart.sum() > 0.7 * mask.sum():
                taken[window.at] |= mask
                placed.append((window, apart, radius))
    canvas.shadow(taken, scale * float(rng.uniform(0.2, 1.2)))
    for window, mask, radius in placed:
        lit = 1 - 0.4 * (window.u * canvas.sun[0] + window.v * canvas.sun[1]) / radius
        grain = 1 + rng.uniform(0.03, 0.2) * rng.standard_normal(mask.shape)
        tint = green * np.exp(rng.normal(0, 0.1)) + rng.normal(0, 5, 3)
        canvas.stamp(window, mask, (tint * (lit * grain)[..., None]).astype(np.float32))


def add_vehicles(canvas: Canvas, rng: np.random.Generator, bank: TextureBank) -> None:
    """Cars, lorries, boats: small oblongs with windows, parked in rows or scattered."""
    length = float(np.exp(rng.uniform(np.log(7), np.log(34))))
    heading, heart = rng.uniform(0, np.pi), rng.uniform(0.15, 0.85, 2) * canvas.size
    rowed = rng.random() < 0.5
    across = np.array([np.sin(heading), np.cos(heading)])
    for number in range(int(rng.integers(2, 30))):
        half = np.array([length * rng.uniform(0.17, 0.24), length * rng.uniform(0.42, 0.55)])
        centre = rng.uniform(0, canvas.size, 2)
        angle = heading + rng.normal(0, 0.05) if rowed else rng.uniform(0, np.pi)
        if rowed:
            centre = heart + across * (number - 6) * length * 0.6 + rng.normal(0, 0.3, 2)
        window = canvas.window(centre, length * 0.7 + 2, -angle if rowed else angle)
        u, v = np.abs(window.u) / half[0], np.abs(window.v) / half[1]
        mask = (u**4 + v**4) <= 1
        if not mask.any() or not canvas.free(window, mask):
            continue
        colour = bank.colour(rng) if rng.random() < 0.4 else np.full(3, rng.choice([25, 90, 150, 235, 250]))
        colours = np.broadcast_to(colour, (*mask.shape, 3)).astype(np.float32).copy()
        colours[(np.abs(v - 0.45) < 0.15) & (u < 0.8)] *= 0.45
        canvas.stamp(window, mask, colours)


def add_rounds(canvas: Canvas, rng: np.random.Generator, bank: TextureBank) -> None:
    """Tanks, silos, pools, roundabouts and courts: clean circles and lined oblongs."""
    scale = float(np.exp(rng.uniform(np.log(6), np.log(60))))
    taken = np.zeros_like(canvas.objects, np.bool_)
    placed = []
    for _ in range(int(rng.integers(1, 14))):
        radius = scale * float(np.exp(rng.normal(0, 0.15)))
        window = canvas.window(rng.uniform(0, canvas.size, 2), 1.6 * radius + 2, rng.uniform(0, np.pi))
        mask = np.hypot(window.u, window.v) <= radius
        if rng.random() < 0.3:
            mask = (np.abs(window.u) <= radius * 0.6) & (np.abs(window.v) <= 1.2 * radius)
        if mask.sum() > 25 and canvas.free(window, mask) and not taken[window.at][mask].any():
            taken[window.at] |= mask
            placed.append((window, mask, radius))
    canvas.shadow(taken, scale * float(rng.uniform(0.0, 0.5)))
    for window, mask, radius in placed:
        lit = 1 - rng.uniform(0, 0.25) * (window.u * canvas.sun[0] + window.v * canvas.sun[1]) / radius
        colours = bank.colour(rng) * lit[..., None]
        if rng.random() < 0.4:  # court lines, a tank's rim
            rim = ndimage.binary_erosion(mask, iterations=2) & ~ndimage.binary_erosion(mask, iterations=3)
            colours[rim] = rng.choice([30.0, 240.0])
        canvas.stamp(window, mask, colours.astype(np.float32))


def add_pasted(canvas: Canvas, rng: np.random.Generator, donors: Sequence[Entry]) -> None:
    """Objects cut from images with instance labels, resized, turned and blended in."""
    for _ in range(int(rng.integers(2, 12))):
        piece = _cut_out(donors[int(rng.integers(len(donors)))], rng)
        if piece is None:
            continue
        pixels, mask = piece
        height, width = mask.shape
        if max(height, width) >= canvas.size:
            continue
        row, column = int(rng.integers(canvas.size - height)), int(rng.integers(canvas.size - width))
        window = Window((slice(row, row + height), slice(column, column + width)), np.zeros((1, 1)), np.zeros((1, 1)))
        if canvas.free(window, mask):
            canvas.stamp(window, mask, pixels * float(np.exp(rng.normal(0, 0.15))))


def _cut_out(entry: Entry, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    labels = np.asarray(entry.labels[0])
    numbers = np.unique(labels)[1:]
    if not len(numbers):
        return None
    mask = labels == rng.choice(numbers)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (slice(max(rows[0] - 2, 0), rows[-1] + 3), slice(max(columns[0] - 2, 0), columns[-1] + 3))
    mask, pixels = np.rot90(mask[box], turn := int(rng.integers(4))), np.rot90(entry.image[box], turn)
    side = float(np.exp(rng.uniform(np.log(14), np.log(170))))
    factor = min(side / max(mask.shape), 3.0)
    shape = tuple(max(round(length * factor), 4) for length in mask.shape)
    stacked = np.concatenate([pixels, mask[..., None] * 255], axis=2).astype(np.float32)
    resized = functional.interpolate(
        torch.from_numpy(stacked).permute(2, 0, 1)[None], shape, mode="bilinear", antialias=True
    )[0].permute(1, 2, 0)
    inside = resized[..., 3].numpy() > 127
    return (resized[..., :3].numpy(), inside) if inside.sum() > 25 else None


def ragged(rng: np.random.Generator, size: int, share: float) -> NDArray[np.bool_]:
    """Return an (S, S) mask of blobs (ponds, burnt patches, clearings) that covers about ``share``."""
    noise = smooth_noise(rng, size, float(np.exp(rng.uniform(np.log(2), np.log(14)))))
    noise = noise + rng.choice([0.0, 0.15, 0.35]) * smooth_noise(rng, size, 40.0)
    return noise > np.quantile(noise, 1 - share)
