"""From crops to what the encoder makes of them: kept embeddings where it is frozen, features with gradients if not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ...models.encoder import Features, checked, encode, pieces
from ...models.fast_attention import fastest_precision
from ...models.heads.contract import HeadConfig
from ...models.peft.adapter import Adapter
from ...models.peft.contract import Scope, SideInputs
from ...models.peft.modality_masking import mask_modalities
from ...models.promptable import PromptableModel
from .embedding_cache import EmbeddingCache
from .reading import CropInputs
from .samples import CropSample, Samples
from .symmetry import lay

EMBEDDED = 256
"""Channels of the embedding."""


@dataclass(frozen=True)
class Laid:
    """A crop, and the way in which it is laid, see :mod:`.symmetry`."""

    item: CropSample
    way: int = 0


@dataclass(frozen=True)
class EncoderInput:
    """A batch for the encoder.

    Attributes:
        images: (B, 3, S, S) float32, normalised; with a second raster (2 B, 3, S, S), its pictures after the images.
        side: what comes with them.
    """

    images: torch.Tensor
    side: SideInputs


def training_precision(device: torch.device, *, amp: bool) -> contextlib.AbstractContextManager[object]:
    """Return the context to train in: bfloat16 where the hardware computes in it, else full precision.

    Half precision (float16) is left out: it needs its losses scaled.

    Args:
        device: that computes.
        amp: False for full precision everywhere.
    """
    if not amp or (device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)):
        return contextlib.nullcontext()
    return fastest_precision(device)


class Encoding:
    """Runs the encoder of a model, with the adapter that is attached to it, on crops of one run.

    Attributes:
        model: the base.
        adapter: what is tuned; None for the base alone.
    """

    def __init__(
        self, model: PromptableModel, adapter: Adapter | None, cache: EmbeddingCache, *, amp: bool = True
    ) -> None:
        """Take a model into use.

        Args:
            model: the base, with ``adapter`` attached by the caller.
            adapter: what is tuned; None for the base alone.
            cache: of the base's own embeddings.
            amp: half precision where that helps.
        """
        self.model, self.adapter = model, adapter
        self._cache, self._amp = cache, amp
        self.recompute = False

    @property
    def frozen(self) -> bool:
        """Whether embeddings are the base's own, so that they can be kept."""
        return self.adapter is None or not self.adapter.tunes_encoder

    @property
    def collect(self) -> tuple[int, ...]:
        """Return the blocks whose tokens the adapter's head wants."""
        if self.adapter is None:
            return ()
        heads = [config for config in self.adapter.configs if isinstance(config, HeadConfig)]
        return tuple(sorted({block for head in heads for block in head.collect(self.model.network)}))

    def kept(self, samples: Samples, laid: Laid, check: Callable[[], None]) -> NDArray[np.float16]:
        """Return a crop's embedding (256, h, w); made once where the encoder is frozen.

        Args:
            samples: that the crop is of.
            laid: the crop.
            check: called before the encoder runs.
        """
        if not self.frozen:
            return self._embedding(samples, laid, check)
        key = (laid.item.raster, laid.item.crop, laid.way)
        return self._cache.get(key, lambda: self._embedding(samples, laid, check))

    def embeddings(self, samples: Samples, batch: Sequence[Laid], check: Callable[[], None]) -> torch.Tensor:
        """Return (B, 256, h, w) float32 embeddings without gradient, on the model's device."""
        found = np.stack([self.kept(samples, laid, check) for laid in batch])
        return torch.from_numpy(found).to(self.model.device).float()

    def see(
        self, samples: Samples, batch: Sequence[Laid], check: Callable[[], None], seed: int | None = None
    ) -> EncoderInput:
        """Read and collate crops.

        Args:
            samples: that the crops are of.
            batch: B crops.
            check: called between reads.
            seed: of the parts of either modality that are hidden in training; None hides nothing.
        """
        given = self.inputs([_laid(samples.inputs(laid.item, check), laid.way) for laid in batch])
        if given.side.streams == 1 or seed is None:
            return given
        return EncoderInput(mask_modalities(given.images, torch.Generator().manual_seed(seed)), given.side)

    @contextlib.contextmanager
    def features(
        self, samples: Samples, batch: Sequence[Laid], check: Callable[[], None], seed: int | None = None
    ) -> Iterator[Features]:
        """Say what the encoder makes of crops, for heads; made once where the encoder is frozen.

        Heads, and backward passes that compute activations again, belong into the context.

        Args:
            samples: that the crops are of.
            batch: B crops.
            check: called between reads and blocks; may raise to stop.
            seed: of the parts of either modality that are hidden in training; None hides nothing.
        """
        if not self.keeps(samples, batch[0], check):
            with self.encoded(self.see(samples, batch, check, seed), check) as features:
                yield features
            return
        found = np.stack([self.kept_features(samples, laid, check) for laid in batch])
        planes = torch.from_numpy(found).to(self.model.device).float()
        context = contextlib.nullcontext() if self.adapter is None else self.adapter.given(SideInputs())
        with context:
            yield _parted(planes, self.collect)

    def keeps(self, samples: Samples, laid: Laid, check: Callable[[], None]) -> bool:
        """Whether a crop always has the same features. Those of two rasters hide parts of either by chance."""
        return self.frozen and (samples.inputs(laid.item, check).second is None or not self._takes_streams)

    def kept_features(self, samples: Samples, laid: Laid, check: Callable[[], None]) -> NDArray[np.float16]:
        """Return a crop's (256 + n D, h, w) features, the tokens of n blocks after the embedding; made once.

        Args:
            samples: that the crop is of.
            laid: the crop.
            check: called before the encoder runs, and between its blocks.
        """
        key = (laid.item.raster, laid.item.crop, laid.way, self.collect)
        return self._cache.get(key, lambda: self._features(samples, laid, check))

    @contextlib.contextmanager
    def encoded(self, given: EncoderInput, check: Callable[[], None] | None = None) -> Iterator[Features]:
        """Run the encoder on a batch, with gradients to the adapter where they are enabled.

        Heads, and backward passes that compute activations again, belong into the context.

        Args:
            given: from :meth:`see`; of B images, or of 2 B with a second stream.
            check: called between blocks, forward and backward; may raise to stop.
        """
        network = self.model.network
        context = contextlib.nullcontext() if self.adapter is None else self.adapter.given(given.side)
        with context, checked(pieces(network.image_encoder), check):
            with training_precision(self.model.device, amp=self._amp):
                features = encode(network.image_encoder, given.images, collect=self.collect, recompute=self.recompute)
            yield features

    def inputs(self, crops: Sequence[CropInputs]) -> EncoderInput:
        """Collate crops, on the model's device."""
        images = [self._normalised(crop.image, crop.valid) for crop in crops]
        bands = [torch.from_numpy(crop.bands) for crop in crops if crop.bands is not None]
        seconds = [
            self._normalised(crop.second, crop.second_valid)
            for crop in crops
            if crop.second is not None and crop.second_valid is not None
        ]
        streams = 2 if seconds and self._takes_streams else 1
        stacked = torch.stack([*images, *seconds] if streams > 1 else images)
        given = torch.stack(bands).to(self.model.device) if bands else None
        return EncoderInput(stacked.to(self.model.device), SideInputs(given, streams))

    @property
    def _takes_streams(self) -> bool:
        """Whether anything in the adapter knows of a second stream; the base alone sees the images only."""
        return self.adapter is not None and any(config.scope is not Scope.DECODER for config in self.adapter.configs)

    def _embedding(self, samples: Samples, laid: Laid, check: Callable[[], None]) -> NDArray[np.float16]:
        check()
        with torch.no_grad():
            given = self.see(samples, [laid], check)
            check()
            with self.encoded(given, check) as features:
                embedding = features.embedding
        found: NDArray[np.float16] = embedding[0].to(torch.float16).cpu().numpy()
        return found

    def _features(self, samples: Samples, laid: Laid, check: Callable[[], None]) -> NDArray[np.float16]:
        with torch.no_grad(), self.encoded(self.see(samples, [laid], check), check) as features:
            tokens = [features.blocks[block].permute(0, 3, 1, 2).float() for block in self.collect]
            planes = torch.cat([features.embedding.float(), *tokens], dim=1)
        found: NDArray[np.float16] = planes[0].to(torch.float16).cpu().numpy()
        return found

    def _normalised(self, image: NDArray[np.uint8], valid: NDArray[np.bool_]) -> torch.Tensor:
        card = self.model.card
        pixels = torch.from_numpy(image).permute(2, 0, 1).float()
        mean, std = torch.tensor(card.mean)[:, None, None], torch.tensor(card.std)[:, None, None]
        return (pixels - mean) / std * torch.from_numpy(valid)


def _parted(planes: torch.Tensor, blocks: Sequence[int]) -> Features:
    """Take (B, 256 + n D, h, w) apart again."""
    embedding, tokens = planes[:, :EMBEDDED], planes[:, EMBEDDED:].permute(0, 2, 3, 1)
    parts = tokens.chunk(len(blocks), dim=3) if blocks else ()
    return Features(embedding, {block: part.contiguous() for block, part in zip(blocks, parts, strict=True)})


def _laid(inputs: CropInputs, way: int) -> CropInputs:
    if way == 0:
        return inputs
    return CropInputs(
        lay(inputs.image, way, (0, 1)),
        lay(inputs.valid, way, (0, 1)),
        None if inputs.bands is None else lay(inputs.bands, way, (1, 2)),
        None if inputs.second is None else lay(inputs.second, way, (0, 1)),
        None if inputs.second_valid is None else lay(inputs.second_valid, way, (0, 1)),
    )
