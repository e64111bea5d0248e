"""MFNet's head: the embeddings of one or two modalities, fused at four scales, to a class map.

Only the embedding is used, not the tokens within the encoder: it is what the adapters of both streams worked towards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..encoder import Features
from ..peft.contract import Part, Plan, TuningError, count
from ..peft.sites import device_of
from ..peft.streams import STREAMS, split
from ..sam_modules import Sam
from .contract import HeadConfig, SemanticHead
from .fusion import DeepFusion, bare_pyramid
from .unetformer import GRAIN, UnetformerDecoder

_LEAST_CLASSES = 2


@dataclass(frozen=True)
class MfnetHeadConfig(HeadConfig):
    """Deep fusion and a UNetFormer-style decoder (MFNet, TGRS 2025, arXiv 2410.11160).

    Attributes:
        classes: K, at least 2.
        fusion: the deep fusion module. Without it the modalities' embeddings are added, and their sum is enlarged and
            reduced to the decoder's scales without anything learned.
        width: of the decoder, a multiple of 16; the source has 64.
        streams: for how many modalities there is a pyramid, 1 or 2. One made for two also takes the image alone.
    """

    method: ClassVar[str] = "mfnet_head"

    classes: int = 2
    fusion: bool = True
    width: int = 64
    streams: int = STREAMS

    def plan(self, sam: Sam) -> Plan:
        """Say how much there is to train: see :meth:`..peft.contract.MethodConfig.plan`."""
        del sam  # SAM's embedding has the same width in all sizes
        if self.classes < _LEAST_CLASSES:
            raise TuningError(f"A class map needs at least two classes, not {self.classes}.")
        if self.width < GRAIN or self.width % GRAIN:
            raise TuningError(f"The head's width must be a multiple of {GRAIN}, not {self.width}.")
        if not 1 <= self.streams <= STREAMS:
            raise TuningError(f"The head takes one or two modalities, not {self.streams}.")
        with torch.device("meta"):
            return Plan((), (), count(MfnetHead(self, torch.device("meta")).parameters()))

    def build(self, sam: Sam) -> Part:
        """Make the head: see :meth:`..peft.contract.MethodConfig.build`."""
        self.plan(sam)
        return MfnetHead(self, device_of(sam))


class MfnetHead(SemanticHead):
    """Fusion and decoder."""

    config: MfnetHeadConfig

    def __init__(self, config: MfnetHeadConfig, device: torch.device) -> None:
        """Make both as torch starts them, in float32."""
        super().__init__(config)
        self.fusion = DeepFusion(config.streams, device) if config.fusion else None
        self.decoder = UnetformerDecoder(config.classes, config.width).to(device)

    def forward(self, features: Features) -> torch.Tensor:
        """Say how much each place is like each class: see :meth:`.contract.SemanticHead.forward`.

        Raises:
            TuningError: there are more modalities than the head was made for.
        """
        if self.side.streams > self.config.streams:
            raise TuningError("This head was made for one modality. Leave the second raster out, or train a new one.")
        first, second = split(features.embedding, self.side.streams)
        embeddings = [first] if second is None else [first, second]
        if self.fusion is not None:
            pyramid = self.fusion(embeddings)
        else:
            pyramid = bare_pyramid(first if second is None else first + second)
        return self.decoder(pyramid).float()
