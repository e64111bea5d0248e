"""A stand-in for a loaded model that segments by grey value, so that tests of the engine have real geometry."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray
from samtune.models.errors import ModelMissingError
from samtune.models.side_pixels import SidePixels
from scipy import ndimage

SIZE = 256
BLOCK = 16
TOLERANCE = 75.0
"""Half of the contrast of :func:`.rasters.disc`, so that the outline lies where a pixel is half covered."""


class FakeDecoded(SimpleNamespace):
    """``logits`` (k, h, w) float32 and ``iou`` (k,) float32."""


class FakeModel:
    """Takes the connected region of similar grey around the clicks for the object.

    Its embedding is the picture itself: the 256 grey values of each 16 x 16 block. Negative clicks remove what is
    similar to them. Of three masks the first is strict, the second as described, the third nearly everything.

    Attributes:
        encoded: pictures and validity that were encoded.
        decoded: arguments of every decoder run.
        used: adapters that were asked for, None for the base alone.
        sides: what pictures came with.
        ious: predicted for the three masks; for a single mask the second is taken.
        encoder_steps: how often ``encode`` calls its ``check``.
    """

    encoder_steps = 4

    def __init__(self, size: int = SIZE, name: str = "fake") -> None:
        """Make a model with inputs of ``size`` pixels."""
        self.card = SimpleNamespace(name=name, input_size=size, sha256="f" * 64)
        self.encoded: list[tuple[NDArray[np.uint8], NDArray[np.bool_] | None]] = []
        self.decoded: list[SimpleNamespace] = []
        self.ious = (0.6, 0.9, 0.7)
        self.used: list[object] = []
        self.sides: list[SidePixels | None] = []

    @contextlib.contextmanager
    def using(self, adapter: object) -> Iterator[None]:
        """Note which adapter was asked for."""
        self.used.append(adapter)
        yield

    def encode(
        self,
        image: NDArray[np.uint8],
        valid: NDArray[np.bool_] | None = None,
        check: Callable[[], None] | None = None,
        side: SidePixels | None = None,
    ) -> NDArray[np.float16]:
        """Pack the grey picture into (256, S / 16, S / 16)."""
        for _ in range(self.encoder_steps if check is not None else 0):
            check()
        self.encoded.append((image, valid))
        self.sides.append(side)
        grey = np.rint(image.mean(axis=2))
        count = len(image) // BLOCK
        blocks = grey.reshape(count, BLOCK, count, BLOCK).transpose(1, 3, 0, 2)
        return blocks.reshape(BLOCK * BLOCK, count, count).astype(np.float16)

    def decode(
        self,
        embedding: NDArray[np.float16],
        points: NDArray[np.float32],
        labels: NDArray[np.int64],
        box: NDArray[np.float32] | None = None,
        mask_logits: NDArray[np.float32] | None = None,
        *,
        multimask: bool = True,
    ) -> FakeDecoded:
        """Segment the unpacked picture at a quarter of its resolution."""
        self.decoded.append(
            SimpleNamespace(points=points, labels=labels, box=box, mask_logits=mask_logits, multimask=multimask)
        )
        grey = quarter(embedding)
        logits = np.stack([self._mask(grey, points, labels, box, scale) for scale in (0.7, 1.0)])
        whole = np.full_like(logits[:1], 3.0)
        if multimask:
            return FakeDecoded(logits=np.concatenate([logits, whole]), iou=np.array(self.ious, np.float32))
        return FakeDecoded(logits=logits[1:], iou=np.array(self.ious[1:2], np.float32))

    def _mask(
        self,
        grey: NDArray[np.float32],
        points: NDArray[np.float32],
        labels: NDArray[np.int64],
        box: NDArray[np.float32] | None,
        scale: float,
    ) -> NDArray[np.float32]:
        seeds = [tuple(point) for point, label in zip(points, labels, strict=True) if label]
        if box is not None:
            seeds.append(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
        logits = np.full(grey.shape, -4.0, np.float32)
        for seed in seeds:
            logits = np.maximum(logits, _region(grey, seed, TOLERANCE * scale))
        for point, label in zip(points, labels, strict=True):
            if not label:
                logits = np.minimum(logits, -_region(grey, tuple(point), TOLERANCE / 3))
        return logits


def quarter(embedding: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return the grey picture in an embedding, averaged over 4 x 4 pixels."""
    count = embedding.shape[1]
    full = embedding.astype(np.float32).reshape(BLOCK, BLOCK, count, count).transpose(2, 0, 3, 1)
    cells = count * 4
    return full.reshape(cells, 4, cells, 4).mean(axis=(1, 3))


def _region(grey: NDArray[np.float32], seed: tuple[float, float], tolerance: float) -> NDArray[np.float32]:
    col, row = (min(max(int(value / 4), 0), len(grey) - 1) for value in seed)
    closeness = (tolerance - np.abs(grey - grey[row, col])) / 10.0
    labels, _ = ndimage.label(closeness > 0)
    near = ndimage.binary_dilation(labels == labels[row, col], iterations=2)
    return np.where(near, closeness, -4.0).astype(np.float32)


class FakeModels:
    """Gives the one model by its name."""

    def __init__(self, model: FakeModel) -> None:
        """Hold a model."""
        self.model = model

    def get(self, name: str, progress: object = None) -> FakeModel:
        """Return the model, or raise as ``ModelService`` does."""
        if name != self.model.card.name:
            raise ModelMissingError(f"The model {name} is not here.")
        return self.model
