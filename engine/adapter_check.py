"""Is an adapter file whole, and does it fit a model and a raster? All of it is asked, not only up to the first no."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ..models.errors import RasterError, SamTuneError
from ..models.peft.adapter_card import AdapterCard, read_card
from .adapters import AdapterService, level_of, warnings
from .messages import RasterSpec
from .model_service import ModelService
from .progress import Progress
from .raster_source import RasterSource


class Finding(StrEnum):
    """What came of a question."""

    GOOD = "ok"
    WARNING = "warning"
    BAD = "FAILED"


@dataclass(frozen=True)
class Answer:
    """One question and what came of it.

    Attributes:
        about: what was asked about: ``file``, ``base``, ``tensors``, ``raster``.
        finding: what came of it.
        text: a sentence.
    """

    about: str
    finding: Finding
    text: str


def check_adapter(
    path: Path, models: ModelService, progress: Progress, *, model: str = "", raster: str = ""
) -> list[Answer]:
    """Ask everything about an adapter file.

    Args:
        path: of the file.
        models: gives the base.
        progress: may stop the work.
        model: name of the base to be used; empty for the one that the card names.
        raster: path or GDAL URI of a raster to be used; empty for none.

    Returns:
        At least one answer.

    Raises:
        CancelledByUser: from ``progress.check``.
    """
    try:
        card = read_card(path)
    except SamTuneError as error:
        return [Answer("file", Finding.BAD, error.user_text)]
    found = [Answer("file", Finding.GOOD, f"It is an adapter called {card.name}, its card of schema {card.schema}.")]
    found += _fit(path, card, models, progress, model or card.base.name)
    if raster:
        found += _on_raster(card, raster)
    return found


def _fit(path: Path, card: AdapterCard, models: ModelService, progress: Progress, name: str) -> Iterator[Answer]:
    try:
        base = models.get(name, progress)
    except SamTuneError as error:
        unknown = "Its tensors and methods were not checked."
        yield Answer("base", Finding.WARNING, f"{error.user_text} {unknown}")
        return
    if base.card.sha256 != card.base.sha256:
        text = f"It was tuned on {card.base.name} ({card.base.sha256[:12]}…), not on this {name}."
        yield Answer("base", Finding.BAD, f"{text} Use it with the model that it was tuned on, or tune again.")
        return
    yield Answer("base", Finding.GOOD, f"It was tuned on {name}, with the very weights that are on this machine.")
    try:
        loaded = AdapterService().get(str(path), base, progress)
        with base.using(loaded.adapter):
            pass
        with base.using(None):
            pass
    except SamTuneError as error:
        yield Answer("tensors", Finding.BAD, error.user_text)
        return
    count = sum(tensor.numel() for tensor in loaded.adapter.state_dict().values())
    yield Answer("tensors", Finding.GOOD, f"All {count:,} numbers are there, unchanged, and fit the model.")


def _on_raster(card: AdapterCard, raster: str) -> Iterator[Answer]:
    try:
        source = RasterSource(RasterSpec(raster, card.inputs.rgb))
    except RasterError as error:
        yield Answer("raster", Finding.BAD, error.user_text)
        return
    source.close()
    missing = [number for number in card.inputs.numbers() if number > len(source.info.band_names)]
    if missing:
        yield Answer("raster", Finding.BAD, f"The raster has no band {missing[0]}, which the adapter needs.")
        return
    level = level_of(card, source.info)
    texts = warnings(card, source.info, level or 0)
    for text in texts:
        yield Answer("raster", Finding.WARNING, text)
    if not texts:
        scale = "" if level is None else f" at level {level}"
        yield Answer("raster", Finding.GOOD, f"Bands and ground resolution suit it{scale}.")
    if card.inputs.second is not None:
        text = f"It needs a second raster as well: {card.inputs.second.name}."
        yield Answer("raster", Finding.WARNING, text)
