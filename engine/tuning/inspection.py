"""What there is to learn from, told before anything is trained: how many, how large, and the very crops of training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import shapely
from shapely import STRtree

from ..crops import clamp_level
from ..progress import Check, Progress
from ..tune_messages import ClassCount, Inspection, Parting, Picture, PictureKind, SizeBin
from .dataset import Dataset, load_dataset
from .exam import spread
from .pictures import Outlined, colour_of, hexadecimal, picture_of
from .reading import GroundReader
from .samples import FEWEST_PIXELS, CropSample, Samples
from .settings import Task, TuneSettings
from .split import Split, split

_OVERLAP = 0.5
_NONE_LARGE = "All objects are too small for this level of detail. Choose level {}, or by each object's size."


def inspect(settings: TuneSettings, size: int, pictures: int, side: int, progress: Progress) -> Inspection:
    """Look at the labels of a run as it would.

    Args:
        settings: the run; its methods do not matter.
        size: side of the model's input, pixels.
        pictures: how many of its crops to draw.
        side: of a picture, pixels.
        progress: told what is being done; may stop the work.

    Raises:
        SamTuneError: a raster or the labels cannot be used.
        CancelledByUser: from ``progress.check``.
    """
    progress.report(-1.0, "Reading the labels")
    reader = GroundReader(settings)
    try:
        dataset = load_dataset(settings, reader, size, progress.check)
        progress.check()
        parted = split(dataset, settings.hold_out, settings.seed, progress.check)
        maps = settings.task is not Task.PROMPTABLE
        train = Samples(dataset, parted, reader, held_out=False, maps=maps, check=progress.check)
        train.refuse_nothing(progress.check)
        progress.report(-1.0, "Drawing what training will see")
        drawn = _pictures(train, pictures, side, progress.check)
    finally:
        reader.close()
    return _told(dataset, parted, train, drawn, _levels(dataset, maps=maps), progress.check)


def usable(settings: TuneSettings, size: int, progress: Progress) -> int:
    """Return how many objects there are to learn from and to measure on.

    Args:
        settings: the run; its methods do not matter.
        size: side of the model's input, pixels.
        progress: may stop the work.

    Raises:
        SamTuneError: a raster or the labels cannot be used.
        CancelledByUser: from ``progress.check``.
    """
    progress.check()
    reader = GroundReader(settings)
    try:
        progress.check()
        return len(load_dataset(settings, reader, size, progress.check).objects)
    finally:
        reader.close()


def _levels(dataset: Dataset, *, maps: bool) -> list[int]:
    """Return the level at which each object is shown."""
    if maps:
        return [dataset.common_level()] * len(dataset.objects)
    return [dataset.place(number)[1].level for number in range(len(dataset.objects))]


def _told(
    dataset: Dataset, parted: Split, train: Samples, drawn: tuple[Picture, ...], levels: Sequence[int], check: Check
) -> Inspection:
    level = Counter(levels).most_common(1)[0][0]
    small, fitting = _too_small(dataset, level, levels)
    check()
    counts = _classes(dataset, parted)
    overlapping = _overlapping(dataset, check)
    blocks = len(parted.blocks)
    held = {Parting.BLOCKS: sum(block.held_out for block in parted.blocks), Parting.EACH_BLOCK: blocks}
    everything_small = not any(item.targets for item in train.items)
    return Inspection(
        classes=counts,
        sizes=_histogram([item.extent for item in dataset.objects]),
        parting=parted.parting,
        blocks=blocks,
        held_blocks=held.get(parted.parting, 0),
        repaired=dataset.repaired,
        left_out=dataset.useless,
        overlapping=overlapping,
        too_small=small,
        level=level,
        fitting_level=fitting,
        pictures=drawn,
        notes=(*dataset.notes, *parted.notes, *_notes(counts, len(overlapping), small)),
        problem=_NONE_LARGE.format(fitting) if everything_small else "",
    )


def _notes(counts: Sequence[ClassCount], overlapping: int, small: int) -> list[str]:
    lone = [item.name for item in counts if item.objects == 1] if len(counts) > 1 else []
    notes = [f"There is only one object of the class {name}: what it looks like can hardly be learnt." for name in lone]
    if overlapping:
        notes.append(f"{overlapping} features lie on each other by more than half. Delete what was drawn twice.")
    if small:
        notes.append(f"{small} objects are too small for the level of detail, and cannot be learnt from at it.")
    return notes


def _classes(dataset: Dataset, parted: Split) -> tuple[ClassCount, ...]:
    labels = [item.label for item in dataset.objects]
    train = Counter(labels[number] for number in parted.train)
    held = Counter(labels if parted.parting is Parting.EACH_BLOCK else [labels[number] for number in parted.held_out])
    return tuple(
        ClassCount(name, labels.count(name), train[name], held[name], hexadecimal(colour_of(place)))
        for place, name in enumerate(dataset.classes)
    )


def _histogram(extents: Sequence[float]) -> tuple[SizeBin, ...]:
    """Count by powers of two, without gaps between the smallest and the largest."""
    places = [int(np.floor(np.log2(max(extent, 1.0)))) for extent in extents]
    counts = Counter(places)
    return tuple(
        SizeBin(float(2**place), float(2 ** (place + 1)), counts[place])
        for place in range(min(places), max(places) + 1)
    )


def _overlapping(dataset: Dataset, check: Check) -> tuple[int, ...]:
    """Return the numbers of features that share more than half of the smaller one's area with another."""
    found: set[int] = set()
    for raster in range(len(dataset.frames)):
        here = [item for item in dataset.objects if item.raster == raster]
        shapes = [item.geometry for item in here]
        pairs = STRtree(shapes).query(shapes, predicate="intersects").T.tolist() if shapes else []
        for one, other in pairs:
            if one >= other:
                continue
            check()
            common = shapely.intersection(shapes[one], shapes[other]).area
            if common > _OVERLAP * min(shapes[one].area, shapes[other].area):
                found |= {here[one].row, here[other].row}
    return tuple(sorted(found))


def _too_small(dataset: Dataset, level: int, levels: Sequence[int]) -> tuple[int, int]:
    """Return how many objects are too small to be targets where they are shown, and the level that would fit them."""
    small, fitting = 0, level
    for number, item in enumerate(dataset.objects):
        if item.geometry.area / 4.0 ** levels[number] >= FEWEST_PIXELS:
            continue
        small += 1
        fits = int(np.floor(np.log2(np.sqrt(item.geometry.area / FEWEST_PIXELS))))
        fitting = min(fitting, clamp_level(dataset.frames[item.raster], dataset.size, fits))
    return small, fitting


def _pictures(train: Samples, most: int, side: int, check: Check) -> tuple[Picture, ...]:
    if most <= 0:
        return ()
    found = []
    for place in spread(len(train.items), most):
        check()
        found.append(crop_picture(train, train.items[place], side, check))
    return tuple(found)


def crop_picture(samples: Samples, item: CropSample, side: int, check: Check) -> Picture:
    """Draw a crop as training sees it: objects outlined, dimmed where nobody said what is there.

    Args:
        samples: that the crop is of.
        item: the crop.
        side: of the picture, pixels.
        check: called between reads; may raise to stop.
    """
    labels = samples.labels(item, check)
    outlines = [Outlined(mask, colour_of(int(place))) for mask, place in zip(labels.masks, labels.labels, strict=True)]
    names = Counter(samples.dataset.classes[int(place)] for place in labels.labels)
    title = ", ".join(f"{count} {name}" if count > 1 else name for name, count in names.items())
    image = samples.inputs(item, check).image
    return Picture(PictureKind.CROP, title, picture_of(image, outlines, ~labels.known, side, check))
