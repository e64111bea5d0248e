"""What a run leaves in its folder: settings, command, split as a map layer, scores, and a plot of its curves."""

from __future__ import annotations

import csv
import html
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyogrio.raw
import shapely

from ...models.card import JsonValue
from ...models.errors import OutputError
from .dataset import Dataset
from .settings import TuneSettings
from .split import Split

_WIDE, _HIGH, _MARGIN = 720, 260, 48
_COLOURS = ("#1b6ca8", "#c8553d", "#3b7d4f", "#8a5fa8", "#b8860b", "#555555")
_TRAINING = ("loss", "point", "box", "corrected")


def write_start(folder: Path, settings: TuneSettings, dataset: Dataset, parted: Split) -> None:
    """Write ``settings.json``, ``command.txt`` and ``split.gpkg``.

    Args:
        folder: of the run; it is made if absent.
        settings: the run.
        dataset: the labelled ground.
        parted: who learns and who measures.

    Raises:
        OutputError: the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(folder / "settings.json", settings.to_json())
        (folder / "command.txt").write_text(settings.command + "\n", encoding="utf-8")
        _write_split(folder / "split.gpkg", dataset, parted)
    except OSError as error:
        raise _unwritable(folder, error) from error


def write_end(folder: Path, scores: Mapping[str, JsonValue]) -> None:
    """Write ``scores.json`` and ``curves.svg``.

    Args:
        folder: of the run.
        scores: before, after and verdict.

    Raises:
        OutputError: the folder cannot be written to.
    """
    try:
        _write_json(folder / "scores.json", dict(scores))
        (folder / "curves.svg").write_text(curves_svg(folder), encoding="utf-8")
    except OSError as error:
        raise _unwritable(folder, error) from error


def curves_svg(folder: Path) -> str:
    """Draw what a run logged: its training, and the hold-out; where parts were held out in turn, the mean over those.

    Args:
        folder: of the run.
    """
    training = _columns(folder / "training.csv")
    upper = {name: training[name] for name in ("step", *_TRAINING) if name in training}
    parts = [_columns(path) for path in sorted(folder.glob("part-*/validation.csv"))]
    validation = _mean_columns(parts) if parts else _columns(folder / "validation.csv")
    plots = [("training", upper), ("hold-out", validation)]
    return _svg([(title, columns) for title, columns in plots if len(columns.get("step", ())) > 0])


def _mean_columns(parts: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    """Return the mean over several logs, at the steps and of the figures that all of them have."""
    steps = sorted(set.intersection(*(set(part.get("step", ())) for part in parts)))
    names = [name for name in parts[0] if name != "step" and all(name in part for part in parts)]
    found = {"step": steps}
    for name in names:
        values = [dict(zip(part["step"], part[name], strict=True)) for part in parts]
        found[name] = [float(np.mean([one[step] for one in values])) for step in steps]
    return found


def _unwritable(folder: Path, error: OSError) -> OutputError:
    text = f"The run's records could not be written to {folder}. Make room there, or choose another output."
    return OutputError(text, str(error))


def _write_json(path: Path, values: Mapping[str, JsonValue]) -> None:
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def _write_split(path: Path, dataset: Dataset, parted: Split) -> None:
    """Write the blocks of ground as polygons with their side and number of objects, in the first raster's CRS."""
    path.unlink(missing_ok=True)
    geometry = np.array([shapely.to_wkb(block.geometry) for block in parted.blocks], object)
    side = np.array(["hold-out" if block.held_out else "training" for block in parted.blocks], object)
    count = np.array([len(block.objects) for block in parted.blocks], np.int64)
    pyogrio.raw.write(
        path,
        geometry,
        [side, count],
        ["side", "objects"],
        driver="GPKG",
        layer="blocks",
        geometry_type="Polygon",
        crs=dataset.crs[0] or None,
    )


def _columns(path: Path) -> dict[str, list[float]]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {name: [float(row[name] or "nan") for row in rows] for name in rows[0]} if rows else {}


def _svg(plots: list[tuple[str, dict[str, list[float]]]]) -> str:
    """Draw each plot's columns over its steps. By hand: a plotting library would be the only use of itself."""
    body = [_panel(title, columns, index * _HIGH) for index, (title, columns) in enumerate(plots)]
    high = max(len(plots), 1) * _HIGH
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDE}" height="{high}" font-family="sans-serif">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *body, "</svg>\n"])


def _panel(title: str, columns: Mapping[str, list[float]], top: int) -> str:
    steps = np.array(columns["step"])
    lines = {name: np.array(values) for name, values in columns.items() if name != "step"}
    finite = np.concatenate([values[np.isfinite(values)] for values in lines.values()] or [np.zeros(1)])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    reach = (high - low) or 1.0
    last = max(float(steps.max()), 1.0)
    parts = [
        f'<text x="{_MARGIN}" y="{top + 16}" font-size="13">{html.escape(title)}</text>',
        f'<text x="4" y="{top + 32}" font-size="10">{high:.3g}</text>',
        f'<text x="4" y="{top + _HIGH - 24}" font-size="10">{low:.3g}</text>',
        f'<text x="{_WIDE - 90}" y="{top + _HIGH - 8}" font-size="10">step {last:.0f}</text>',
    ]
    for index, (name, values) in enumerate(lines.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        known = np.isfinite(values)
        x = _MARGIN + steps[known] / last * (_WIDE - 2 * _MARGIN)
        y = top + _HIGH - 28 - (values[known] - low) / reach * (_HIGH - 56)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
        place = _MARGIN + 90 + index * 110
        parts.append(f'<text x="{place}" y="{top + 16}" font-size="11" fill="{colour}">{html.escape(name)}</text>')
    return "\n".join(parts)
