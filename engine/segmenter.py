"""The service behind ``raster/open``, ``crop/prepare`` and ``segment``: joins raster, store, model and outlines.

Requests are stateless; what is remembered between them (open rasters, embeddings, decoder answers) only saves time.
"""

from __future__ import annotations

import base64
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..models.errors import RasterError
from . import outlines
from .adapters import AdapterService, LoadedAdapter, refuse_without_prompts, warnings
from .crops import Crop, CropFrame, crop_at
from .further_inputs import FurtherInputs, FurtherInputsKeeper
from .ground import aspect
from .messages import (
    Empty,
    OutlineOptions,
    PrepareParams,
    PrepareResult,
    RasterInfo,
    RasterSpec,
    SegmentParams,
    SegmentResult,
)
from .placing import Place, check_on_data, locate, on_raster
from .png import encode_png, thumbnail
from .progress import Progress
from .prompting import Answer, Doubt, PromptList, PromptMemory
from .raster_source import RasterSource
from .store import EmbeddingKey, EmbeddingStore
from .store_files import StoredCrop

if TYPE_CHECKING:
    from ..models.promptable import PromptableModel

OPEN_RASTERS = 8
"""Rasters kept open."""

DOUBTS: dict[Doubt, str] = {
    Doubt.EMPTY: "The model finds no object here. Click nearer to the object's middle, or draw a box around it.",
    Doubt.WHOLE: "The model sees no border in this view. Choose a coarser level to show it more, or draw a box.",
    Doubt.UNSURE: "The model is not sure of any object here. Draw a box around it, or try another level.",
}
EMPTY_BOX = "The model finds no object in this box. Click the object's middle as well, or try another level."
CORRECTED_AWAY = "Nothing is left after this click. Undo it and click elsewhere."


class Models(Protocol):
    """The part of ``ModelService`` that is used here."""

    def get(self, name: str, progress: Progress | None = None) -> PromptableModel:
        """Return a loaded model; raises ModelMissingError."""


@dataclass
class _Work:
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


class Segmenter:
    """Opens rasters, encodes crops, segments objects. For one thread."""

    def __init__(self, models: Models, store: EmbeddingStore, adapters: AdapterService | None = None) -> None:
        """Join the parts.

        Args:
            models: gives loaded models by name.
            store: of embeddings.
            adapters: loads adapters; None for a service of its own.
        """
        self._models = models
        self._store = store
        self._adapters = AdapterService() if adapters is None else adapters
        self._memory = PromptMemory()
        self._further = FurtherInputsKeeper()
        self._sources: OrderedDict[RasterSpec, RasterSource] = OrderedDict()
        self._completed: dict[RasterSpec, RasterSpec] = {}

    def open(self, spec: RasterSpec, progress: Progress) -> RasterInfo:
        """Open a raster and fill in the defaults of its spec.

        Args:
            spec: path or GDAL URI, with or without bands and stretch.
            progress: asked for a cancel.

        Returns:
            The raster as found.

        Raises:
            RasterError: it cannot be opened or used.
        """
        progress.check()
        progress.report(-1.0, "Opening the raster")
        return self._source(spec).info

    def prepare(self, params: PrepareParams, progress: Progress) -> PrepareResult:
        """Encode the crop around a place unless that was done before.

        Args:
            params: place, level, and whether a thumbnail is wanted.
            progress: hears of the steps; may cancel.

        Returns:
            The crop, and whether its embedding is in the store.

        Raises:
            RasterError: the raster cannot be read, or the crop has no data.
            PromptError: the place is beyond the raster.
            ModelMissingError: the model's weights are not on this machine.
            TuningError: the adapter is missing, damaged or for another model.
        """
        work = self._work(params, progress)
        raster = work.source.frame
        pixel = on_raster(raster, np.array([[params.x, params.y]]), "The place")[0]
        crop = crop_at(raster, _input_size(work), params.level, (float(pixel[0]), float(pixel[1])))
        picture = self._picture(work, crop) if params.thumbnail > 0 else None
        found = self._embedding(work, crop, cached_only=params.cached_only, picture=picture)
        png = b""
        if picture is not None:
            png = encode_png(thumbnail(picture.image, picture.valid, params.thumbnail))
        return PrepareResult(
            level=crop.level,
            crop=CropFrame(raster, crop).corners,
            ready=found is not None,
            source=found.source if found else "",
            seconds=work.seconds,
            thumbnail_png=base64.b64encode(png).decode(),
            notes=work.notes(crop.level),
        )

    def segment(self, params: SegmentParams, progress: Progress) -> SegmentResult:
        """Outline one object.

        The first prompt (of a box: its centre) chooses the crop; if that does not hold all prompts, the crop around
        them at the finest level from the asked-for one that does is taken.

        Args:
            params: all prompts of the object, in the order given.
            progress: hears of the steps; may cancel.

        Returns:
            The outline, or why there is none.

        Raises:
            PromptError: a prompt is beyond the raster or on nodata, or there is no positive one to begin with.
            RasterError: the raster cannot be read.
            ModelMissingError: the model's weights are not on this machine.
            TuningError: the adapter is missing, damaged or for another model.
        """
        work = self._work(params, progress)
        place = locate(work.source.frame, _input_size(work), params)
        found = self._embedding(work, place.frame.crop, cached_only=params.cached_only, prompts=place.prompts)
        if found is None:
            return _without_outline(Empty.COLD, place, work, "", "This part of the raster is not encoded yet.")
        with work.step("decode", 0.9, "Segmenting"), work.adapted():
            answer = self._memory.answer(
                work.model,
                found.digest + (work.adapter.digest if work.adapter else ""),
                found.crop.embedding,
                covered(found.crop),
                place.prompts,
                progress.check,
            )
        if answer.doubt is not Doubt.NONE:
            return _without_outline(Empty.NOTHING, place, work, found.source, _why(answer.doubt, place.prompts))
        return _outline(answer, found, place, work, params.outline)

    def forget(self) -> None:
        """Drop remembered answers and open rasters; used with clearing the store."""
        self._memory.clear()
        self._further.clear()
        while self._sources:
            self._close(next(iter(self._sources)))

    def _source(self, spec: RasterSpec) -> RasterSource:
        """Return the open raster of a spec, complete or not, opened anew when its file changed."""
        complete = self._completed.get(spec, spec)
        known = self._sources.get(complete)
        if known is not None and known.is_current():
            self._sources.move_to_end(complete)
            return known
        self._close(complete)
        source = RasterSource(spec)
        complete = source.info.spec
        self._close(complete)
        self._sources[complete] = source
        self._completed[spec] = complete
        while len(self._sources) > OPEN_RASTERS:
            self._close(next(iter(self._sources)))
        return source

    def _close(self, complete: RasterSpec) -> None:
        source = self._sources.pop(complete, None)
        if source is not None:
            source.close()
        self._completed = {asked: known for asked, known in self._completed.items() if known != complete}

    def _work(self, params: PrepareParams | SegmentParams, progress: Progress) -> _Work:
        progress.check()
        source, model = self._source(params.raster), self._models.get(params.model, progress)
        adapter = self._adapters.get(params.adapter, model, progress) if params.adapter else None
        if adapter is None:
            return _Work(source, model, None, None, progress)
        refuse_without_prompts(adapter.card)
        return _Work(source, model, adapter, self._further.get(adapter.card, source, params.second), progress)

    def _picture(self, work: _Work, crop: Crop) -> _Picture:
        with work.step("read", 0.05, "Reading the raster"):
            pixels = work.source.read(crop, work.progress.check)
            return _Picture(work.source.picture(pixels), pixels.valid)

    def _embedding(
        self,
        work: _Work,
        crop: Crop,
        *,
        cached_only: bool,
        picture: _Picture | None = None,
        prompts: PromptList | None = None,
    ) -> _Found | None:
        """Return a crop's embedding, encoded now if need be; prompts are first checked to lie on data."""
        key = embedding_key(work.source, work.model, work.adapter, work.further, crop)
        stored = self._store.get(key)
        if stored is not None:
            check_on_data(stored[0].valid, prompts)
            return _Found(*stored, key.digest)
        if cached_only:
            return None
        picture = picture or self._picture(work, crop)
        check_on_data(picture.valid, prompts)
        if not picture.valid.any():
            raise RasterError("The raster has no data here. Go to a part of it that has.")
        message = "Encoding this part of the raster (once per place)"
        with work.step("encode", 0.2, message), work.adapted():
            check = work.counting_check(message, 0.2, 0.9, work.model.encoder_steps)
            side = work.further.read(work.source, crop) if work.further else None
            embedding = work.model.encode(picture.image, picture.valid, check, side)
        fresh = StoredCrop(embedding, None if picture.valid.all() else picture.valid)
        self._store.put(key, fresh)
        return _Found(fresh, "encoder", key.digest)


@dataclass(frozen=True)
class _Picture:
    """(S, S, 3) uint8 RGB and (S, S) bool."""

    image: NDArray[np.uint8]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class _Found:
    """An embedding, where it came from, and its key."""

    crop: StoredCrop
    source: str
    digest: str


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


def _input_size(work: _Work) -> int:
    return work.model.card.input_size


def covered(crop: StoredCrop) -> NDArray[np.bool_]:
    """Bring validity to the grid of the logits, a quarter of the input: a cell with any data counts.

    Args:
        crop: from the store.

    Returns:
        (S / 4, S / 4) bool.
    """
    cells = 4 * crop.embedding.shape[1]
    if crop.valid is None:
        return np.ones((cells, cells), bool)
    share = len(crop.valid) // cells
    return np.asarray(crop.valid.reshape(cells, share, cells, share).any(axis=(1, 3)))


def _why(doubt: Doubt, prompts: PromptList) -> str:
    if prompts.shorter is not None:
        return CORRECTED_AWAY
    return EMPTY_BOX if prompts.box else DOUBTS[doubt]


def _without_outline(empty: Empty, place: Place, work: _Work, source: str, message: str) -> SegmentResult:
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


def _outline(answer: Answer, found: _Found, place: Place, work: _Work, options: OutlineOptions) -> SegmentResult:
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
        return _without_outline(Empty.NOTHING, place, work, found.source, _why(Doubt.EMPTY, place.prompts))
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
