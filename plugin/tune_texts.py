"""Numbers of a tuning run as people say them."""

from __future__ import annotations

from qgis.PyQt.QtCore import QCoreApplication

from ..engine.tune_messages import FigureRow, Inspection, Parting, TunePlan
from .status import size_text

translate = QCoreApplication.translate


def duration_text(seconds: float) -> str:
    """Say a length of time; empty where it is not known."""
    if seconds < 0:
        return ""
    if seconds < 60:
        return translate("TuneTexts", "{n} s").format(n=max(1, round(seconds)))
    minutes = round(seconds / 60)
    if minutes < 100:
        return translate("TuneTexts", "{n} min").format(n=minutes)
    return translate("TuneTexts", "{h} h {m} min").format(h=minutes // 60, m=minutes % 60)


def count_text(inspection: Inspection) -> str:
    """Say how many objects there are and how they are parted."""
    objects = sum(one.objects for one in inspection.classes)
    train = sum(one.train for one in inspection.classes)
    held_out = sum(one.held_out for one in inspection.classes)
    one, several = translate("TuneTexts", "<b>One object</b>"), translate("TuneTexts", "<b>{n} objects</b>")
    text = one if objects == 1 else several.format(n=objects)
    if inspection.parting is Parting.BLOCKS:
        parted = translate(
            "TuneTexts",
            "{train} to learn from, {held_out} held out to measure on ({held} of {blocks} blocks of ground)",
        )
        text += ": " + parted.format(
            train=train, held_out=held_out, held=inspection.held_blocks, blocks=inspection.blocks
        )
    elif inspection.parting is Parting.EACH_BLOCK:
        parted = translate(
            "TuneTexts", "too few to hold some out for good, so each of {blocks} blocks of ground is held out once"
        )
        text += ": " + parted.format(blocks=inspection.blocks)
    elif objects:
        text += ": " + translate("TuneTexts", "too few to measure whether they help")
    return text + "."


def estimate_rows(plan: TunePlan) -> list[tuple[str, str]]:
    """Return what a run would take, as names and values; what is not known is left out."""
    rows = [
        (
            translate("TuneTexts", "Device"),
            f"{plan.device} – {plan.device_reason}" if plan.device_reason else plan.device,
        ),
        (translate("TuneTexts", "Time"), _time(plan)),
        (translate("TuneTexts", "Memory"), _of(plan.memory, plan.available)),
        (translate("TuneTexts", "Disk, meanwhile"), _of(plan.disk, plan.disk_free)),
        (translate("TuneTexts", "Adapter file"), fine_size(plan.file_bytes) if plan.file_bytes >= 0 else ""),
    ]
    return [(name, value) for name, value in rows if value]


def fine_size(size: int) -> str:
    """Say a number of bytes, small ones too."""
    return size_text(size) if size >= 1 << 20 else f"{max(1, round(size / 1024))} KiB"


def _time(plan: TunePlan) -> str:
    if plan.seconds < 0:
        return ""
    text = translate("TuneTexts", "about {time} ({steps} steps)")
    return text.format(time=duration_text(plan.seconds), steps=plan.steps)


def _of(size: int, available: int) -> str:
    if size < 0:
        return ""
    if available <= 0:
        return fine_size(size)
    return translate("TuneTexts", "{size} of {free} free").format(size=fine_size(size), free=fine_size(available))


def figure_text(value: float) -> str:
    """Say a figure: shares to three digits, numbers above one to one; a dash for none."""
    if value < 0:
        return "–"
    return f"{value:.1f}" if value > 1 else f"{value:.3f}"


def change_text(row: FigureRow) -> str:
    """Say how a figure has changed, with its interval where there is one."""
    if row.before < 0 or row.after < 0:
        return ""
    digits = 1 if max(row.before, row.after) > 1 else 3
    text = f"{row.after - row.before:+.{digits}f}"
    if not _has_interval(row):
        return text
    return f"{text} ({row.low:+.{digits}f} … {row.high:+.{digits}f})"


def is_gain(row: FigureRow) -> bool | None:
    """Tell whether a figure is better than before; None where that is not known, or within chance."""
    if row.before < 0 or row.after < 0 or round(row.after - row.before, 3) == 0:
        return None
    if _has_interval(row) and row.low <= 0 <= row.high:
        return None
    return (row.after > row.before) is row.higher_is_better


def _has_interval(row: FigureRow) -> bool:
    return (row.low, row.high) != (0.0, 0.0)
