"""The picture that a composed scene is painted on, with the label maps that belong to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


@dataclass(frozen=True)
class Window:
    """A square part of a canvas around a place, with its own coordinates.

    Attributes:
        at: row and column slices within the canvas.
        u: (h, w) distance along the place's own first axis, in pixels.
        v: (h, w) distance along its second axis.
    """

    at: tuple[slice, slice]
    u: NDArray[np.float64]
    v: NDArray[np.float64]


class Canvas:
    """Image, ground labels, object labels and the light of a scene.

    Attributes:
        image: (S, S, 3) float32, 0 to 255.
        ground: (S, S) uint16 label map of ground parts.
        objects: (S, S) uint16 label map of what stands on the ground.
        sun: (2,) direction of shadows, rows and columns, of length 1.
        shade: factor of light that shadows leave.
    """

    def __init__(self, rng: np.random.Generator, image: NDArray[np.float32], ground: NDArray[np.uint16]) -> None:
        """Begin with a ground."""
        self.image = image
        self.ground = ground
        self.objects = np.zeros(ground.shape, np.uint16)
        angle = rng.uniform(0, 2 * np.pi)
        self.sun = np.array([np.sin(angle), np.cos(angle)])
        self.shade = float(rng.uniform(0.3, 0.8))
        self._last = 0

    @property
    def size(self) -> int:
        """Side in pixels."""
        return int(self.ground.shape[0])

    def window(self, centre: NDArray[np.float64], radius: float, angle: float = 0.0) -> Window:
        """Return the part within ``radius`` of a place (row, column), with coordinates turned by ``angle``."""
        low = np.clip(np.floor(centre - radius), 0, self.size).astype(int)
        high = np.clip(np.ceil(centre + radius) + 1, 0, self.size).astype(int)
        rows = np.arange(low[0], high[0])[:, None] - centre[0]
        columns = np.arange(low[1], high[1])[None, :] - centre[1]
        cosine, sine = np.cos(angle), np.sin(angle)
        at = (slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1])))
        return Window(at, rows * cosine - columns * sine, rows * sine + columns * cosine)

    def free(self, window: Window, mask: NDArray[np.bool_]) -> bool:
        """Tell whether no object lies under a mask of a window, and at least half of the mask is on the canvas."""
        return bool(mask.any()) and not self.objects[window.at][mask].any()

    def shadow(self, mask: NDArray[np.bool_], length: float) -> None:
        """Darken where the objects of an (S, S) mask throw their shadow (not under the objects themselves)."""
        thrown = np.zeros_like(mask)
        for step in np.arange(1.0, length + 1.0, 1.0):
            thrown |= ndimage.shift(mask, self.sun * step, order=0, mode="constant", cval=False)
        soft = ndimage.uniform_filter(thrown.astype(np.float32), 2) * ~mask
        self.image *= (1 - (1 - self.shade) * soft)[..., None]

    def stamp(self, window: Window, mask: NDArray[np.bool_], colours: NDArray[np.float32], *, number: int = 0) -> int:
        """Paint a mask of a window and give it a label.

        Args:
            window: where.
            mask: (h, w) of the window.
            colours: (h, w, 3) or (3,) what to paint.
            number: an earlier stamp's number, to make this one part of the same object; 0 for a new object.

        Returns:
            The object's number.
        """
        if not number:
            self._last += 1
            number = self._last
        # Slightly soft edges, as sensors see them.
        weight = ndimage.uniform_filter(mask.astype(np.float32), 2)[..., None]
        part = self.image[window.at]
        self.image[window.at] = part * (1 - weight) + weight * colours
        self.objects[window.at][mask] = number
        self.ground[window.at][mask] = 0
        return number

    def paint(self, mask: NDArray[np.bool_], colours: NDArray[np.float32], *, number: int = 0) -> int:
        """Stamp an (S, S) mask over the whole canvas."""
        whole = Window((slice(0, self.size), slice(0, self.size)), np.zeros((1, 1)), np.zeros((1, 1)))
        return self.stamp(whole, mask, colours, number=number)
