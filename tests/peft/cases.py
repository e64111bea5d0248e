"""Every tuning method with settings to be tested with: the acceptance tests run over this table.

Whoever adds a method adds a case here; a test fails for a method without one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from samtune.models.heads.instances import InstancesConfig
from samtune.models.heads.mfnet import MfnetHeadConfig
from samtune.models.heads.semantic import SemanticConfig
from samtune.models.peft.adaptformer import AdaptFormerConfig
from samtune.models.peft.band_stem import BandStemConfig
from samtune.models.peft.contract import MethodConfig, SideInputs
from samtune.models.peft.conv_lora import ConvLoraConfig
from samtune.models.peft.dora import DoraConfig
from samtune.models.peft.gate_config import GateConfig, Selection
from samtune.models.peft.hybrid import HybridConfig
from samtune.models.peft.lora import LoraConfig, Projection
from samtune.models.peft.mm_adapter import MmAdapterConfig
from samtune.models.peft.mm_lora import MmLoraConfig
from samtune.models.peft.new_patch_embed import NewPatchEmbedConfig
from samtune.models.peft.persam import MaskMixConfig
from samtune.models.peft.selective import BitFitConfig, DecoderConfig, FullConfig, NormConfig
from samtune.models.peft.sites import ATTENTION, EVERY_LAYER

MakeSide = Callable[[int, int], SideInputs]
"""(images, side of the images in pixels) -> what comes with them."""


def no_side(images: int, side: int) -> SideInputs:
    return SideInputs()


def two_streams(images: int, side: int) -> SideInputs:
    """The second half of the batch is the other modality."""
    return SideInputs(streams=2)


def bands_of(channels: int) -> MakeSide:
    """Return a maker of random standardised bands, the same for every call with the same numbers."""

    def make(images: int, side: int) -> SideInputs:
        random = torch.Generator().manual_seed(channels)
        return SideInputs(bands=torch.randn(images, channels, side, side, generator=random))

    return make


@dataclass(frozen=True)
class Case:
    """One method with settings.

    Attributes:
        name: of the test.
        config: the method.
        side: what the images come with, for methods that need it. With two streams the batch is doubled.
        start: largest change of the embedding that a new part may make; 0: none, bit for bit.
        still: parts of names of trainable tensors that have no reason to move within three steps.
        counts: trainable numbers for vit_b, vit_l and vit_h, from the source or by hand; empty where not given.
        rate: learning rate of the test that overfits one tile; 0 where the method has too little to learn with.
    """

    name: str
    config: MethodConfig
    side: MakeSide = field(default=no_side)
    start: float = 0.0
    still: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    rate: float = 3e-3


CONTROLS = (
    Case("decoder", DecoderConfig(), counts=(4_058_340,) * 3, rate=1e-3),
    Case("bitfit", BitFitConfig(), counts=(82_944, 221_184, 368_640), rate=0.12),
    Case("norm", NormConfig(), counts=(36_864, 98_304, 163_840), rate=0.12),
    Case("full", FullConfig(), counts=(89_670_912, 308_278_272, 637_026_048), rate=1e-3),
    Case("lora", LoraConfig(), counts=(147_456, 393_216, 655_360), rate=2e-2),
    Case("lora-whole", LoraConfig(rank=8, projections=()), counts=(294_912, 786_432, 1_310_720), rate=1e-2),
    Case(
        "lora-late",
        LoraConfig(rank=4, alpha=8.0, layers=EVERY_LAYER, projections=(Projection.Q,), start=0.5),
        rate=1e-2,
    ),
    Case("mask_mix", MaskMixConfig(), counts=(2,) * 3, rate=0.0),
    Case("dora", DoraConfig(), counts=(165_888, 442_368, 737_280), rate=2e-2),
    Case("dora-whole", DoraConfig(rank=2, projections=(), layers=EVERY_LAYER), rate=1e-2),
)

HEADS = (
    Case("semantic", SemanticConfig(classes=3)),
    Case("instances", InstancesConfig(classes=2)),
    Case("mfnet-head", MfnetHeadConfig(classes=3), two_streams),
)

WITH_ADAPTERS: tuple[Case, ...] = (
    Case("adaptformer", AdaptFormerConfig(), counts=(1_189_632, 3_171_840, 5_285_888), rate=2e-2),
    Case("conv-lora", ConvLoraConfig(), still=("experts",), counts=(113_832, 301_392, 500_160), rate=2e-2),
    Case(
        "conv-lora-attention",
        ConvLoraConfig(rank=4, layers=ATTENTION, experts=(1, 2), start=0.5),
        still=("experts",),
        rate=1e-2,
    ),
    Case("hybrid", HybridConfig(), counts=(702_528, 1_865_856, 3_031_200), rate=1e-2),
    Case("hybrid-all", HybridConfig(dilated=True, adaptformer=True), rate=1e-2),
    Case("gate", GateConfig(gate_rate=10.0), counts=(269_012, 924_834, 1_911_078), rate=2e-2),
    Case("gate-scored", GateConfig(selection=Selection.SCORED, half=False), rate=1e-2),
)
"""Adapters, gates and methods with several experts."""

WITH_SIDE: tuple[Case, ...] = (
    Case("band-stem", BandStemConfig(13), bands_of(13), counts=(127_776, 299_808, 455_456), rate=4e-2),
    Case("patch-embed", NewPatchEmbedConfig(13), bands_of(13), counts=(2_555_904, 3_407_872, 4_259_840), rate=6e-3),
    Case("mm-adapter", MmAdapterConfig(), two_streams, counts=(3_578_136, 12_687_408, 26_388_544), rate=1e-2),
    Case("mm-adapter-wide", MmAdapterConfig(ratio=4), two_streams, counts=(14_201_880, 50_454_576, 105_062_464)),
    Case("adapter-per-stream", MmAdapterConfig(exchange=False), two_streams),
    Case("mm-lora", MmLoraConfig(), two_streams, counts=(1_032_216, 2_752_560, 4_587_584), rate=1e-2),
    Case("lora-per-stream", MmLoraConfig(exchange=False), two_streams, rate=1e-2),
)
"""Methods for bands and second streams."""

CASES: tuple[Case, ...] = (*CONTROLS, *HEADS, *WITH_ADAPTERS, *WITH_SIDE)
