"""Figures of an evaluation: means over objects with bootstrap intervals, per class and per size. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from .protocol import MOST_CLICKS, TARGETS, Outcome

CLICKS = (1, 2, 3, 5)
SIZES = ((0, 32**2, "small, under 32 px"), (32**2, 96**2, "medium, 32 to 96 px"), (96**2, 1 << 62, "large, over 96 px"))
_RESAMPLES = 1000

Figures = dict[str, float]


class Report(TypedDict):
    """Figures of an evaluation, as they are written to JSON. What was not measured does not appear.

    Attributes:
        objects: how many.
        mean: means over the objects, by name of the figure.
        interval: 95 % bootstrap interval of each mean, low and high.
        classes: figures of each class, where there is more than one.
        sizes: figures of each size bin.
        calibration: see :func:`calibration`.
        plan: how it was measured.
        measured: name of the model or baseline.
        each: every object's outcome.
    """

    objects: int
    mean: Figures
    interval: dict[str, tuple[float, float]]
    classes: NotRequired[dict[str, Figures]]
    sizes: dict[str, Figures]
    calibration: NotRequired[Figures]
    plan: NotRequired[dict[str, object]]
    measured: NotRequired[str]
    each: NotRequired[list[dict[str, object]]]


def summarise(outcomes: Sequence[Outcome], seed: int = 0, *, counted: bool = True) -> Report:
    """Return the figures of some outcomes: all of them together, by class and by size.

    Args:
        outcomes: at least one.
        seed: of the bootstrap.
        counted: clicks went on until the targets were met, so that their number can be reported.

    Returns:
        The report, without plan and calibration.
    """
    interval = {name: _interval(values, seed) for name, values in _values(outcomes, counted=counted).items()}
    bins = {name: [outcome for outcome in outcomes if low <= outcome.area < high] for low, high, name in SIZES}
    sizes = {name: _figures(found, counted=counted) for name, found in bins.items() if found}
    report: Report = {
        "objects": len(outcomes),
        "mean": _figures(outcomes, counted=counted),
        "interval": interval,
        "sizes": sizes,
    }
    classes = sorted({outcome.label for outcome in outcomes})
    if len(classes) > 1:
        report["classes"] = {
            name: _figures([o for o in outcomes if o.label == name], counted=counted) for name in classes
        }
    return report


def _figures(outcomes: Sequence[Outcome], *, counted: bool) -> Figures:
    figures: Figures = {"objects": float(len(outcomes))}
    figures.update({name: float(values.mean()) for name, values in _values(outcomes, counted=counted).items()})
    return figures


def _values(outcomes: Sequence[Outcome], *, counted: bool) -> dict[str, NDArray[np.float64]]:
    """Return each figure's values over the objects that it was measured on."""
    clicked = [outcome for outcome in outcomes if outcome.ious]
    boxed = [outcome for outcome in outcomes if outcome.box is not None]
    values: dict[str, list[float]] = {}
    if clicked:
        for count in CLICKS:
            values[f"iou_{count}_click" + "s" * (count > 1)] = [outcome.after(count) for outcome in clicked]
        for share in (0.5, 0.75):
            values[f"share_over_{share}_1_click"] = [float(outcome.ious[0] >= share) for outcome in clicked]
        for target in TARGETS if counted else ():
            values[f"clicks_to_{target:.2f}"] = [float(outcome.clicks_to(target)) for outcome in clicked]
        values["boundary_f_1_click"] = [outcome.boundary or 0.0 for outcome in clicked]
    if boxed:
        values["iou_box"] = [outcome.box or 0.0 for outcome in boxed]
        if all(outcome.jittered is not None for outcome in boxed):
            values["iou_box_jittered"] = [outcome.jittered or 0.0 for outcome in boxed]
        values["share_over_0.75_box"] = [float((outcome.box or 0.0) >= 0.75) for outcome in boxed]
    return {name: np.array(found) for name, found in values.items()}


def _interval(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean over objects."""
    rng = np.random.default_rng(seed)
    means = [float(values[rng.integers(len(values), size=len(values))].mean()) for _ in range(_RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def calibration(outcomes: Sequence[Outcome], bins: int = 10) -> Figures:
    """Say how far predicted IoU is from the true one.

    Returns:
        ``expected_error``: mean over ten bins of predicted IoU, weighted by their answers, of the distance between mean
        prediction and mean truth; ``mean_absolute_error`` per answer; ``answers``.
    """
    pairs = [
        pair
        for outcome in outcomes
        for pair in (*zip(outcome.predicted, outcome.ious, strict=True), (outcome.box_predicted, outcome.box))
        if pair[0] is not None and pair[1] is not None and np.isfinite(pair[0])
    ]
    if not pairs:
        return {}
    predicted, true = np.array(pairs, float).T
    place = np.minimum((np.clip(predicted, 0, 1) * bins).astype(int), bins - 1)
    error = sum(
        abs(float(predicted[place == index].mean() - true[place == index].mean())) * float((place == index).mean())
        for index in range(bins)
        if (place == index).any()
    )
    absolute = float(np.abs(predicted - true).mean())
    return {"expected_error": error, "mean_absolute_error": absolute, "answers": float(len(pairs))}


def as_text(report: Report) -> str:
    """Lay a report out for reading: one line per figure with its interval, then classes and sizes."""
    lines = [f"{report['objects']} objects"]
    for name, (low, high) in report["interval"].items():
        lines.append(f"  {name:<24} {report['mean'][name]:7.3f}   [{low:.3f}, {high:.3f}]")
    lines += [
        _line(name, figures) for part in (report.get("classes", {}), report["sizes"]) for name, figures in part.items()
    ]
    lines.append(f"  (numbers of clicks are capped at {MOST_CLICKS})")
    return "\n".join(lines)


def _line(name: str, figures: Figures) -> str:
    shown = [
        f"{title} {figures[key]:.3f}"
        for title, key in (("1 click", "iou_1_click"), ("3 clicks", "iou_3_clicks"), ("box", "iou_box"))
        if key in figures
    ]
    return f"  {name:<24} {figures['objects']:5.0f} objects: {', '.join(shown)}"
