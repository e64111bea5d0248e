"""The figures of a run for the user: before and after, each with the interval of its difference, and by class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ..progress import Check, never_stops
from ..tune_messages import FigureRow
from .exam import Exam, Rows, draws, interval
from .exam_prompts import PromptExam, level_of

TITLES: Mapping[str, str] = {
    "iou": "IoU",
    "iou_1_click": "IoU after 1 click",
    "iou_3_clicks": "IoU after 3 clicks",
    "iou_box": "IoU by box",
    "clicks": "Clicks to IoU",
    "miou": "Mean IoU of the classes",
    "accuracy": "Share of pixels that are right",
    "f1": "F1",
    "precision": "Share of what was found that is right",
    "recall": "Share of the objects that were found",
    "found": "Found",
    "missed": "Missed",
    "false": "False",
}
"""Names of figures for the user; those of numbers of clicks end with the level."""

_LOWER = ("clicks", "missed", "false")


def figure_rows(before: Exam, after: Exam, seed: int, check: Check = never_stops) -> tuple[FigureRow, ...]:
    """Compare two measurements of the same units, figure by figure.

    Args:
        before: of the base, or of the first of two adapters.
        after: of the other.
        seed: of the bootstrap, which draws the same units for both.
        check: called for every class; may raise to stop.

    Returns:
        The main figure first, then the others, then those of classes.
    """
    everyone = np.arange(after.units)
    rows = list(_rows(before, after, everyone, seed))
    for name, members in after.groups.items():
        check()
        rows.extend(_rows(before, after, members, seed, name))
    return tuple(sorted(rows, key=lambda row: row.group != ""))


def _rows(before: Exam, after: Exam, members: Rows, seed: int, group: str = "") -> Iterator[FigureRow]:
    clicks = _clicks(before, after, members, group, seed)
    for values in (_shares, _numbers):
        one, other = values(before, members), values(after, members)
        drawn = [members[rows] for rows in draws(len(members), seed)] if other else []
        pairs = [(values(before, rows), values(after, rows)) for rows in drawn]
        for name, value in other.items():
            differences = [late[name] - early[name] for early, late in pairs if name in early and name in late]
            mean = value - one.get(name, 0.0)
            low, high = interval(mean, differences, len(members)) if len(members) > 1 and differences else (0.0, 0.0)
            key, _, own = name.partition(" ")
            yield FigureRow(
                key, TITLES[key], float(one.get(name, -1.0)), float(value), low, high, own or group, key not in _LOWER
            )
    if clicks is not None:
        yield clicks


def _shares(exam: Exam, rows: Rows) -> Mapping[str, float]:
    return exam.figures(rows)


def _numbers(exam: Exam, rows: Rows) -> Mapping[str, float]:
    return exam.counts(rows)


def _clicks(before: Exam, after: Exam, members: Rows, group: str, seed: int) -> FigureRow | None:
    """Return how many clicks it takes to a level that half of all objects reach."""
    if not isinstance(before, PromptExam) or not isinstance(after, PromptExam):
        return None
    level = level_of(before, after)
    one, other = (exam.reached(level)[members] for exam in (before, after))
    difference = other - one
    drawn = [float(difference[rows].mean()) for rows in draws(len(members), seed)]
    low, high = interval(float(difference.mean()), drawn, len(members)) if len(members) > 1 else (0.0, 0.0)
    title = f"{TITLES['clicks']} {level:.1f} (of {after.clicks}; more count as {after.clicks + 1})"
    name = f"clicks_to_{level:.2f}"
    return FigureRow(name, title, float(one.mean()), float(other.mean()), low, high, group, higher_is_better=False)
