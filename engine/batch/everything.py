"""Everything in a tile, as candidates for joining."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...models.everything import EverythingOptions, everything, grid
from ...models.side_pixels import SidePixels
from ..areas.looking import Candidate, Check
from ..batch_messages import BatchOptions
from ..tuning.reading import CropInputs

if TYPE_CHECKING:
    from ...models.promptable import PromptableModel
    from ..adapters import LoadedAdapter


class EverythingLook:
    """Asks the model with a grid of points: see ``models/everything.py``."""

    batch = 1

    def __init__(self, model: PromptableModel, loaded: LoadedAdapter | None, options: BatchOptions) -> None:
        """Take a model into use.

        Args:
            model: the base.
            loaded: an adapter that fits it; None for the base alone.
            options: of the job.
        """
        self._model, self._adapter = model, None if loaded is None else loaded.adapter
        self._options = EverythingOptions(options.iou, options.stability)
        self._points = grid(model.card.input_size, options.points)

    def look(self, crops: Sequence[CropInputs], check: Check) -> list[list[Candidate]]:
        """Return what there is in each crop, the surest first."""
        return [self._one(crop, check) for crop in crops]

    def _one(self, crop: CropInputs, check: Check) -> list[Candidate]:
        size = len(crop.valid)
        side = None
        if crop.bands is not None or crop.second is not None:
            side = SidePixels(crop.bands, crop.second, crop.second_valid)
        columns, rows = self._points.astype(np.int64).T
        points = self._points[crop.valid[rows, columns]]
        with self._model.using(self._adapter):
            embedding = self._model.encode(crop.image, crop.valid, check, side)
            masks = everything(self._model, embedding, points, self._options, crop.valid)
        whole = (0.0, 0.0, float(size), float(size))
        return [
            Candidate(logits, whole, 0, float(score)) for logits, score in zip(masks.logits, masks.scores, strict=True)
        ]
