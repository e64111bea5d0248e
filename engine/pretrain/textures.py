"""Ground textures for composed scenes: cut from images, or made up, in any colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .pack import Entry


def smooth_noise(rng: np.random.Generator, size: int, cells: float) -> NDArray[np.float32]:
    """Return (S, S) noise of mean 0 and deviation 1 with about ``cells`` bumps along a side."""
    coarse = max(int(np.ceil(cells)) + 3, 4)
    step = (coarse - 3) / size
    axis = rng.uniform(0, 1) + 1 + np.arange(size) * step
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"))
    noise = ndimage.map_coordinates(rng.standard_normal((coarse, coarse)), grid, order=2, mode="reflect")
    return ((noise - noise.mean()) / max(float(noise.std()), 1e-6)).astype(np.float32)


class TextureBank:
    """Gives square textures and plausible colours, drawn from packed images."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        """Use the images of these entries."""
        self._entries = list(entries)

    def colour(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return a colour (3,) in 0 to 255: a small patch's mean somewhere in the images, now and then any colour."""
        if rng.random() < 0.06:
            return rng.uniform(10, 245, 3).astype(np.float32)
        image = self._entries[int(rng.integers(len(self._entries)))].image
        row, column = (int(rng.integers(max(length - 6, 1))) for length in image.shape[:2])
        return np.asarray(image[row : row + 6, column : column + 6], np.float32).mean(axis=(0, 1))

    def patch(self, rng: np.random.Generator, size: int) -> NDArray[np.float32]:
        """Return an (S, S, 3) float32 piece of an image, mirrored where the piece is smaller than ``size``."""
        image = self._entries[int(rng.integers(len(self._entries)))].image
        side = int(min(rng.choice([24, 40, 64, 120, 200]), *image.shape[:2]))
        row, column = (int(rng.integers(length - side + 1)) for length in image.shape[:2])
        piece = np.asarray(image[row : row + side, column : column + side], np.float32)
        repeats = -(-size // side)
        index = np.concatenate([np.arange(side) if turn % 2 == 0 else np.arange(side)[::-1] for turn in range(repeats)])
        shift = int(rng.integers(side))
        index = np.roll(index, shift)[:size]
        texture = piece[index][:, index]
        return np.ascontiguousarray(np.rot90(texture, int(rng.integers(4))))

    def texture(self, rng: np.random.Generator, size: int, colour: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an (S, S, 3) float32 texture around a colour: cut, made up, with or without rows.

        Args:
            rng: random generator.
            size: side in pixels.
            colour: (3,) mean.
        """
        way = rng.random()
        if way < 0.4:
            # The calmest of a few: a texture should look like one material, not like a street.
            piece = min((self.patch(rng, size) for _ in range(3)), key=lambda found: float(found[::4, ::4].std()))
            contrast = float(np.exp(rng.normal(-0.4, 0.4)))
            relief = (piece - piece.mean(axis=(0, 1))) * contrast
        else:
            relief = np.zeros((size, size, 3), np.float32)
            for _ in range(int(rng.integers(1, 4))):
                cells = size / float(np.exp(rng.uniform(np.log(2), np.log(size / 2))))
                tint = rng.normal(1, 0.3, 3)
                relief += smooth_noise(rng, size, cells)[..., None] * tint * float(np.exp(rng.uniform(-0.5, 2.3)))
        if rng.random() < 0.3:
            relief = relief + self._rows(rng, size)[..., None] * rng.normal(1, 0.3, 3)
        return (colour + relief).astype(np.float32)

    @staticmethod
    def _rows(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
        """Return (S, S) parallel stripes: crop rows, tramlines, ploughing."""
        angle, period = rng.uniform(0, np.pi), float(np.exp(rng.uniform(np.log(2.5), np.log(24))))
        axis = np.arange(size)
        along = axis[:, None] * np.sin(angle) + axis[None, :] * np.cos(angle)
        wave = np.sin(2 * np.pi * along / period + rng.uniform(0, 6))
        if rng.random() < 0.3:
            wave = (wave > 0.8).astype(float)
        return (wave * np.exp(rng.uniform(0.5, 3.0))).astype(np.float32)
