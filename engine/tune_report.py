"""What ``samtune tune`` says before and after a run, in words and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path

from .adapter_text import before_and_after, duration, memory, method_text
from .tuning.report import REPORT, verdict_text
from .tuning.result import Estimate, TuneResult
from .tuning.settings import TuneSettings

_FROM_DATA = ("channels", "classes")
"""Settings that the data decide, whatever a method has before."""

_FULL = 0.9
"""Share of the memory above which a run is called tight."""


def opening_text(settings: TuneSettings, expected: Estimate | None) -> str:
    """Say what is about to be done, and what it takes.

    Args:
        settings: the run.
        expected: None where nothing was estimated.
    """
    named = [method_text(config.to_json(), _FROM_DATA) for config in settings.methods]
    methods = " + ".join(named) or f"the head {settings.task.value} alone"
    lines = [f"Tuning {settings.model} by {methods}: {settings.schedule.steps} steps, seed {settings.seed}."]
    if expected is None:
        return lines[0]
    disk = f", {memory(expected.disk)} of disk for a while" if expected.disk >= 1e6 else ""
    lines.append(
        f"It takes about {duration(expected.seconds)} ({duration(expected.preparing)} to prepare, then "
        f"{_per_step(expected.per_step)} per step) and {memory(expected.memory)} of memory"
        f"{f' of {memory(expected.available)} free' if expected.available else ''}{disk}. "
        f"{expected.trainable:,} numbers are trained."
    )
    if expected.available and expected.memory > _FULL * expected.available:
        lines.append("That is more memory than is comfortable: close other programs, or choose a lighter method.")
    return "\n".join([*lines, *expected.notes])


def _per_step(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else duration(seconds)


def closing_text(result: TuneResult) -> str:
    """Say what came of a run: the figures before and after, the verdict, where things are.

    Args:
        result: of the run.
    """
    lines: list[str] = []
    if result.after is not None:
        before = result.before.mean if result.before else {}
        figures = [(name, before.get(name), value) for name, value in result.after.mean.items()]
        lines += [*before_and_after(figures), ""]
    lines.append(verdict_text(result))
    lines += [result.general] if result.general else []
    lines += result.notes
    size = result.path.stat().st_size / 1e6 if result.path.is_file() else 0.0
    lines.append(
        f"{result.steps} steps in {duration(result.seconds)}. The adapter ({size:.2f} MB) is {result.path}, the "
        f"records of the run are in {result.folder}, for reading: {REPORT}."
    )
    return "\n".join(lines)


def as_json(settings: TuneSettings, expected: Estimate | None, result: TuneResult) -> dict[str, object]:
    """Return everything as JSON values.

    Args:
        settings: the run.
        expected: the estimate, where one was made.
        result: of the run.
    """
    return {
        "settings": settings.to_json(),
        "estimate": None if expected is None else dict(_plain_items(expected)),
        "result": dict(_plain_items(result)),
    }


def _plain_items(record: Estimate | TuneResult) -> Iterator[tuple[str, object]]:
    for item in dataclasses.fields(record):
        if item.name == "pictures":  # to be looked at in the report
            continue
        yield item.name, _plain(getattr(record, item.name))


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return value
