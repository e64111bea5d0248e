"""Distillation from all bands to fewer: what the model of all bands sees, an adapter of fewer is taught to see."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...models.distillation import DistillationConfig, spectral_distance
from ...models.errors import SamTuneError
from ...models.peft.adapter import Adapter
from ...models.peft.contract import SideInputs
from .distil_hook import StepContext
from .distil_streams import Unlabelled, as_batch, device_of, instead, see
from .encoding import training_precision

_CODE = "spectral_code"


class SpectralDistiller:
    """Teach an adapter of fewer bands what one of all bands sees; an extra loss for the training loop.

    Attributes:
        figures: ``spectral``, of the last step.
    """

    def __init__(self, teacher: Adapter, tiles: Sequence[Unlabelled], config: DistillationConfig | None = None) -> None:
        """Take the material.

        Args:
            teacher: an adapter of the same base with a band stem, not attached.
            tiles: crops with ``teacher_bands``; ``bands`` are what the student sees.
            config: weights; the defaults where None.

        Raises:
            SamTuneError: a crop lacks the teacher's bands, or there is none.
        """
        if not tiles or any(tile.teacher_bands is None for tile in tiles):
            raise SamTuneError("Learning from a model of all bands needs crops with all the bands that it sees.")
        self._teacher = teacher.eval().requires_grad_(requires_grad=False)
        self._tiles = tuple(tiles)
        self._config = config or DistillationConfig()
        self.figures: dict[str, float] = {}

    def __call__(self, context: StepContext) -> torch.Tensor | None:
        """Return the weighted distance on one crop."""
        sam, adapter = context.sam, context.adapter
        tile = self._tiles[int(context.rng.integers(len(self._tiles)))]
        device = device_of(sam)
        image = tile.image.to(device)[None]
        taught = SideInputs(bands=as_batch(tile.teacher_bands, device))
        seen = SideInputs(bands=as_batch(tile.bands, device))
        with training_precision(device, amp=context.amp):
            with torch.no_grad(), instead(sam, adapter, self._teacher):
                target = see(sam, self._teacher, image, taught).embedding
            own = see(sam, adapter, image, seen).embedding
        loss = spectral_distance(own, target, _published(seen), _published(taught))
        self.figures = {"spectral": float(loss.detach())}
        return self._config.spectral * loss


def _published(side: SideInputs) -> torch.Tensor | None:
    code = side.published.get(_CODE)
    return code if isinstance(code, torch.Tensor) else None
