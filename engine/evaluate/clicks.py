"""Where a careful user would click: simulated first clicks, corrections and boxes. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]


def pole(mask: Mask) -> tuple[float, float]:
    """Return the pole of inaccessibility of a mask: the centre of the pixel farthest from all that is not the mask.

    The array's border counts as outside.

    Args:
        mask: (H, W) bool, not empty.

    Returns:
        x, y in pixels, (0, 0) being the first pixel's outer corner.

    Raises:
        ValueError: the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ValueError("an empty mask has no pole")
    top, left = int(rows[0]), int(columns[0])
    part = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    distance = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(np.argmax(distance)), part.shape)
    return left + int(column) + 0.5, top + int(row) + 0.5


def correction(answer: Mask, truth: Mask) -> tuple[float, float, bool] | None:
    """Return the click that corrects an answer most: the centre of its largest connected error (4-neighbourhood).

    Args:
        answer: (H, W) bool.
        truth: (H, W) bool.

    Returns:
        x, y and whether it is positive (something was missed); None where nothing is wrong.
    """
    largest: tuple[int, Mask, bool] | None = None
    for wrong, positive in ((truth & ~answer, True), (answer & ~truth, False)):
        parts, count = ndimage.label(wrong)
        if count:
            sizes = np.bincount(parts.ravel())
            sizes[0] = 0
            number = int(np.argmax(sizes))
            if largest is None or sizes[number] > largest[0]:
                largest = (int(sizes[number]), parts == number, positive)
    if largest is None:
        return None
    x, y = pole(largest[1])
    return x, y, largest[2]


def box_of(mask: Mask) -> tuple[float, float, float, float]:
    """Return the tight box x0, y0, x1, y1 of a mask, in pixels (outer edges)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def jittered(
    box: tuple[float, float, float, float], shape: tuple[int, int], rng: np.random.Generator, share: float = 0.1
) -> tuple[float, float, float, float]:
    """Move each side of a box by a normally distributed share of the box's extent, within (H, W)."""
    wide, high = box[2] - box[0], box[3] - box[1]
    x0, y0, x1, y1 = np.array(box) + rng.normal(0, share, 4) * [wide, high, wide, high]
    x0, x1 = np.clip(sorted((x0, x1)), 0, shape[1])
    y0, y1 = np.clip(sorted((y0, y1)), 0, shape[0])
    return float(x0), float(y0), max(float(x1), float(x0) + 1), max(float(y1), float(y0) + 1)


def iou(answer: Mask, truth: Mask) -> float:
    """Intersection over union; 1 where both are empty."""
    either = int((answer | truth).sum())
    return int((answer & truth).sum()) / either if either else 1.0


def boundary_f(answer: Mask, truth: Mask, tolerance: float = 2.0) -> float:
    """F-measure of two masks' outlines: shares of each that lie within ``tolerance`` pixels of the other, combined.

    Returns:
        0 to 1; 1 where both are empty, 0 where one is.
    """
    edges = [mask & ~ndimage.binary_erosion(mask, border_value=0) for mask in (answer, truth)]
    counts = [int(edge.sum()) for edge in edges]
    if not any(counts):
        return 1.0
    if not all(counts):
        return 0.0
    near = [ndimage.distance_transform_edt(~edge) <= tolerance for edge in edges]
    precision = float((edges[0] & near[1]).sum()) / counts[0]
    recall = float((edges[1] & near[0]).sum()) / counts[1]
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
