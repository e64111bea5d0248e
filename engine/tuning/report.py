"""What came of a run, for the user: the message, and a page that says the same without network or other files."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import shapely

from ...models.errors import OutputError
from ..tune_messages import FigureRow, Parting, Picture, TuneReport
from .dataset import Dataset
from .records import curves_svg
from .result import TuneResult, Verdict
from .settings import TuneSettings
from .split import Split

REPORT = "report.html"
"""The page in a run's folder."""

FEW = 5
"""Held-out objects below which a gain is said with a doubt."""

_PARTING = {
    Parting.BLOCKS: "some blocks of ground were held out",
    Parting.EACH_BLOCK: "every block of ground was held out once",
    Parting.NONE: "nothing was held out",
}
_REACH = 10
"""Times as many objects as were measured, at most, are worth being named as what a proof takes."""

_WIDE = 480
_STYLE = """
body { font: 15px/1.45 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; } td, th { padding: .2em .8em .2em 0; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { display: inline-block; margin: 0 1em 1em 0; width: 224px; } figcaption { font-size: 13px; }
.verdict { font-size: 1.2em; padding: .6em 1em; border-left: 6px solid #888; background: #f4f4f4; }
.better { border-color: #3b7d4f; } .not { border-color: #c8553d; }
pre { white-space: pre-wrap; background: #f4f4f4; padding: .6em; }
"""


def verdict_text(result: TuneResult) -> str:
    """Return a sentence on whether the adapter is worth using.

    Args:
        result: of the run.
    """
    if result.verdict is Verdict.NOT_MEASURED or result.gain is None or result.after is None:
        return "Not measured: nothing was held out. Check the adapter by eye before you rely on it."
    mean, low, high = result.gain
    found = f"{mean:+.3f} (95 % interval {low:+.3f} to {high:+.3f}, {result.after.objects} held out)"
    if result.verdict is Verdict.BETTER:
        doubt = " So few say little: look at the outlines yourself." if result.after.objects < FEW else ""
        return f"Better than the base on ground it never saw: {found}.{doubt}"
    if low > 0 and not result.follows:
        return (
            f"Not better than the base: the figure rose by {found}, but the answers fit labels of other places as well "
            "as their own. What was learnt is a usual shape or class, not these objects. See that the labels lie where "
            "the objects are and have the right classes, or label more."
        )
    wanted = _objects_wanted(result.gain, result.after.objects)
    if result.follows and wanted is not None:
        return (
            f"Not proven better than the base on ground it never saw: {found}, which may be chance. If the gain is "
            f"real, about {wanted} objects held out would show it. Label more, or look at the outlines yourself."
        )
    return f"Not better than the base on ground it never saw: {found}. Label more objects, or try another method."


def _objects_wanted(gain: tuple[float, float, float], measured: int) -> int | None:
    """Return how many objects would lift the interval of such a gain above 0; None where that is out of reach.

    The interval narrows with the square root of the number of objects.
    """
    mean, low, _ = gain
    wanted = math.ceil(measured * ((mean - low) / mean) ** 2) + 1 if mean > 0 else 0
    return wanted if measured < wanted <= _REACH * measured else None


def report_of(settings: TuneSettings, result: TuneResult) -> TuneReport:
    """Return the message about a finished run.

    Args:
        settings: of the run.
        result: what came of it.
    """
    return TuneReport(
        adapter=str(result.path),
        folder=str(result.folder),
        verdict=result.verdict.value,
        sentence=verdict_text(result),
        figures=result.figures,
        general=result.general,
        parting=result.parting,
        held_out=0 if result.after is None else result.after.objects,
        pictures=result.pictures,
        steps=result.steps,
        seconds=result.seconds,
        report=str(result.folder / REPORT),
        command=settings.command,
        notes=result.notes,
    )


def write_report(report: TuneReport, settings: TuneSettings, dataset: Dataset, parted: Split) -> None:
    """Write ``report.html`` into the run's folder, in one step.

    Args:
        report: what came of the run.
        settings: of the run.
        dataset: the labelled ground.
        parted: who learnt and who measured.

    Raises:
        OutputError: the folder cannot be written to.
    """
    path = Path(report.folder) / REPORT
    partial = path.with_suffix(".part")
    try:
        partial.write_text("\n".join(_page(report, settings, dataset, parted)), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        text = f"The report could not be written to {path.parent}. Make room there, or choose another output."
        raise OutputError(text, str(error)) from error


def _page(report: TuneReport, settings: TuneSettings, dataset: Dataset, parted: Split) -> Iterable[str]:
    name = html.escape(settings.output.stem)
    better = "better" if report.verdict == Verdict.BETTER.value else "not"
    yield f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
    yield f"<style>{_STYLE}</style></head><body>\n<h1>{name}</h1>"
    yield f'<p class="verdict {better}">{html.escape(report.sentence)}</p>'
    if report.general:
        yield f"<p>{html.escape(report.general)}</p>"
    if report.figures:
        yield "<h2>Before and after</h2>"
        yield _figures(report.figures)
    if report.pictures:
        yield "<h2>Largest gains and losses</h2>\n<p>White: the label. Orange: before. Blue: after.</p>"
        yield from (_picture(picture) for picture in report.pictures)
    yield "<h2>Curves</h2>"
    yield curves_svg(Path(report.folder))
    yield f"<h2>Split</h2>\n<p>{html.escape(_PARTING[report.parting])}: {html.escape(parted.in_words())}.</p>"
    yield _split_svg(dataset, parted)
    if report.notes:
        yield "<h2>Notes</h2>\n<ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in report.notes) + "</ul>"
    yield f"<h2>Run</h2>\n<p>{report.steps} steps, {report.seconds:.0f} s. Adapter: {html.escape(report.adapter)}</p>"
    yield f"<p>The command that repeats it:</p>\n<pre>{html.escape(report.command)}</pre>"
    yield f"<p>Settings:</p>\n<pre>{html.escape(json.dumps(settings.to_json(), indent=1, ensure_ascii=False))}</pre>"
    yield "</body></html>\n"


def _figures(figures: Sequence[FigureRow]) -> str:
    lines = [
        "<table><tr><th>figure</th><th>of</th><th>before</th><th>after</th><th>difference, 95 % interval</th></tr>"
    ]
    for row in figures:
        known = row.before >= 0
        change = f"{row.after - row.before:+.3f}" if known else ""
        if row.low or row.high:
            change += f" ({row.low:+.3f} to {row.high:+.3f})"
        cells = [f"{row.before:.3f}" if known else "", f"{row.after:.3f}", change]
        numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        lines.append(f"<tr><td>{html.escape(row.title)}</td><td>{html.escape(row.group or 'all')}</td>{numbers}</tr>")
    return "\n".join([*lines, "</table>"])


def _picture(picture: Picture) -> str:
    text = html.escape(f"{picture.kind.value}: {picture.title}")
    return (
        f'<figure><img src="data:image/png;base64,{picture.png}" alt="{text}"><figcaption>{text}</figcaption></figure>'
    )


def _split_svg(dataset: Dataset, parted: Split) -> str:
    """Draw the blocks of ground, those held out filled, with the objects' places; north is up."""
    anchors = dataset.anchors()
    bounds = shapely.union_all([block.geometry for block in parted.blocks]).bounds if parted.blocks else None
    if bounds is None:
        return ""
    left, low, right, high = bounds
    scale = _WIDE / max(right - left, high - low, 1e-9)
    parts = []
    for block in parted.blocks:
        x0, y0, x1, y1 = block.geometry.bounds
        fill = "#f3d3c8" if block.held_out else "#e3ecf4"
        parts.append(
            f'<rect x="{(x0 - left) * scale:.1f}" y="{(high - y1) * scale:.1f}" width="{(x1 - x0) * scale:.1f}" '
            f'height="{(y1 - y0) * scale:.1f}" fill="{fill}" stroke="#888"/>'
        )
    for number, (x, y) in enumerate(anchors.tolist()):
        colour = "#c8553d" if number in parted.held_out else "#1b6ca8"
        parts.append(f'<circle cx="{(x - left) * scale:.1f}" cy="{(high - y) * scale:.1f}" r="3.5" fill="{colour}"/>')
    size = f'width="{(right - left) * scale:.0f}" height="{(high - low) * scale:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>' + "".join(parts) + "</svg>"
