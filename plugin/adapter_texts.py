"""What the panel says about an adapter: one line, a tooltip, and what it needs that is not there. Changes nothing."""

from __future__ import annotations

import html

from qgis.PyQt.QtCore import QCoreApplication

from .adapter_files import INSTANCES, PROMPTABLE, SEMANTIC, AdapterSummary, Metric, missing_bands

translate = QCoreApplication.translate

FIRST_METRICS = ("iou", "iou_1_click")
NO_BREAK = "\N{NO-BREAK SPACE}"
MOST_CLASSES = 4
MOST_METRICS = 8
MOST_NOTES = 6


def headline(summary: AdapterSummary) -> str:
    """Return the essentials in a line: classes, objects learned from, a score before and after."""
    parts = [_classes(summary)]
    if summary.objects:
        text = translate("Adapters", "1 object") if summary.objects == 1 else translate("Adapters", "{count} objects")
        parts.append(text.format(count=summary.objects).replace(" ", NO_BREAK))
    metric = _first_metric(summary)
    if metric is not None:
        parts.append(_metric_text(metric).replace(" ", NO_BREAK))
    return " · ".join(part for part in parts if part)


def tooltip(summary: AdapterSummary) -> str:
    """Return all that the card's summary tells, as lines of HTML that hold none of the file's own."""
    lines = [summary.name, *_facts(summary)]
    lines += [_metric_text(metric) for metric in summary.metrics[:MOST_METRICS]]
    lines += summary.notes[:MOST_NOTES]
    lines.append(summary.path.name)
    first, *others = [html.escape(line) for line in lines if line]
    return "<br>".join([f"<b>{first}</b>", *others])


def purpose(summary: AdapterSummary) -> str:
    """Say what an adapter is for."""
    purposes = {
        PROMPTABLE: translate("Adapters", "For clicks and boxes"),
        INSTANCES: translate("Adapters", "Finds all objects of its classes"),
        SEMANTIC: translate("Adapters", "Makes class maps; answers no clicks"),
    }
    return str(purposes.get(summary.head, summary.head))


def task_name(summary: AdapterSummary) -> str:
    """Say what an adapter is for, in a column of a table."""
    names = {
        PROMPTABLE: translate("Adapters", "clicks"),
        INSTANCES: translate("Adapters", "find all"),
        SEMANTIC: translate("Adapters", "class map"),
    }
    return str(names.get(summary.head, summary.head))


def beside_clicks(summary: AdapterSummary) -> str:
    """Say what answers the clicks while an adapter is chosen that cannot."""
    text = translate("Adapters", "“{name}” makes class maps. Clicks are answered by the model as it is.")
    return str(text.format(name=summary.name))


def needs(summary: AdapterSummary, band_count: int, *, second: bool) -> str:
    """Say what an adapter needs that is not there, and what to do; empty when nothing is missing.

    Args:
        summary: of the adapter.
        band_count: of the raster layer.
        second: a second raster is chosen.
    """
    missing = missing_bands(summary, band_count)
    if missing:
        return str(
            translate(
                "Adapters",
                "The adapter “{name}” needs the bands {wanted}; this layer has {count}. Choose a layer with the bands "
                "that it was tuned on, or another adapter.",
            ).format(name=summary.name, wanted=_listed(summary.further), count=band_count)
        )
    if summary.second and not second:
        return str(
            translate(
                "Adapters",
                "The adapter “{name}” needs a second raster of the same ground ({second}). Choose it as “Second”.",
            ).format(name=summary.name, second=summary.second)
        )
    return ""


def metric_name(name: str) -> str:
    """Say a metric as people say it."""
    known = {
        "iou": translate("Adapters", "IoU"),
        "iou_1_click": translate("Adapters", "IoU at 1 click"),
        "iou_3_clicks": translate("Adapters", "IoU at 3 clicks"),
        "iou_box": translate("Adapters", "IoU with a box"),
        "miou": translate("Adapters", "Mean IoU"),
        "f1": translate("Adapters", "F1"),
        "precision": translate("Adapters", "Precision"),
        "recall": translate("Adapters", "Recall"),
    }
    return str(known.get(name, name))


def _classes(summary: AdapterSummary) -> str:
    names = [name for name, count in summary.classes if name and (count or not summary.objects)]
    more = "…" if len(names) > MOST_CLASSES else ""
    return ", ".join(names[:MOST_CLASSES]) + more


def _first_metric(summary: AdapterSummary) -> Metric | None:
    whole = {metric[0]: metric for metric in summary.metrics if metric[1] is not None and metric[2] is not None}
    wanted = [whole[name] for name in FIRST_METRICS if name in whole]
    return next(iter([*wanted, *whole.values()]), None)


def _metric_text(metric: Metric) -> str:
    name, before, after = metric
    if after is None:
        return ""
    if before is None:
        return f"{metric_name(name)} {after:.2f}"
    return f"{metric_name(name)} {before:.2f} → {after:.2f}"


def _facts(summary: AdapterSummary) -> list[str]:
    learned = ", ".join(f"{name} ({count})" for name, count in summary.classes[:MOST_METRICS] if count)
    facts = [translate("Adapters", "Tuned on the model {base}").format(base=summary.base), purpose(summary)]
    if learned:
        facts.append(translate("Adapters", "Learned from: {classes}").format(classes=learned))
    if summary.rgb:
        facts.append(translate("Adapters", "Bands: {bands}").format(bands=_listed(summary.rgb)))
    if summary.further:
        facts.append(translate("Adapters", "Further bands: {bands}").format(bands=_listed(summary.further)))
    if summary.second:
        facts.append(translate("Adapters", "Second raster: {name}").format(name=summary.second))
    if summary.gsd is not None:
        low, high = summary.gsd
        span = (
            f"{low:.3g}"
            if low == high
            else translate("Adapters", "{low} to {high}").format(low=f"{low:.3g}", high=f"{high:.3g}")
        )
        facts.append(translate("Adapters", "Ground: {span} m per pixel that the model sees").format(span=span))
    if summary.held_out:
        facts.append(translate("Adapters", "Objects that it was measured on: {count}").format(count=summary.held_out))
    return facts


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(str(number) for number in numbers)
