"""What a request to the segmenter is made of on its way: model, raster, what was read, and what was found."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import outlines
from .adapters import LoadedAdapter, warnings
from .crops import Crop
from .further_inputs import FurtherInputs
from .ground import aspect
from .messages import Empty, OutlineOptions, SegmentParams, SegmentResult
from .placing import Place
from .progress import Progress
from .prompting import Answer, Doubt, PromptList
from .raster_source import RasterSource
from .store import EmbeddingKey
from .store_files import StoredCrop

if TYPE_CHECKING:
    from ..models.promptable import PromptableModel

DOUBTS: dict[Doubt, str] = {
    Doubt.EMPTY: "The model finds no object here. Click nearer to the object's middle, or draw a box around it.",
    Doubt.WHOLE: "The model sees no border in this view. Choose a coarser level to show it more, or draw a box.",
    Doubt.UNSURE: "The model is not sure of any object here. Draw a box around it, or try another level.",
}
EMPTY_BOX = "The model finds no object in this box. Click the object's middle as well, or try another level."
CORRECTED_AWAY = "Nothing is left after this click. Undo it and click elsewhere."


@dataclass
class Work:
    """What one request needs all along.

    Attributes:
        seconds: time spent per step.
    """

    source: RasterSource
    model: PromptableModel
    adapter: LoadedAdapter | None
    further: FurtherInputs | None
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, fraction: float, message: str) -> Iterator[None]:
        """Check for a cancel, report, and time what the block does."""
        self.progress.check()
        self.progress.report(fraction, message)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    @contextmanager
    def adapted(self) -> Iterator[None]:
        """Have the model compute with the request's adapter, or without any."""
        with self.model.using(self.adapter.adapter if self.adapter else None):
            yield

    def notes(self, level: int) -> tuple[str, ...]:
        """Say what speaks against the request's adapter on this raster at this level."""
        return warnings(self.adapter.card, self.source.info, level) if self.adapter else ()

    def counting_check(self, message: str, start: float, end: float, steps: int) -> Callable[[], None]:
        """Return a check for a cancel, to be called before each of ``steps`` steps, that reports how far they are."""
        begun = itertools.count()

        def check() -> None:
            self.progress.check()
            done = next(begun)
            if done:
                self.progress.report(start + (end - start) * min(done / max(steps, 1), 1.0), message)

        return check


@dataclass(frozen=True)
class Picture:
    """(S, S, 3) uint8 RGB and (S, S) bool."""

    image: NDArray[np.uint8]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """An embedding, where it came from, and its key."""

    crop: StoredCrop
    source: str
    digest: str


@dataclass(frozen=True)
class Asked:
    """A request for an outline that is placed, and perhaps read: see :meth:`.segmenter.Segmenter.ask`."""

    params: SegmentParams
    work: Work
    place: Place
    picture: Picture | None


@dataclass(frozen=True)
class Looked:
    """A crop that is to be encoded: see :meth:`.segmenter.Segmenter.look`."""

    work: Work
    crop: Crop
    picture: Picture | None


@dataclass(frozen=True)
class Answered:
    """A request after :meth:`.segmenter.Segmenter.answer`; without an embedding the model has not answered it."""

    asked: Asked
    found: Found | None
    answer: Answer | None


def embedding_key(
    source: RasterSource,
    model: PromptableModel,
    adapter: LoadedAdapter | None,
    further: FurtherInputs | None,
    crop: Crop,
) -> EmbeddingKey:
    """Return what a crop's embedding depends on, under which it is in the store.

    Args:
        source: the raster.
        model: the base.
        adapter: in use; None for the base alone.
        further: what the adapter sees besides the picture.
        crop: of the raster.
    """
    encoder = adapter.encoder if adapter else ""
    if encoder and further:
        encoder += further.digest
    card = model.card
    return EmbeddingKey.of(source.info.fingerprint, source.info.spec, crop, card.sha256 or card.name, encoder)


def key_of(work: Work, crop: Crop) -> EmbeddingKey:
    """Return the key of a crop's embedding in a request."""
    return embedding_key(work.source, work.model, work.adapter, work.further, crop)


def input_size_of(work: Work) -> int:
    """Return the side of the square that the request's model sees, pixels."""
    return work.model.card.input_size


def covered(crop: StoredCrop) -> NDArray[np.bool_]:
    """Bring validity to the grid of the logits, a quarter of the input: a cell with any data counts."""
    cells = 4 * crop.embedding.shape[1]
    if crop.valid is None:
        return np.ones((cells, cells), bool)
    share = len(crop.valid) // cells
    return np.asarray(crop.valid.reshape(cells, share, cells, share).any(axis=(1, 3)))


def why(doubt: Doubt, prompts: PromptList) -> str:
    """Say why there is no outline."""
    if prompts.shorter is not None:
        return CORRECTED_AWAY
    return EMPTY_BOX if prompts.box else DOUBTS[doubt]


def without_outline(empty: Empty, place: Place, work: Work, source: str, message: str) -> SegmentResult:
    """Answer that there is no outline."""
    return SegmentResult(
        empty=empty,
        wkb="",
        score=0.0,
        area=0.0,
        touches_edge=False,
        level=place.frame.crop.level,
        crop=place.frame.corners,
        source=source,
        seconds=work.seconds,
        message=message,
        adapter=work.adapter.card.name if work.adapter else "",
        notes=work.notes(place.frame.crop.level),
    )


def outline_of(answer: Answer, found: Found, place: Place, work: Work, options: OutlineOptions) -> SegmentResult:
    """Answer with the outline of a mask."""
    frame, size = place.frame, place.frame.crop.size
    cell = size / answer.logits.shape[1]
    points = place.prompts.points
    prompts = outlines.InputPrompts(
        np.array([point[:2] for point in points if point[2]]).reshape(-1, 2),
        np.array([point[:2] for point in points if not point[2]]).reshape(-1, 2),
        place.prompts.box,
    )
    with work.step("outline", 0.95, "Tracing the outline"):
        traced = outlines.clip_to_valid(outlines.trace(answer.logits, size), frame, found.crop.valid)
        kept = outlines.select_parts(traced, prompts, cell)
        flat = aspect(work.source.info.crs_wkt, float(np.mean([y for _, y in frame.corners])))
        clicks = outlines.Clicks(prompts, outlines.CLICK_TOLERANCE * cell)
        ground = outlines.to_map(kept, frame, options, clicks, flat)
    if ground.is_empty:
        return without_outline(Empty.NOTHING, place, work, found.source, why(Doubt.EMPTY, place.prompts))
    return SegmentResult(
        empty=Empty.NONE,
        wkb=ground.wkb_hex,
        score=answer.score,
        area=float(ground.area),
        touches_edge=outlines.touches_edge(kept, frame, cell),
        level=frame.crop.level,
        crop=frame.corners,
        source=found.source,
        seconds=work.seconds,
        adapter=work.adapter.card.name if work.adapter else "",
        notes=work.notes(frame.crop.level),
    )
