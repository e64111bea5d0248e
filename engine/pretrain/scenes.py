"""Composed scenes with exact masks: a ground, ways and waters through it, things on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from .canvas import Canvas
from .pack import Entry, write_entry
from .partitions import partition
from .pool import Layer, components
from .sensors import resensed
from .textures import TextureBank
from .things import add_buildings, add_crowns, add_pasted, add_rounds, add_vehicles, ragged

SIZE = 512
RESENSED = 0.35
"""Share of scenes that another sensor sees; they are the set ``sensors`` of the pack, the others ``scenes``."""


class Composer:
    """Makes scenes out of the textures and objects of packed images."""

    def __init__(self, entries: Sequence[Entry], donors: Sequence[Entry]) -> None:
        """Take textures from some images, and whole objects from images whose first layer has instances."""
        self._entries = list(entries)
        self._bank = TextureBank(entries)
        self._donors = list(donors)

    def write(self, folder: Path, number: int, seed: int) -> None:
        """Compose scene ``number`` of a seed and add it to a pack, now and then as another sensor would see it."""
        rng = np.random.default_rng([seed, 3, number])
        image, layers = self.compose(rng)
        source = "scenes"
        if rng.random() < RESENSED:
            source = "sensors"
            image, layers = resensed(image, layers, rng)
        write_entry(folder, f"scene-{number:06d}", source, image, layers)

    def compose(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], list[Layer]]:
        """Return a scene: (S, S, 3) uint8 and its label layers."""
        canvas, classes = self._ground(rng)
        before = canvas.ground.copy()
        if rng.random() < 0.3:
            self._add_ways(canvas, rng)
        if rng.random() < 0.2:
            self._add_patches(canvas, rng)
        makers = [add_buildings, add_crowns, add_vehicles, add_rounds]
        bare = rng.random() < 0.3
        for maker, chance in zip(makers, (0.5, 0.35, 0.25, 0.2), strict=True):
            if not bare and rng.random() < chance:
                maker(canvas, rng, self._bank)
        if not bare and self._donors and rng.random() < 0.25:
            add_pasted(canvas, rng, self._donors)
        classes[canvas.ground != before] = 0
        image: NDArray[np.floating] = canvas.image
        if rng.random() < 0.6:
            sigma = float(rng.uniform(0.3, 0.9))
            image = ndimage.gaussian_filter(image, (sigma, sigma, 0))
        image = image + rng.normal(0, rng.uniform(0, 4), image.shape)
        layers = [("cell", canvas.ground), ("object", canvas.objects), ("class", classes)]
        return np.clip(image, 0, 255).astype(np.uint8), [(kind, _large(labels)) for kind, labels in layers]

    def _ground(self, rng: np.random.Generator) -> tuple[Canvas, NDArray[np.uint16]]:
        """Begin with a mosaic or, now and then, with a piece of an image that is labelled by nobody."""
        if rng.random() < 0.2:
            nothing = np.zeros((SIZE, SIZE), np.uint16)
            return Canvas(rng, self._bank.patch(rng, SIZE), nothing), nothing.copy()
        cells = partition(rng, SIZE)
        count = int(cells.max()) + 1
        kinds = int(rng.integers(2, 9))
        kind_of = rng.integers(0, kinds, count)
        if count <= 8:  # a land-cover mosaic: every class has its own texture
            kind_of, kinds = np.arange(count), count
        base, spread = self._bank.colour(rng), float(rng.choice([0.15, 0.35, 0.7, 1.0]))
        textures = [
            self._bank.texture(rng, SIZE, base + spread * (self._bank.colour(rng) - base)) for _ in range(kinds)
        ]
        kind_map = kind_of[cells]
        image = np.choose(kind_map[..., None], textures)
        tint = float(rng.choice([0.0, 4.0, 9.0, 16.0]))
        tints = rng.normal(0, tint, (count, 1)) + rng.normal(0, tint / 3, (count, 3))
        image = (image + tints[cells]).astype(np.float32)
        parts = cells if tint else kind_map.astype(np.int32)
        labels = measure.label(parts + 1, connectivity=1)  # type: ignore[no-untyped-call]
        if rng.random() < 0.4:
            image, labels = self._bounded(rng, image, cells, parts)
        classes = (kind_map + 1).astype(np.uint16)
        return Canvas(rng, image, _compact(labels)), classes

    def _bounded(
        self,
        rng: np.random.Generator,
        image: NDArray[np.float32],
        cells: NDArray[np.int32],
        parts: NDArray[np.int32],
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Draw paths, hedges or ditches between the cells; they belong to no cell."""
        edge = np.zeros(cells.shape, np.bool_)
        edge[1:] |= cells[1:] != cells[:-1]
        edge[:, 1:] |= cells[:, 1:] != cells[:, :-1]
        width = int(rng.choice([0, 1, 2, 3]))
        if width:
            edge = ndimage.binary_dilation(edge, iterations=width)
        if rng.random() < 0.3:  # only here and there, so only what else differs is a cell of its own
            cells = parts
            edge &= ragged(rng, cells.shape[0], 0.7)
        texture = self._bank.texture(rng, cells.shape[0], self._bank.colour(rng))
        strength = float(rng.uniform(0.3, 1.0))
        image[edge] = image[edge] * (1 - strength) + texture[edge] * strength
        labels = measure.label(cells + 1, connectivity=1)  # type: ignore[no-untyped-call]
        return image, np.where(edge, 0, labels) if width else labels

    def _add_ways(self, canvas: Canvas, rng: np.random.Generator) -> None:
        """Roads, tracks, canals and rivers: winding bands of changing or constant width; each network is one object."""
        for _ in range(int(rng.integers(1, 3))):
            width = float(np.exp(rng.uniform(np.log(3), np.log(70))))
            band = np.zeros(canvas.ground.shape, np.bool_)
            lines = int(rng.integers(1, 5)) if width < 20 else 1
            core = np.zeros_like(band)
            for _ in range(lines):
                line = _winding(rng, canvas.size, float(rng.choice([0.0, 0.02, 0.06, 0.15])))
                distance = ndimage.distance_transform_edt(~line)
                band |= distance <= width / 2
                core |= distance <= max(width / 16, 0.6)
            texture = self._bank.texture(rng, canvas.size, self._bank.colour(rng))
            canvas.paint(band, texture)
            if width > 8 and rng.random() < 0.4:
                canvas.image[core & band] = rng.choice([40.0, 200.0, 235.0])

    def _add_patches(self, canvas: Canvas, rng: np.random.Generator) -> None:
        """Ponds, lakes, woods, burnt or bare patches: each connected patch is one object."""
        parts = components(ragged(rng, canvas.size, float(rng.uniform(0.04, 0.4))))
        texture = self._bank.texture(rng, canvas.size, self._bank.colour(rng))
        for number in range(1, int(parts.max()) + 1):
            canvas.paint(parts == number, texture)


def _winding(rng: np.random.Generator, size: int, bend: float) -> NDArray[np.bool_]:
    """Return an (S, S) mask of a line that enters at one side and winds across."""
    heading = rng.uniform(0, 2 * np.pi)
    place = size / 2 + rng.uniform(-0.4, 0.4, 2) * size - 0.8 * size * np.array([np.sin(heading), np.cos(heading)])
    turns = ndimage.gaussian_filter1d(rng.standard_normal(int(2.2 * size)), 12) * 7 * bend
    headings = heading + np.cumsum(turns) - 0.5 * np.sum(turns) / 2
    path = place + np.cumsum(np.stack([np.sin(headings), np.cos(headings)], axis=1), axis=0)
    inside = ((path >= 0) & (path < size)).all(axis=1)
    mask = np.zeros((size, size), np.bool_)
    cells = path[inside].astype(int)
    mask[cells[:, 0], cells[:, 1]] = True
    if not mask.any():
        mask[size // 2] = True
    return mask


def _compact(labels: NDArray[np.int64]) -> NDArray[np.uint16]:
    _, numbers = np.unique(labels, return_inverse=True)
    shift = 0 if (labels == 0).any() else 1
    return (numbers.reshape(labels.shape) + shift).astype(np.uint16)


def _large(labels: NDArray[np.uint16], smallest: int = 25) -> NDArray[np.uint16]:
    """Drop labels of fewer pixels than ``smallest``."""
    sizes = np.bincount(labels.ravel())
    return np.where(sizes[labels] >= smallest, labels, 0).astype(np.uint16)
