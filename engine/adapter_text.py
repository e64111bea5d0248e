"""An adapter's card laid out for reading. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from ..models.card import JsonValue
from ..models.peft.adapter_card import AdapterCard
from ..models.peft.card_records import BandRecord, HeadKind
from .area_messages import CompareResult

_ANSWERS = {
    HeadKind.PROMPTABLE: "clicks and boxes",
    HeadKind.SEMANTIC: "class maps",
    HeadKind.INSTANCES: "finds all objects",
}
_MOST_BANDS = 12
_PROJECTIONS = "projections"
"""A setting whose values are the places of q, k and v in SAM's fused layer."""

_WKT_NAME = re.compile(r'\w+\["([^"]+)"')

_Row = tuple[str, str]


def as_text(card: AdapterCard, size_bytes: int = 0) -> str:
    """Lay a card out.

    Args:
        card: of the adapter.
        size_bytes: of its file; 0 leaves it out.

    Returns:
        Lines without a trailing line end.
    """
    rows = list(_rows(card, size_bytes))
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    if card.metrics:
        figures = [(metric.name, metric.frozen, metric.tuned) for metric in card.metrics]
        lines += ["", *before_and_after(figures)]
    return "\n".join(lines)


def before_and_after(figures: Sequence[tuple[str, float | None, float | None]]) -> list[str]:
    """Return a table of figures of the base and with the adapter.

    Args:
        figures: name, before, after; None where a figure cannot be had.
    """
    width = max(len("on the hold-out"), *(len(name) for name, _, _ in figures))
    lines = [f"{'on the hold-out':<{width}}  before   after    gain"]
    for name, before, after in figures:
        gain = f"{after - before:+.3f}" if before is not None and after is not None else "-"
        lines.append(f"{name:<{width}}  {_figure(before):>6}  {_figure(after):>6}  {gain:>6}")
    return lines


def compared_text(result: CompareResult) -> list[str]:
    """Lay a comparison of two adapters out: the sentence, then a table.

    Args:
        result: of the comparison.
    """
    titles = [f"{row.title}, {row.group}" if row.group else row.title for row in result.figures]
    width = max((len(title) for title in titles), default=0)
    lines = [result.sentence, "", f"{'':<{width}}   first  second  difference"]
    for title, row in zip(titles, result.figures, strict=True):
        change = f"{row.after - row.before:+.3f} ({row.low:+.3f} to {row.high:+.3f})"
        lines.append(f"{title:<{width}}  {row.before:6.3f}  {row.after:6.3f}  {change}")
    return [*lines, *result.notes]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _rows(card: AdapterCard, size_bytes: int) -> Iterator[_Row]:
    size = f", {size_bytes / 1e6:.2f} MB" if size_bytes else ""
    yield "adapter", f"{card.name}{size}"
    yield "for", f"{card.base.name} (weights {card.base.sha256[:12]}…, {card.base.licence})"
    yield "answers", _ANSWERS[card.head]
    for part in card.parts:
        yield "method", method_text(part)
    yield from _input_rows(card)
    yield from _ground_rows(card)
    for found in card.classes:
        yield "class", f"{found.value} {found.name}, {found.objects} objects"
    yield from _training_rows(card)
    yield "made", f"{card.created} by SamTune {card.plugin_version}"
    for note in card.notes:
        yield "note", note


def method_text(part: Mapping[str, JsonValue], hidden: Collection[str] = ()) -> str:
    """Return a method with its settings, such as ``lora (rank 4, alpha 4.0)``.

    Args:
        part: its configuration as the card has it.
        hidden: settings that are not worth telling.
    """
    told = {name: value for name, value in part.items() if name not in {"method", *hidden}}
    settings = ", ".join(f"{name} {_value(name, value)}" for name, value in told.items())
    return f"{part.get('method')} ({settings})" if settings else str(part.get("method"))


def _value(name: str, value: JsonValue) -> str:
    if isinstance(value, list):
        return "+".join(_value(name, item) for item in value) or "none"
    if name == _PROJECTIONS and isinstance(value, int):
        return "qkv"[value : value + 1]
    return str(value)


def _input_rows(card: AdapterCard) -> Iterator[_Row]:
    inputs = card.inputs
    stretch = ", ".join(f"{low:g} to {high:g}" for low, high in inputs.stretch)
    yield "sees", f"bands {_listed(inputs.rgb) or 'unknown'}" + (f", stretched from {stretch}" if stretch else "")
    if inputs.bands:
        named = [_band(band) for band in inputs.bands[:_MOST_BANDS]]
        more = f" and {len(inputs.bands) - _MOST_BANDS} more" if len(inputs.bands) > _MOST_BANDS else ""
        yield "besides", f"bands {', '.join(named)}{more}"
    if inputs.second is not None:
        yield "second", f"{inputs.second.name}, band {_listed(inputs.second.bands)} of a second raster"


def _band(band: BandRecord) -> str:
    if not band.number:
        return band.name or band.formula
    return f"{band.number} ({band.name})" if band.name else str(band.number)


def _ground_rows(card: AdapterCard) -> Iterator[_Row]:
    ground = card.ground
    if ground.gsd is not None:
        low, high = ground.gsd
        yield "ground", (f"{low:.3g} m" if low == high else f"{low:.3g} to {high:.3g} m") + " per pixel of the input"
    if ground.extent is not None:
        crs = f" in {_crs_name(ground.crs)}" if ground.crs else ""
        yield "area", ", ".join(f"{side:.7g}" for side in ground.extent) + crs


def _crs_name(crs: str) -> str:
    """Return the name in a WKT; an authority's code as it is."""
    found = _WKT_NAME.match(crs)
    return found.group(1) if found else crs


def _training_rows(card: AdapterCard) -> Iterator[_Row]:
    training = card.training
    if not training.steps:
        return
    seeds = f", seed {_listed(training.seeds)}" if training.seeds else ""
    device = f" on {training.device}" if training.device else ""
    yield "trained", f"{training.steps} steps in {duration(training.seconds)}{device}{seeds}"
    yield "from", f"{training.samples} samples, {training.held_out} held out"
    if training.split:
        yield "split", training.split
    if training.loss:
        yield "loss", training.loss


def duration(seconds: float) -> str:
    """Return a time in words: ``40 s``, ``6 min``, ``2.5 h``.

    Args:
        seconds: 0 or more.
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def memory(size: int) -> str:
    """Return an amount of memory in words: ``300 MB``, ``2.5 GB``.

    Args:
        size: bytes.
    """
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in numbers)
