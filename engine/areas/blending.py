"""Answers of overlapping crops blended into one field: a strip of it at a time. Pure numpy, and torch to enlarge."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate


def falling_weights(side: int) -> NDArray[np.float32]:
    """Return (side, side) weights that fall evenly from the middle to almost nothing at the border.

    So an answer fades out where the next one fades in, and no border shows.
    """
    along = np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5).astype(np.float32) / (side / 2)
    return np.asarray(along[:, None] * along[None, :], np.float32)


class Strip:
    """Sums of weighted answers over a window of cells that moves down; and which pixels have data.

    Attributes:
        left: first column of cells, and
        right: end of those.
        top: first row of cells that is kept.
    """

    def __init__(self, classes: int, columns: tuple[int, int], rows: int, cell: int) -> None:
        """Begin at the top, empty.

        Args:
            classes: planes of an answer.
            columns: first and end column of cells.
            rows: of cells that are kept at once.
            cell: side of a cell, pixels of the map.
        """
        self.left, self.right = columns
        self.top = 0
        self._cell = cell
        wide = self.right - self.left
        self._sums = np.zeros((classes, rows, wide), np.float32)
        self._weights = np.zeros((rows, wide), np.float32)
        self._valid = np.zeros((rows * cell, wide * cell), bool)

    def add(self, answer: NDArray[np.float32], valid: NDArray[np.bool_], column: int, row: int) -> None:
        """Add a crop's answer; what lies beyond the strip's sides is left out.

        Args:
            answer: (K, n, n) chances.
            valid: (n * cell, n * cell), which pixels of the map have data.
            column: cell where it begins, and
            row: likewise; not above the strip.
        """
        side = answer.shape[1]
        low, high = max(column, self.left), min(column + side, self.right)
        rows, end = row - self.top, min(row - self.top + side, self._weights.shape[0])
        there = (slice(rows, end), slice(low - self.left, high - self.left))
        part = (slice(0, end - rows), slice(low - column, high - column))
        weights = falling_weights(side)[part]
        self._sums[(slice(None), *there)] += answer[(slice(None), *part)] * weights
        self._weights[there] += weights
        self._valid[self._fine(there)] |= valid[self._fine(part)]

    def known(self, columns: tuple[int, int], rows: tuple[int, int]) -> NDArray[np.bool_]:
        """Return (h, w): which pixels have data, and were in a crop.

        Args:
            columns: first and end column, pixels of the map.
            rows: likewise.
        """
        left, top = self.left * self._cell, self.top * self._cell
        return self._valid[rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left]

    def block(self, columns: tuple[int, int], rows: tuple[int, int]) -> NDArray[np.float32]:
        """Return chances (K, h, w) of pixels, blended and enlarged; of use where they are :meth:`known`.

        Args:
            columns: first and end column, pixels of the map.
            rows: likewise.
        """
        cell = self._cell
        # One more cell on every side, so that neighbouring blocks are enlarged from the same neighbours.
        low, high = max(columns[0] // cell - 1, self.left), min(-(-columns[1] // cell) + 1, self.right)
        top, end = max(rows[0] // cell - 1, self.top), min(-(-rows[1] // cell) + 1, self.top + len(self._weights))
        there = (slice(top - self.top, end - self.top), slice(low - self.left, high - self.left))
        weights = self._weights[there]
        seen = (weights > 0).astype(np.float32)
        planes = np.concatenate([self._sums[(slice(None), *there)] / np.where(weights > 0, weights, 1), seen[None]])
        fine = _enlarged(planes, cell)
        shift = (rows[0] - top * cell, columns[0] - low * cell)
        fine = fine[:, shift[0] : shift[0] + rows[1] - rows[0], shift[1] : shift[1] + columns[1] - columns[0]]
        return np.asarray(fine[:-1] / np.maximum(fine[-1:], 1e-6), np.float32)

    def advance(self, top: int) -> None:
        """Let go of the rows of cells above ``top``."""
        gone = min(top - self.top, len(self._weights))
        if gone <= 0:
            return
        for kept, rows in ((self._sums, gone), (self._weights, gone), (self._valid, gone * self._cell)):
            axis = kept.ndim - 2
            before = [slice(None)] * kept.ndim
            after = list(before)
            before[axis], after[axis] = slice(rows, None), slice(0, kept.shape[axis] - rows)
            kept[tuple(after)] = kept[tuple(before)].copy()
            after[axis] = slice(kept.shape[axis] - rows, None)
            kept[tuple(after)] = 0
        self.top = top

    def _fine(self, cells: tuple[slice, slice]) -> tuple[slice, slice]:
        rows, columns = (slice(part.start * self._cell, part.stop * self._cell) for part in cells)
        return rows, columns


def _enlarged(planes: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    if factor == 1:
        return planes
    given = torch.from_numpy(planes)[None]
    fine = interpolate(given, scale_factor=float(factor), mode="bilinear", align_corners=False)
    found: NDArray[np.float32] = fine[0].numpy()
    return found
