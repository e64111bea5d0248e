"""Embeddings of an area's crops: from the store where they are there, made and stored where they are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...models.side_pixels import SidePixels
from ..adapters import LoadedAdapter
from ..crops import Crop
from ..further_inputs import FurtherInputs
from ..progress import Progress
from ..raster_source import RasterSource
from ..segment_work import embedding_key
from ..store import EmbeddingKey, EmbeddingStore
from ..store_files import StoredCrop
from .reading import CropReader
from .tiles import Tile, TilePlan

if TYPE_CHECKING:
    from ...models.promptable import PromptableModel

CONSIDERED = 20_000
"""Crops of a plan that are thought of at most, evenly spread over it."""

_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class View:
    """What the model is shown of a raster, and with which adapter.

    Attributes:
        source: the raster.
        model: the base.
        adapter: in use; None for the base alone.
        further: what the adapter sees besides the picture.
    """

    source: RasterSource
    model: PromptableModel
    adapter: LoadedAdapter | None = None
    further: FurtherInputs | None = None


class CropEmbeddings:
    """Embeddings of one view, made at most a given number of times.

    Attributes:
        left: how many may still be made.
    """

    def __init__(self, view: View, store: EmbeddingStore, progress: Progress, most: int) -> None:
        """Join the parts.

        Args:
            view: what is shown.
            store: where embeddings are, and go.
            progress: may cancel, between blocks of the encoder too.
            most: embeddings made at most.
        """
        self._view, self._store, self._progress = view, store, progress
        self._reader = CropReader(view.source, view.further)
        self.left = most

    def has(self, crop: Crop) -> bool:
        """Tell whether a crop's embedding is in the store."""
        return self._store.has(self._key(crop))

    def get(self, crop: Crop) -> StoredCrop | None:
        """Return a crop's embedding; None where there is no data, or where no more may be made.

        Raises:
            RasterError: the raster cannot be read.
            CancelledByUser: from ``progress.check``.
        """
        self._progress.check()
        key = self._key(crop)
        stored = self._store.get(key)
        if stored is not None:
            return stored[0]
        if self.left <= 0:
            return None
        inputs = self._reader.read(crop, self._progress.check)
        if inputs is None:
            return None
        side = None
        if inputs.bands is not None or inputs.second is not None:
            side = SidePixels(inputs.bands, inputs.second, inputs.second_valid)
        view = self._view
        with view.model.using(view.adapter.adapter if view.adapter else None):
            embedding = view.model.encode(inputs.image, inputs.valid, self._progress.check, side)
        fresh = StoredCrop(embedding, None if inputs.valid.all() else inputs.valid)
        self._store.put(key, fresh)
        self.left -= 1
        return fresh

    def in_order(self, plan: TilePlan, most: int) -> Iterator[tuple[Tile, StoredCrop]]:
        """Yield crops of a plan: those in the store first, then others, spread over the area.

        Args:
            plan: of the view's raster.
            most: crops at most.
        """
        stride = max(1, -(-plan.count // CONSIDERED))
        considered = [tile for number, tile in enumerate(plan) if number % stride == 0]
        stored = np.array([self.has(tile.crop) for tile in considered], bool)
        # Multiples of the golden ratio, modulo 1: however many are taken, they are evenly spread.
        spread = (np.arange(len(considered)) * _GOLDEN) % 1.0
        taken = 0
        for place in np.lexsort((spread, ~stored)).tolist():
            if taken >= most:
                return
            found = self.get(considered[place].crop)
            if found is not None:
                taken += 1
                yield considered[place], found

    def _key(self, crop: Crop) -> EmbeddingKey:
        view = self._view
        return embedding_key(view.source, view.model, view.adapter, view.further, crop)
