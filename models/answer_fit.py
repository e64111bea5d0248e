"""What follows from the prompts alone about an answer: it hangs together with its clicks, and it fills its box.

A decoder scores every place for itself, so an answer may come with islands elsewhere that merely look alike, and the
answer to a tight box may stop short of the box's sides where the model is unsure. Neither is what the user meant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CELL = 4
"""Input pixels per side of a mask's cell."""

LOWEST = -2.0
STEP = 0.25
RELUCTANCE = 0.1
"""How much better a box must be filled for the threshold to be lowered by 1 (as a share: IoU of the two boxes)."""

Logits = NDArray[np.float32]
Click = tuple[float, float]
Box = tuple[float, float, float, float]


def fit_to_clicks(logits: Logits, clicks: list[Click]) -> Logits:
    """Keep only those connected parts (8-neighbourhood) of an answer that positive clicks lie on or next to.

    Args:
        logits: (h, w); positive inside the object.
        clicks: x, y in input pixels, all positive ones.

    Returns:
        (h, w) logits, turned negative on the other parts; as they were if no part has a click.
    """
    parts, count = ndimage.label(logits > 0, np.ones((3, 3)))
    if count < 2:
        return logits
    clicked = {number for x, y in clicks for number in _under(parts, x, y)}
    if not clicked:
        return logits
    kept = np.isin(parts, list(clicked))
    return np.where(kept, logits, -np.abs(logits)).astype(np.float32)


def fit_to_box(logits: Logits, box: Box) -> Logits:
    """Cut an answer off at its box and lower the threshold as far as the box is filled better by it.

    Args:
        logits: (h, w); positive inside the object.
        box: x0, y0, x1, y1 in input pixels, as the user drew it around the object.

    Returns:
        (h, w) logits, shifted by 0 to 2 and negative outside the box. An answer with nothing in the box stays one:
        lowering the threshold there would make objects of noise.
    """
    x0, y0, x1, y1 = (side / CELL for side in box)
    rows, columns = np.arange(logits.shape[0]) + 0.5, np.arange(logits.shape[1]) + 0.5
    inside = ((rows > y0) & (rows < y1))[:, None] & ((columns > x0) & (columns < x1))
    if not inside.any():
        return logits
    cut = np.where(inside, logits, -np.inf)
    best, shift = -np.inf, 0.0
    lowest = LOWEST if (cut > 0).any() else 0.0
    # A side's profile says how low the threshold must be for the answer to reach each row or column.
    by_row, by_column = cut.max(axis=1), cut.max(axis=0)
    for threshold in np.arange(0.0, lowest - STEP / 2, -STEP):
        reached = _extent(by_column > threshold) + _extent(by_row > threshold)
        score = _box_iou((reached[0], reached[2], reached[1], reached[3]), (x0, y0, x1, y1)) + RELUCTANCE * threshold
        if score > best:
            best, shift = score, float(threshold)
    return np.where(inside, logits - shift, -np.abs(logits - shift)).astype(np.float32)


def _under(parts: NDArray[np.int32], x: float, y: float) -> list[int]:
    """Return the part a click lies on, else those next to it."""
    height, width = parts.shape
    row, column = min(max(int(y / CELL), 0), height - 1), min(max(int(x / CELL), 0), width - 1)
    if parts[row, column]:
        return [int(parts[row, column])]
    around = parts[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    return [int(number) for number in np.unique(around) if number]


def _extent(reached: NDArray[np.bool_]) -> tuple[float, float]:
    places = np.flatnonzero(reached)
    return (float(places[0]), float(places[-1] + 1)) if len(places) else (0.0, 0.0)


def _box_iou(a: Box, b: Box) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(wide, 0.0) * max(high, 0.0)
    either = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / either if either > 0 else 0.0
