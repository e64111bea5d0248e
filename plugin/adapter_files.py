"""What the header of an adapter's file tells, read without the engine so that lists are there before it runs.

A file may come from anywhere: sizes are limited, every value is checked, texts are cut and stripped of what is no text.
Whether tensors and base fit is for the engine to find out. Standard library only.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, TypeVar

from ..models.errors import TuningError

FORMAT = "samtune-adapter"
SCHEMA = 1
SUFFIX = ".safetensors"
PROMPTABLE = "promptable"
SEMANTIC = "semantic"
INSTANCES = "instances"
USER_NOTE = "Note: "
"""What the note that the user wrote begins with; the others are SamTune's own."""

MOST_HEADER_BYTES = 8 << 20
MOST_FILES = 500
MOST_ITEMS = 256
LONGEST_TEXT = 200

Metric = tuple[str, Optional[float], Optional[float]]
Stamp = tuple[int, int]
Value = TypeVar("Value")


@dataclass(frozen=True)
class AdapterSummary:
    """What a list needs to know of an adapter.

    Attributes:
        path: of the file.
        stamp: time of change in nanoseconds, and size in bytes.
        name: as the card has it.
        base: name of the model that it was tuned on.
        head: what it answers with, such as ``promptable``.
        classes: name and number of objects that it learned from, of each class.
        colours: of the classes, in their order, as ``#rrggbb``.
        held_out: objects that it was measured on.
        metrics: name, before, after.
        rgb: bands shown to the model as a picture; empty where unknown.
        further: numbers of the other bands that it needs.
        second: the second raster that it needs, in words; empty for none.
        gsd: finest and coarsest pixel of the model's input in training, metres.
        notes: sentences of the card.
        created: time as the card has it.
    """

    path: Path
    stamp: Stamp
    name: str
    base: str
    head: str = PROMPTABLE
    classes: tuple[tuple[str, int], ...] = ()
    held_out: int = 0
    metrics: tuple[Metric, ...] = ()
    rgb: tuple[int, ...] = ()
    further: tuple[int, ...] = ()
    second: str = ""
    gsd: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    created: str = ""
    colours: tuple[str, ...] = ()

    @property
    def objects(self) -> int:
        """Return how many objects it learned from."""
        return sum(count for _name, count in self.classes)

    @property
    def answers_clicks(self) -> bool:
        """Return whether clicks and boxes can be answered with it."""
        return self.head != SEMANTIC


def read_summary(path: Path) -> AdapterSummary:
    """Read the header of an adapter's file.

    Args:
        path: of the file.

    Raises:
        TuningError: it is not there, damaged, no adapter, or of a later SamTune.
    """
    try:
        status = path.stat()
        card = _checked(dict, json.loads(_card_text(path)))
        schema = _checked(int, card.get("schema"))
        if schema <= SCHEMA:
            return _summary(path, (status.st_mtime_ns, status.st_size), card)
    except (OSError, ArithmeticError, ValueError, TypeError, KeyError, struct.error, RecursionError) as error:
        raise TuningError(
            f"{path.name} is damaged, or no adapter. Choose a file that SamTune's tuning wrote.", f"{path}: {error!r}"
        ) from error
    raise TuningError(f"{path.name} was made by a later version of SamTune. Update SamTune to use it.", str(schema))


def read_card(path: Path) -> Mapping[str, object]:
    """Read the whole card of an adapter's file, unchecked: for showing it.

    Args:
        path: of the file.

    Raises:
        TuningError: it is not there, damaged, or no adapter.
    """
    try:
        return _checked(dict, json.loads(_card_text(path)))
    except (OSError, ValueError, TypeError, struct.error, RecursionError) as error:
        raise TuningError(
            f"{path.name} cannot be read, or is no adapter. Look at its folder.", f"{path}: {error!r}"
        ) from error


def user_note(card: Mapping[str, object]) -> str:
    """Return the note that the user wrote on a card, whole; empty where there is none."""
    notes = card.get("notes")
    texts = [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
    return next((note[len(USER_NOTE) :] for note in texts if note.startswith(USER_NOTE)), "")


class AdapterFolder:
    """The adapters in a folder. Headers are read again only when a file has changed."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._known: dict[Path, tuple[Stamp, AdapterSummary | None]] = {}

    def read(self, folder: Path) -> tuple[AdapterSummary, ...]:
        """Return the adapters in a folder by name; files that are none, or cannot be read, are left out.

        Args:
            folder: need not exist.
        """
        known: dict[Path, tuple[Stamp, AdapterSummary | None]] = {}
        for path in _files(folder):
            stamp = stamp_of(path)
            if stamp is None:
                continue
            before = self._known.get(path)
            known[path] = before if before is not None and before[0] == stamp else (stamp, _read_or_none(path))
        self._known = known
        found = [summary for _stamp, summary in known.values() if summary is not None]
        return tuple(sorted(found, key=lambda summary: (summary.name.casefold(), summary.path.name)))


def stamp_of(path: Path) -> Stamp | None:
    """Return time of change and size of a file; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def missing_bands(summary: AdapterSummary, count: int) -> tuple[int, ...]:
    """Return the further bands that an adapter needs and a raster with ``count`` bands does not have."""
    return tuple(number for number in summary.further if number > count)


def _files(folder: Path) -> list[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and not path.name.startswith("."))
    except OSError:
        return []  # no folder: no adapters
    return [path for path in found[:MOST_FILES] if path.is_file()]


def _read_or_none(path: Path) -> AdapterSummary | None:
    try:
        return read_summary(path)
    except TuningError:
        return None


def _card_text(path: Path) -> str:
    """Return the card's text: safetensors begins with the header's length in eight bytes, then JSON."""
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > MOST_HEADER_BYTES:
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(stream.read(length))
    facts = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise ValueError("its header is another one")
    return _checked(str, facts.get("card"))


def _summary(path: Path, stamp: Stamp, card: Mapping[str, object]) -> AdapterSummary:
    inputs, ground = _mapping(card, "inputs"), _mapping(card, "ground")
    second = _mapping(inputs, "second")
    further = [_checked(int, band["number"]) for band in _objects(inputs, "bands")]
    return AdapterSummary(
        path=path,
        stamp=stamp,
        name=clean(_checked(str, card["name"])) or path.stem,
        base=clean(_checked(str, _mapping(card, "base")["name"])),
        head=clean(_checked(str, card["head"])),
        classes=tuple(
            (clean(_checked(str, found["name"])), max(0, _checked(int, found.get("objects", 0))))
            for found in _objects(card, "classes")
        ),
        held_out=max(0, _checked(int, _mapping(card, "training").get("held_out", 0))),
        metrics=tuple(
            (clean(_checked(str, found["name"])), _number(found.get("frozen")), _number(found.get("tuned")))
            for found in _objects(card, "metrics")
        ),
        rgb=tuple(_checked(int, number) for number in _items(inputs, "rgb")),
        further=tuple(dict.fromkeys(number for number in further if number > 0)),
        second=(clean(_checked(str, second["name"])) or "?") if second else "",
        gsd=_span(ground.get("gsd")),
        notes=tuple(clean(_checked(str, note)) for note in _items(card, "notes")),
        created=clean(_checked(str, card.get("created", ""))),
        colours=tuple(_colour(_items(found, "colour")) for found in _objects(card, "classes")),
    )


def _colour(parts: list[object]) -> str:
    """Return red, green and blue as ``#rrggbb``; grey where they are no such."""
    known = [part for part in parts if isinstance(part, int) and 0 <= part <= 255]
    return "#{:02x}{:02x}{:02x}".format(*known) if len(known) == len(parts) == 3 else "#808080"


def clean(text: str) -> str:
    """Return a text of a file as one line that can be shown: printable characters only, not too long."""
    shown = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return shown if len(shown) <= LONGEST_TEXT else f"{shown[: LONGEST_TEXT - 1]}…"


def _checked(kind: type[Value], value: object) -> Value:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _number(value: object) -> float | None:
    """Return a number that can be shown; what is none (``null``, or ``"nan"`` as cards have it) is None."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _span(value: object) -> tuple[float, float] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    low, high = _number(value[0]), _number(value[1])
    return None if low is None or high is None else (low, high)


def _mapping(values: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = values.get(name)
    return _checked(dict, found) if found is not None else {}


def _items(values: Mapping[str, object], name: str) -> list[object]:
    return _checked(list, values.get(name, []))[:MOST_ITEMS]


def _objects(values: Mapping[str, object], name: str) -> Iterable[Mapping[str, object]]:
    return [_checked(dict, item) for item in _items(values, name)]
