"""The card of an adapter that a run made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from ...models.peft.adapter_card import (
    USER_NOTE,
    AdapterCard,
    BaseRecord,
    ClassRecord,
    GroundRecord,
    HeadKind,
    MetricRecord,
    TrainingRecord,
)
from ..about import version
from ..ground import metres_per_unit
from .pictures import colour_of
from .prepare import Prepared
from .promptable import Promptable
from .result import Score, Verdict
from .settings import Task

_OTHER = (200, 200, 200)


@dataclass(frozen=True)
class Outcome:
    """What training and measuring gave.

    Attributes:
        steps: of the optimiser.
        seconds: of training.
        before: the base's scores; None without a hold-out.
        after: the adapter's.
        verdict: whether it is better.
        notes: sentences for the user.
    """

    steps: int
    seconds: float
    before: Score | None
    after: Score | None
    verdict: Verdict
    notes: Sequence[str]


def card_of(ready: Prepared, outcome: Outcome) -> AdapterCard:
    """Describe an adapter.

    Args:
        ready: the run.
        outcome: what it gave.
    """
    settings, card = ready.settings, ready.model.card
    notes = [*outcome.notes, *([USER_NOTE + settings.notes] if settings.notes else [])]
    if outcome.verdict is Verdict.NOT_BETTER:
        notes.append("On the hold-out it is not better than the base.")
    return AdapterCard(
        name=settings.output.stem,
        base=BaseRecord(card.name, card.architecture, card.sha256, card.licence),
        head=HeadKind(settings.task.value),
        plugin_version=version(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        inputs=ready.reader.record,
        ground=_ground(ready),
        classes=_classes(ready),
        training=TrainingRecord(
            outcome.steps,
            (settings.seed,),
            ready.parted.in_words(),
            _loss(ready),
            ready.objective.population,
            outcome.after.objects if outcome.after is not None else len(ready.parted.held_out),
            outcome.seconds,
            str(ready.model.device),
        ),
        metrics=_metrics(outcome),
        notes=tuple(notes),
    )


def _ground(ready: Prepared) -> GroundRecord:
    dataset = ready.dataset
    sizes = []
    for item in ready.train.items:
        frame = dataset.frames[item.raster]
        middle = np.array([[item.crop.col + item.crop.side / 2, item.crop.row + item.crop.side / 2]])
        x, y = frame.to_map(middle)[0]
        metres = metres_per_unit(dataset.crs[item.raster], float(x), float(y))
        sizes.append(frame.pixel_size * item.crop.scale * metres)
    first = [number for number in ready.parted.train if dataset.objects[number].raster == 0]
    extent = None
    if first:
        corners = np.array([dataset.objects[number].bounds for number in first])
        box = np.concatenate([corners[:, :2], corners[:, 2:], corners[:, [0, 3]], corners[:, [2, 1]]])
        places = dataset.frames[0].to_map(box)
        low, high = places.min(axis=0), places.max(axis=0)
        extent = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    known = (min(sizes), max(sizes)) if sizes and dataset.crs[0] else None
    return GroundRecord(known, dataset.size, "averaged or interpolated by a power of two", dataset.crs[0], extent)


def _classes(ready: Prepared) -> tuple[ClassRecord, ...]:
    names = ready.dataset.classes
    counts = [sum(ready.dataset.objects[n].label == name for n in ready.parted.train) for name in names]
    first = 1 if ready.settings.task is Task.SEMANTIC else 0
    found = [
        ClassRecord(first + place, name, colour_of(place), count)
        for place, (name, count) in enumerate(zip(names, counts, strict=True))
    ]
    return (ClassRecord(0, "other", _OTHER), *found) if first else tuple(found)


def _loss(ready: Prepared) -> str:
    if isinstance(ready.objective, Promptable):
        focal = ready.objective.focal_weight
        return f"{f'{focal:.0f} focal + ' if focal else ''}dice + squared error of the predicted IoU, on known ground"
    if ready.settings.task is Task.SEMANTIC:
        return "cross-entropy + dice, on known ground"
    return "focal loss of centres + 2 GIoU of boxes, on known ground"


def _metrics(outcome: Outcome) -> tuple[MetricRecord, ...]:
    if outcome.after is None:
        return ()
    before = outcome.before.mean if outcome.before is not None else {}
    return tuple(MetricRecord(name, before.get(name), value) for name, value in outcome.after.mean.items())
