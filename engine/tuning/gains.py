"""Pictures of the largest gains and losses: a crop with the label, the answer before, and the answer after."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..evaluate.clicks import Mask
from ..tune_messages import Picture, PictureKind
from .exam import Exam
from .objects import burn
from .pictures import Outlined, colour_of, picture_of
from .samples import CropSample, Samples

MOST = 3
"""Gains, and losses."""

LABEL, BEFORE = (255, 255, 255), (255, 127, 0)
AFTER = (0, 200, 255)
"""Colours of the label's outline and of the answers where there is one class only."""

_LEAST = 0.02


def largest(
    before: Exam, after: Exam, samples: Samples, check: Callable[[], None], most: int = MOST
) -> tuple[Picture, ...]:
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
            found.append(_drawn(kind, unit, before, after, samples))
    return tuple(found)


def _drawn(kind: PictureKind, unit: int, before: Exam, after: Exam, samples: Samples) -> Picture:
    if before.seen is None or after.seen is None:
        raise ValueError("nothing to draw was kept")
    raster, crop = after.seen.crop(unit)
    item = samples.dataset.objects[int(after.seen.numbers[unit])]
    image = samples.inputs(CropSample(raster, crop, (), ()), _never).image
    answers = [(before.seen.answers[unit], BEFORE), (after.seen.answers[unit], AFTER)]
    outlines = [Outlined(_whole(answer > 0), colour) for answer, colour in answers if answer.max(initial=0) <= 1]
    for answer, _ in answers:
        if answer.max(initial=0) > 1:
            classes = range(1, len(samples.dataset.classes) + 1)
            outlines += [Outlined(_whole(answer == c), colour_of(c - 1), filled=True) for c in classes]
    outlines.append(Outlined(burn([item.geometry], crop), LABEL))
    first, last = float(before.each()[unit]), float(after.each()[unit])
    drawn = [outline for outline in outlines if outline.mask.any()]
    return Picture(
        kind, f"{item.label}: IoU {first:.2f} before, {last:.2f} after", picture_of(image, drawn), first, last
    )


def _whole(cells: NDArray[np.bool_]) -> Mask:
    """Return cells of a crop in its pixels."""
    return np.asarray(cells.repeat(4, axis=0).repeat(4, axis=1), np.bool_)


def _never() -> None:
    """Nobody stops the reading of one crop."""
