"""What a tuning run gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ...models.card import JsonValue
from ..tune_messages import FigureRow, Parting, Picture


class Verdict(StrEnum):
    """Whether the adapter is worth using, by its scores on ground that it never saw."""

    BETTER = "better"
    NOT_BETTER = "not better"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Score:
    """Figures on the hold-out.

    Attributes:
        mean: by name: ``iou_1_click``, ``iou_3_clicks``, ``iou_box`` (promptable), ``miou`` and others (semantic),
            ``f1`` and the like (instances).
        interval: 95 % bootstrap interval of each, low and high.
        objects: how many objects were measured.
    """

    mean: Mapping[str, float]
    interval: Mapping[str, tuple[float, float]]
    objects: int


@dataclass(frozen=True)
class TuneResult:
    """A finished run.

    Attributes:
        path: the adapter's file.
        card: its card as JSON values.
        before: the base's scores on the hold-out; None without one.
        after: the adapter's.
        verdict: whether it is better, see :mod:`.exam`.
        gain: mean difference of the main figure, with its 95 % interval: (mean, low, high); None if not measured.
        follows: the answers fit the labels where they lie better than labels dealt to other places.
        steps: steps done.
        seconds: how long the training took.
        folder: records: settings, split, curves, checkpoint.
        notes: what the user should know, as sentences.
        parting: how the hold-out was made.
        figures: all figures before and after, with the intervals of their differences.
        pictures: the largest gains and losses.
        general: one sentence on whether generality is kept; empty where it was not checked.
    """

    path: Path
    card: Mapping[str, JsonValue]
    before: Score | None
    after: Score | None
    verdict: Verdict
    gain: tuple[float, float, float] | None
    steps: int
    seconds: float
    folder: Path
    notes: tuple[str, ...]
    follows: bool = True
    parting: Parting = Parting.NONE
    figures: tuple[FigureRow, ...] = ()
    pictures: tuple[Picture, ...] = ()
    general: str = ""


@dataclass(frozen=True)
class Estimate:
    """What a run is going to take.

    Attributes:
        seconds: of the whole run.
        per_step: seconds of a step.
        preparing: seconds before the first step: reading, and encoding where embeddings are kept.
        memory: bytes at the peak, of the process (processor) or of the GPU.
        available: bytes there are; 0 where that is not known.
        disk: bytes of temporary files.
        trainable: numbers that are trained.
        notes: what the user should know, as sentences.
        file_bytes: size of the adapter's file.
    """

    seconds: float
    per_step: float
    preparing: float
    memory: int
    available: int
    disk: int
    trainable: int
    notes: tuple[str, ...] = ()
    file_bytes: int = 0
