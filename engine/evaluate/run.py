"""An evaluation from labelled rasters to a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ..messages import RasterSpec
from ..progress import Progress
from ..raster_source import RasterSource
from .figures import Report, calibration, summarise
from .labels import Labelled, Target
from .protocol import Answerer, Outcome, Plan, measure


@dataclass(frozen=True)
class Selection:
    """Which objects are measured.

    Attributes:
        most: objects in all, drawn evenly by chance over the images; 0 for every one.
        bands: band numbers shown to the model; empty for each raster's defaults.
        seed: of the draw.
    """

    most: int = 0
    bands: tuple[int, ...] = ()
    seed: int = 0


def evaluate(
    pairs: Sequence[Labelled],
    answerer: Callable[[RasterSource], Answerer],
    plan: Plan,
    selection: Selection,
    progress: Progress,
) -> list[Outcome]:
    """Measure every (selected) object.

    Args:
        pairs: rasters with labels.
        answerer: makes what is measured, for one open raster.
        plan: what to measure.
        selection: which objects.
        progress: told about every object; asked between prompts whether to stop.

    Returns:
        One outcome per object, in the order of the files.

    Raises:
        SamTuneError: a raster or its labels cannot be read.
        CancelledByUser: the progress wants no more.
    """
    share = _share(pairs, selection)
    rng = np.random.default_rng(selection.seed)
    outcomes: list[Outcome] = []
    for index, pair in enumerate(pairs):
        chosen = [target for target in pair.targets() if share >= 1 or rng.random() < share]
        if not chosen:
            continue
        source = RasterSource(RasterSpec(str(pair.raster), selection.bands))
        try:
            measured = answerer(source)
            for target in chosen:
                progress.report(index / len(pairs), f"{pair.raster.name}: {len(outcomes)} objects so far")
                outcomes.append(_one(measured, target, plan, pair, len(outcomes), progress))
        finally:
            source.close()
    return outcomes


def _one(answerer: Answerer, target: Target, plan: Plan, pair: Labelled, number: int, progress: Progress) -> Outcome:
    return measure(
        answerer,
        target.mask,
        plan,
        image=pair.raster.name,
        label=target.label,
        number=number,
        check=progress.check,
    )


def _share(pairs: Sequence[Labelled], selection: Selection) -> float:
    if not selection.most:
        return 1.0
    count = sum(1 for pair in pairs for _ in pair.targets())
    return selection.most / max(count, 1)


def report(outcomes: Sequence[Outcome], plan: Plan, *, seed: int = 0, objects: bool = False) -> Report:
    """Return the figures, the calibration of predicted IoU, the plan and, if asked, every object."""
    found = summarise(outcomes, seed, counted=plan.count_clicks)
    fit = calibration(outcomes)
    if fit:
        found["calibration"] = fit
    found["plan"] = asdict(plan)
    if objects:
        found["each"] = [asdict(outcome) for outcome in outcomes]
    return found
