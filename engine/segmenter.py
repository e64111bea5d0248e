"""The service behind ``raster/open``, ``crop/prepare`` and ``segment``: joins raster, store, model and outlines.

Requests are stateless; what is remembered between them (open rasters, embeddings, decoder answers) only saves time.
"""

from __future__ import annotations

import base64
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..models.errors import RasterError
from .adapters import AdapterService, refuse_without_prompts
from .crops import Crop, CropFrame, crop_at
from .further_inputs import FurtherInputsKeeper
from .messages import (
    Empty,
    PrepareParams,
    PrepareResult,
    RasterInfo,
    RasterSpec,
    SegmentParams,
    SegmentResult,
)
from .placing import check_on_data, locate, on_raster
from .png import encode_png, thumbnail
from .progress import NullProgress, Progress
from .prompting import Doubt, PromptList, PromptMemory
from .raster_source import RasterSource
from .segment_work import (
    Answered,
    Asked,
    Found,
    Looked,
    Picture,
    Work,
    covered,
    input_size_of,
    key_of,
    outline_of,
    why,
    without_outline,
)
from .store import EmbeddingStore
from .store_files import StoredCrop

if TYPE_CHECKING:
    from ..models.promptable import PromptableModel

OPEN_RASTERS = 8
"""Rasters kept open."""


class Models(Protocol):
    """The part of ``ModelService`` that is used here."""

    def get(self, name: str, progress: Progress | None = None) -> PromptableModel:
        """Return a loaded model; raises ModelMissingError."""


class Segmenter:
    """Opens rasters, encodes crops, segments objects. One thread at a time may use the model."""

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
        self._lock = threading.Lock()

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
        with self._lock:
            work = self._work(params, progress)
        raster = work.source.frame
        pixel = on_raster(raster, np.array([[params.x, params.y]]), "The place")[0]
        crop = crop_at(raster, input_size_of(work), params.level, (float(pixel[0]), float(pixel[1])))
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
        return self.outline(self.answer(self.ask(params, progress)))

    def ask(self, params: SegmentParams, progress: Progress, *, ahead: bool = False) -> Asked:
        """Do the first third of :meth:`segment`: find out where to look. Serves several threads.

        Args:
            params: as for :meth:`segment`.
            progress: likewise.
            ahead: read the raster now where the crop is not in the store, while another thread has the model.

        Returns:
            What :meth:`answer` takes.
        """
        with self._lock:
            work = self._work(params, progress)
        place = locate(work.source.frame, input_size_of(work), params)
        unknown = ahead and self._store.get(key_of(work, place.frame.crop)) is None
        return Asked(params, work, place, self._picture(work, place.frame.crop) if unknown else None)

    def answer(self, asked: Asked) -> Answered:
        """Do the second third of :meth:`segment`: run the model."""
        work, place, params = asked.work, asked.place, asked.params
        cached_only = params.cached_only
        found = self._embedding(
            work, place.frame.crop, cached_only=cached_only, picture=asked.picture, prompts=place.prompts
        )
        if found is None:
            return Answered(asked, None, None)
        with work.step("decode", 0.9, "Segmenting"), work.adapted():
            answer = self._memory.answer(
                work.model,
                found.digest + (work.adapter.digest if work.adapter else ""),
                found.crop.embedding,
                covered(found.crop),
                place.prompts,
                work.progress.check,
            )
        return Answered(asked, found, answer)

    def outline(self, answered: Answered) -> SegmentResult:
        """Do the last third of :meth:`segment`: trace the outline. Serves several threads."""
        work, place, found, answer = answered.asked.work, answered.asked.place, answered.found, answered.answer
        if found is None or answer is None:
            return without_outline(Empty.COLD, place, work, "", "This part of the raster is not encoded yet.")
        if answer.doubt is not Doubt.NONE:
            return without_outline(Empty.NOTHING, place, work, found.source, why(answer.doubt, place.prompts))
        return outline_of(answer, found, place, work, answered.asked.params.outline)

    def look(self, params: PrepareParams, crop: Crop) -> Looked | None:
        """Read a crop that is to be encoded; serves several threads.

        Args:
            params: raster, model and adapter; place and level do not matter.
            crop: of the raster.

        Returns:
            What :meth:`encode` takes; None where the raster has no data.
        """
        with self._lock:
            work = self._work(params, NullProgress())
        if self._store.get(key_of(work, crop)) is not None:
            return Looked(work, crop, None)
        picture = self._picture(work, crop)
        return Looked(work, crop, picture) if picture.valid.any() else None

    def encode(self, looked: Looked) -> str:
        """Encode a crop into the store; says where its embedding came from, as :class:`SegmentResult`."""
        found = self._embedding(looked.work, looked.crop, cached_only=False, picture=looked.picture)
        return found.source if found else ""

    def input_size(self, model: str) -> int:
        """Return the side of the square that a model sees, pixels."""
        return self._models.get(model).card.input_size

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

    def _work(self, params: PrepareParams | SegmentParams, progress: Progress) -> Work:
        progress.check()
        source, model = self._source(params.raster), self._models.get(params.model, progress)
        adapter = self._adapters.get(params.adapter, model, progress) if params.adapter else None
        if adapter is None:
            return Work(source, model, None, None, progress)
        refuse_without_prompts(adapter.card)
        return Work(source, model, adapter, self._further.get(adapter.card, source, params.second), progress)

    def _picture(self, work: Work, crop: Crop) -> Picture:
        with work.step("read", 0.05, "Reading the raster"):
            pixels = work.source.read(crop, work.progress.check)
            return Picture(work.source.picture(pixels), pixels.valid)

    def _embedding(
        self,
        work: Work,
        crop: Crop,
        *,
        cached_only: bool,
        picture: Picture | None = None,
        prompts: PromptList | None = None,
    ) -> Found | None:
        """Return a crop's embedding, encoded now if need be; prompts are first checked to lie on data."""
        key = key_of(work, crop)
        stored = self._store.get(key)
        if stored is not None:
            check_on_data(stored[0].valid, prompts)
            return Found(*stored, key.digest)
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
        return Found(fresh, "encoder", key.digest)
