"""Pictures of the largest gains and losses: a crop with the label, the answer before, and the answer after."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..evaluate.clicks import Mask
from ..progress import Check
from ..tune_messages import Picture, PictureKind
from .exam import Exam
from .objects import burn
from .pictures import SIDE, Outlined, colour_of, picture_of
from .samples import CropSample, Samples

MOST = 3
"""Gains, and losses."""

LABEL, BEFORE = (255, 255, 255), (255, 127, 0)
AFTER = (0, 200, 255)
"""Colours of the label's outline and of the answers where there is one class only."""

_LEAST = 0.02
_LEAST_SIDE = 48

_Kind = TypeVar("_Kind", bound=np.generic)


def largest(before: Exam, after: Exam, samples: Samples, check: Check, most: int = MOST) -> tuple[Picture, ...]:
    """Draw the units that gained and lost most.

    Args:
        before: of the base, or of the first of two adapters.
        after: of the other, on the same units.
        samples: read the crops; any side of the run.
        check: called between pictures; may raise to stop.
        most: of gains, and of losses.
    """
    if before.seen is None or after.seen is None:
        return ()
    difference = after.each() - before.each()
    order = np.argsort(-difference, kind="stable").tolist()
    gains = [unit for unit in order if difference[unit] > _LEAST][:most]
    losses = [unit for unit in reversed(order) if difference[unit] < -_LEAST][:most]
    found = []
    for kind, units in ((PictureKind.GAIN, gains), (PictureKind.LOSS, losses)):
        for unit in units:
            check()
            found.append(_drawn(kind, unit, before, after, samples, check))
    return tuple(found)


def _drawn(kind: PictureKind, unit: int, before: Exam, after: Exam, samples: Samples, check: Check) -> Picture:
    if before.seen is None or after.seen is None:
        raise ValueError("nothing to draw was kept")
    raster, crop = after.seen.crop(unit)
    item = samples.dataset.objects[int(after.seen.numbers[unit])]
    image = samples.inputs(CropSample(raster, crop, (), ()), check).image
    outlines = [Outlined(burn([item.geometry], crop), LABEL)]
    for answer, colour in ((before.seen.answers[unit], BEFORE), (after.seen.answers[unit], AFTER)):
        if answer.max(initial=0) <= 1:
            outlines.append(Outlined(_whole(answer > 0), colour))
            continue
        classes = range(1, len(samples.dataset.classes) + 1)
        outlines += [Outlined(_whole(answer == c), colour_of(c - 1), filled=True) for c in classes]
    window = _window(outlines[0].mask)
    image = _grown(image[window])
    drawn = [replace(one, mask=_grown(one.mask[window])) for one in outlines if one.mask[window].any()]
    first, last = float(before.each()[unit]), float(after.each()[unit])
    return Picture(
        kind, f"{item.label}: IoU {first:.2f} before, {last:.2f} after", picture_of(image, drawn), first, last
    )


def _window(mask: Mask) -> tuple[slice, slice]:
    """Return the square of a crop that shows an object and as much again around it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return slice(0, len(mask)), slice(0, len(mask))
    side = min(max(int(2.5 * max(np.ptp(rows), np.ptp(columns))), _LEAST_SIDE), len(mask))
    starts = [int(np.clip((found[0] + found[-1] - side) // 2, 0, len(mask) - side)) for found in (rows, columns)]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def _grown(array: NDArray[_Kind]) -> NDArray[_Kind]:
    """Repeat pixels until the picture is large enough to be looked at."""
    factor = max(1, SIDE // len(array))
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def _whole(cells: NDArray[np.bool_]) -> Mask:
    """Return cells of a crop in its pixels."""
    return np.asarray(cells.repeat(4, axis=0).repeat(4, axis=1), np.bool_)
