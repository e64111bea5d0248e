"""What the fine-tune wizard says of numbers, and the axes of its charts."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from samtune.engine.tune_messages import ClassCount, FigureRow, Inspection, Parting, TunePlan
from samtune.plugin.tune_texts import change_text, count_text, duration_text, estimate_rows, figure_text, is_gain
from samtune.ui.tune.curves import nice_range

NEXT = [0.7, math.nextafter(0.7, 1.0)]
"""The same value, summed up in another order."""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, ""), (0.2, "1 s"), (59, "59 s"), (61, "1 min"), (1800, "30 min"), (7260, "2 h 1 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("row", "change", "gain"),
    [
        (FigureRow("iou", "IoU", 0.5, 0.6, 0.02, 0.2), "+0.100 (+0.020 … +0.200)", True),
        (FigureRow("iou", "IoU", 0.5, 0.6, -0.02, 0.2), "+0.100 (-0.020 … +0.200)", None),
        (FigureRow("iou", "IoU", 0.6, 0.5), "-0.100", False),
        (FigureRow("clicks", "Clicks", 4.2, 2.1, higher_is_better=False), "-2.1", True),
        (FigureRow("false", "False", 3, 5, higher_is_better=False), "+2.0", False),
        (FigureRow("f1", "F1", -1, 0.5), "", None),
        (FigureRow("f1", "F1", 0.5, 0.5), "+0.000", None),
    ],
)
def test_changes(row: FigureRow, change: str, gain: bool | None) -> None:
    assert change_text(row) == change
    assert is_gain(row) is gain


def test_figures() -> None:
    assert [figure_text(value) for value in (-1, 0, 0.5371, 1, 4.25)] == ["\u2013", "0.000", "0.537", "1.000", "4.2"]


def test_counts() -> None:
    classes = (ClassCount("a", 6, 5, 1, "#000000"), ClassCount("b", 6, 4, 2, "#000000"))
    text = count_text(Inspection(classes, parting=Parting.BLOCKS, blocks=5, held_blocks=1))
    assert text == ("<b>12 objects</b>: 9 to learn from, 3 held out to measure on (1 of 5 blocks of ground).")
    one = Inspection((ClassCount("a", 1, 1, 0, "#000000"),))
    assert count_text(one) == "<b>One object</b>: too few to measure whether they help."


def test_an_estimate_leaves_out_what_is_not_known() -> None:
    bare = TunePlan((), "decoder", "", "decoder", (), 40, "cpu", "")
    assert estimate_rows(bare) == [("Device", "cpu")]
    full = TunePlan(
        (), "d", "", "d", (), 40, "cpu", "Why.", 90.0, 1.0, 1 << 30, 2 << 30, 1 << 20, 0, 2048
    )  # fmt: skip
    assert dict(estimate_rows(full)) == {
        "Device": "cpu \u2013 Why.",
        "Time": "about 2 min (40 steps)",
        "Memory": "1.0 GiB of 2.0 GiB free",
        "Disk, meanwhile": "1 MiB",
        "Adapter file": "2 KiB",
    }


@pytest.mark.parametrize("values", [[0.5], [0.0], [0.31, 0.95], [-3.0, 12.0], [1e-9, 2e-9], [1e6, 1e6], NEXT])
def test_axes_hold_the_values_at_round_numbers(values: list[float]) -> None:
    low, high, ticks = nice_range(values)
    assert low <= min(values) + 1e-12
    assert high >= max(values) - 1e-12
    assert 1 <= ticks <= 6
    step = (high - low) / ticks
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - round_one) for round_one in (1, 2, 5, 10)) < 1e-6
