"""A whole card as a page to read, and what speaks against an adapter on the current layer. Changes nothing."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping

from qgis.core import QgsProject
from qgis.PyQt.QtCore import QCoreApplication

from .adapter_files import AdapterSummary, clean
from .adapter_texts import metric_name, needs, purpose, task_name
from .map_frame import metres_per_unit
from .session import Session
from .status import size_text

translate = QCoreApplication.translate

MOST_LINES = 400
DEEPEST = 6
TOO_COARSE = 2.0
"""A layer's pixels may be this many times as wide as the coarsest of the training."""


def card_page(summary: AdapterSummary, card: Mapping[str, object], warnings: tuple[str, ...]) -> str:
    """Return the card as HTML that holds none of the file's own.

    Args:
        summary: of the adapter.
        card: as read from the file; may hold anything.
        warnings: what speaks against using it here, as sentences.
    """
    parts = [f"<h3>{html.escape(summary.name)}</h3>", f"<p>{html.escape(purpose(summary))}</p>"]
    parts += [f"<p><b>⚠ {html.escape(text)}</b></p>" for text in warnings]
    parts.append(_scores(summary))
    parts.append(_classes(summary))
    parts += [f"<p>{html.escape(note)}</p>" for note in summary.notes]
    parts.append(f"<h4>{translate('AdapterCard', 'The whole card')}</h4><table cellspacing='0' cellpadding='2'>")
    for number, (depth, name, value) in enumerate(_lines(card, 0)):
        if number >= MOST_LINES:
            parts.append("<tr><td>…</td></tr>")
            break
        indent = "&nbsp;" * 4 * depth
        parts.append(f"<tr><td>{indent}{html.escape(name)}</td><td>&nbsp;{html.escape(value)}</td></tr>")
    parts.append("</table>")
    return "".join(parts)


def facts(summary: AdapterSummary) -> tuple[str, ...]:
    """Return name, base, task, classes, objects, score, ground, size and date, for a row of a table."""
    whole = [metric for metric in summary.metrics if metric[2] is not None]
    score = ""
    if whole:
        _name, before, after = whole[0]
        score = f"{after:.2f}" if before is None else f"{before:.2f} → {after:.2f}"
    return (
        summary.name,
        summary.base,
        task_name(summary),
        ", ".join(name for name, _count in summary.classes),
        str(summary.objects or ""),
        score,
        ground_text(summary),
        size_of(summary),
        summary.created[:10],
    )


def ground_text(summary: AdapterSummary) -> str:
    """Return the ground resolution of the training, metres per pixel."""
    if summary.gsd is None:
        return ""
    low, high = summary.gsd
    if low == high:
        return f"{low:.3g} m"
    return str(translate("AdapterCard", "{low} to {high} m").format(low=f"{low:.3g}", high=f"{high:.3g}"))


def size_of(summary: AdapterSummary) -> str:
    """Return the size of the file, for people."""
    size = summary.stamp[1]
    return size_text(size) if size >= 1 << 20 else f"{max(1, round(size / 1024))} KiB"


def against_layer(summary: AdapterSummary, session: Session, project: QgsProject) -> tuple[str, ...]:
    """Say what speaks against an adapter with the session's model and layer, from its card alone.

    Args:
        summary: of the adapter.
        session: the state.
        project: for lengths on the ground.
    """
    found = []
    if summary.base != session.model:
        text = translate("AdapterCard", "It was tuned on the model {base}; {model} is chosen in the panel.")
        found.append(text.format(base=summary.base, model=session.model))
    if session.layer is None or session.layer_problem:
        return tuple(found)
    count = session.layer.bandCount()
    missing = needs(summary, count, second=True)
    if missing:
        found.append(missing)
    if any(band > count for band in summary.rgb):
        text = translate("AdapterCard", "It learned from the bands {bands}; “{layer}” has {count}.")
        bands = ", ".join(str(band) for band in summary.rgb)
        found.append(text.format(bands=bands, layer=session.layer.name(), count=count))
    pixel = _pixel_metres(session, project)
    if summary.gsd is not None and pixel > TOO_COARSE * summary.gsd[1]:
        text = translate(
            "AdapterCard", "“{layer}” is coarser ({pixel:.3g} m per pixel) than what it learned from ({ground})."
        )
        found.append(text.format(layer=session.layer.name(), pixel=pixel, ground=ground_text(summary)))
    return tuple(found)


def _pixel_metres(session: Session, project: QgsProject) -> float:
    """Return the side of the layer's pixel on the ground, metres; 0 where that is not known."""
    layer = session.layer
    if layer is None or not layer.crs().isValid():
        return 0.0
    units = (layer.rasterUnitsPerPixelX() * layer.rasterUnitsPerPixelY()) ** 0.5
    return float(units * metres_per_unit(layer.crs(), layer.extent().center(), project))


def _scores(summary: AdapterSummary) -> str:
    rows = [
        f"<tr><td>{html.escape(metric_name(name))}</td><td>{_shown(before)}</td><td>{_shown(after)}</td></tr>"
        for name, before, after in summary.metrics
    ]
    if not rows:
        return ""
    heads = (
        translate("AdapterCard", "On the hold-out"),
        translate("AdapterCard", "before"),
        translate("AdapterCard", "after"),
    )
    head = "".join(f"<th align='left'>{text}&nbsp;&nbsp;</th>" for text in heads)
    return f"<table cellpadding='2'><tr>{head}</tr>{''.join(rows)}</table>"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _classes(summary: AdapterSummary) -> str:
    if not summary.classes:
        return ""
    learned = ", ".join(f"{name} ({count})" for name, count in summary.classes)
    text = translate("AdapterCard", "Learned from: {classes}").format(classes=learned)
    return f"<p>{html.escape(text)}</p>"


def _lines(value: object, depth: int, name: str = "") -> Iterator[tuple[int, str, str]]:
    """Give the lines of a nested value: depth, name, text."""
    if isinstance(value, Mapping):
        if name:
            yield depth, name, ""
        for key, item in value.items():
            if depth <= DEEPEST:
                yield from _lines(item, depth + bool(name), clean(str(key)))
    elif isinstance(value, list) and any(isinstance(item, (Mapping, list)) for item in value):
        yield depth, name, ""
        for number, item in enumerate(value, 1):
            if depth <= DEEPEST:
                yield from _lines(item, depth + 1, str(number))
    elif isinstance(value, list):
        yield depth, name, clean(", ".join(str(item) for item in value))
    else:
        yield depth, name, clean("" if value is None else str(value))
