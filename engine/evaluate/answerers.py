"""What is measured: a model the way the plugin runs it."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from ...models.peft.adapter import Adapter
from ...models.promptable import PromptableModel
from ..crops import Crop, RasterFrame
from ..further_inputs import FurtherInputs
from ..progress import Check, never_stops
from ..prompting import PromptList, PromptMemory
from ..raster_source import RasterSource
from .clicks import Mask
from .protocol import to_raster_pixels

_KEPT = 32


class ModelAnswerer:
    """A model on one raster: crops are read, encoded and decoded as for a click in QGIS, without the outline step."""

    def __init__(
        self,
        model: PromptableModel,
        source: RasterSource,
        adapter: Adapter | None = None,
        further: FurtherInputs | None = None,
        embeddings: ModelAnswerer | None = None,
        check: Check = never_stops,
    ) -> None:
        """Take a loaded model, an open raster, and an adapter of the model where one is to be measured.

        Args:
            model: the base.
            source: the raster.
            adapter: None for the base alone.
            further: what the adapter sees besides the raster's picture.
            embeddings: another one on this raster whose embeddings are shared; only where the adapters of both leave
                them as they are.
            check: called between parts of the work; may raise to stop.
        """
        self._model, self._source, self._adapter, self._further = model, source, adapter, further
        self._check = check
        self._memory = PromptMemory()
        self._crops: OrderedDict[Crop, tuple[NDArray[np.float16], Mask]]
        self._crops = OrderedDict() if embeddings is None else embeddings._crops

    @property
    def size(self) -> int:
        """Side of the model's input."""
        return self._model.card.input_size

    @property
    def frame(self) -> RasterFrame:
        """The raster's size and georeference."""
        return self._source.frame

    def answer(self, crop: Crop, prompts: PromptList) -> tuple[Mask, float]:
        """Return the model's mask in raster pixels and its predicted IoU."""
        with self._model.using(self._adapter):
            embedding, covered = self._encoded(crop)
            answer = self._memory.answer(self._model, repr(crop), embedding, covered, prompts, self._check)
        return to_raster_pixels(answer.logits, crop.side) > 0, answer.score

    def _encoded(self, crop: Crop) -> tuple[NDArray[np.float16], Mask]:
        if crop not in self._crops:
            pixels = self._source.read(crop, self._check)
            side = self._further.read(self._source, crop) if self._further else None
            embedding = self._model.encode(self._source.picture(pixels), pixels.valid, self._check, side)
            height, width = (4 * length for length in embedding.shape[1:])
            factor = pixels.valid.shape[0] // height, pixels.valid.shape[1] // width
            covered = pixels.valid.reshape(height, factor[0], width, factor[1]).any(axis=(1, 3))
            self._crops[crop] = embedding, np.asarray(covered)
            while len(self._crops) > _KEPT:
                self._crops.popitem(last=False)
        return self._crops[crop]
