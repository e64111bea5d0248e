"""Hybrid adapters: which block gets what, what the calibration sees, and the bands' say."""

from __future__ import annotations

import pytest
import torch
from samtune.models.card import Architecture
from samtune.models.encoder import encode
from samtune.models.loading import build
from samtune.models.peft.adapter import Adapter
from samtune.models.peft.adaptformer import AdaptFormer
from samtune.models.peft.band_stem import CODE, CODE_WIDTH, BandStemConfig
from samtune.models.peft.contract import SideInputs, TuningError
from samtune.models.peft.hybrid import Calibration, Hybrid, HybridConfig
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.sites import ATTENTION

from .windowed import DIM, attached, embed, images, perturb, windowed_sam

CPU = torch.device("cpu")


def hybrid(config: HybridConfig) -> tuple[Adapter, Hybrid]:
    adapter, part = attached(windowed_sam(), config)
    assert isinstance(part, Hybrid)
    return adapter, part


@pytest.mark.parametrize(
    ("architecture", "shallow", "deep"),
    [
        (Architecture.VIT_B, (4, 407_616), (8, 294_912)),
        (Architecture.VIT_L, (8, 1_079_424), (16, 786_432)),
        (Architecture.VIT_H, (10, 1_679_520), (22, 1_351_680)),
        (Architecture.TINY, (2, 55_200), (4, 36_864)),
    ],
    ids=lambda value: getattr(value, "value", None),
)
def test_depths_and_their_counts(architecture: Architecture, shallow: tuple[int, int], deep: tuple[int, int]) -> None:
    with torch.device("meta"):
        sam = build(architecture)
        part = Adapter(sam, [HybridConfig()]).parts["hybrid"]
    assert isinstance(part, Hybrid)
    lora = part.deep["lora"]
    assert (len(part.shallow), sum(value.numel() for value in part.shallow.parameters())) == shallow
    assert (len(lora.sites) // 2, sum(value.numel() for value in lora.parameters())) == deep
    shallow_blocks = {int(site.split(".")[2]) for site in HybridConfig().plan(sam).sites if site.endswith(".mlp")}
    deep_blocks = {int(site.split(".")[2]) for site in lora.sites}
    assert shallow_blocks | deep_blocks == set(range(len(sam.image_encoder.blocks)))
    assert not shallow_blocks & deep_blocks


def test_all_shallow_and_all_deep() -> None:
    sam = windowed_sam()
    plain = LoraConfig(rank=3, alpha=3.0, layers=ATTENTION, projections=())
    assert HybridConfig(shallow=0.0, rank=3).plan(sam) == plain.plan(sam)
    assert all(site.endswith(".mlp") for site in HybridConfig(shallow=1.0).plan(sam).sites)
    assert len(HybridConfig(shallow=1.0).plan(sam).sites) == 3


def test_deep_blocks_compute_what_lora_computes() -> None:
    sam = windowed_sam()
    adapter, part = attached(sam, HybridConfig(shallow=0.0, rank=3))
    own = embed(sam, images(2))
    adapter.detach()
    plain = Adapter(sam, [LoraConfig(rank=3, alpha=3.0, layers=ATTENTION, projections=())])
    plain.parts["lora"].load_state_dict(part.deep["lora"].state_dict())  # type: ignore[union-attr, index]
    plain.attach(sam)
    assert torch.equal(embed(sam, images(2)), own)


def test_the_last_quarter_gets_adaptformer_where_wanted() -> None:
    sam = windowed_sam()
    adapter, part = hybrid(HybridConfig(adaptformer=True))
    former = part.deep["adaptformer"]
    assert isinstance(former, AdaptFormer)
    assert len(former.bottlenecks) == 1
    assert HybridConfig(adaptformer=True).plan(sam).sites[-1] == "image_encoder.blocks.2.mlp"
    adapter.detach()
    assert not former.attached


@pytest.mark.parametrize(("dilated", "reach"), [(False, 1), (True, 2)])
def test_the_calibration_sees_the_neighbours(dilated: bool, reach: int) -> None:
    torch.manual_seed(0)
    made = Calibration(DIM, HybridConfig(bottleneck=8, dilated=dilated), CPU)
    perturb(made)
    with torch.no_grad():  # or the mean over the image would let every place see every other
        made.weights.squeeze.weight.zero_()
    tokens = torch.randn(1, 9, 9, DIM)
    other = tokens.clone()
    other[:, 4, 4] += 3.0
    moved = (made(tokens, None) - made(other, None)).abs().amax(dim=(0, 3)) > 1e-6
    rows, columns = moved.nonzero().unbind(1)
    assert (int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())) == (4 - reach, 4 + reach) * 2


def test_channels_are_weighed_by_the_whole_image() -> None:
    torch.manual_seed(0)
    made = Calibration(DIM, HybridConfig(bottleneck=8), CPU)
    perturb(made, size=0.5)
    with torch.no_grad():  # so that no rectifier is shut
        made.weights.squeeze.bias.fill_(3.0)
    tokens = torch.randn(1, 9, 9, DIM)
    other = tokens.clone()
    other[:, 0, 0] += 5.0
    assert not torch.equal(made(tokens, None)[:, 8, 8], made(other, None)[:, 8, 8])


def test_no_code_is_a_code_of_zeros() -> None:
    adapter, _ = hybrid(HybridConfig(spectral=True))
    sam = windowed_sam()
    adapter.detach()
    adapter.attach(sam)
    batch = images(2)
    nothing = embed(sam, batch)
    zeros = embed(sam, batch, adapter, SideInputs(published={CODE: torch.zeros(2, CODE_WIDTH)}))
    ones = embed(sam, batch, adapter, SideInputs(published={CODE: torch.ones(2, CODE_WIDTH)}))
    assert torch.equal(nothing, zeros)
    assert (ones - nothing).abs().max() > 1e-4
    only_second = torch.stack([torch.zeros(CODE_WIDTH), torch.ones(CODE_WIDTH)])
    mixed = embed(sam, batch, adapter, SideInputs(published={CODE: only_second}))
    assert torch.allclose(mixed[0], nothing[0], atol=1e-6)
    assert torch.allclose(mixed[1], ones[1], atol=1e-6)


def test_a_code_has_no_say_where_it_was_not_asked_for_or_at_the_start() -> None:
    sam = windowed_sam()
    batch, code = images(1), SideInputs(published={CODE: torch.ones(1, CODE_WIDTH)})
    adapter, _ = attached(sam, HybridConfig())
    assert torch.equal(embed(sam, batch), embed(sam, batch, adapter, code))
    adapter.detach()
    fresh, part = attached(sam, HybridConfig(spectral=True), moved=False)
    with torch.no_grad():
        for name, value in part.named_parameters():
            if ".up." in name:
                value.fill_(0.01)
    assert torch.equal(embed(sam, batch), embed(sam, batch, fresh, code))


def test_the_second_modality_has_no_code() -> None:
    sam = windowed_sam()
    adapter, _ = attached(sam, HybridConfig(spectral=True))
    batch = images(2)
    nothing = embed(sam, batch)
    told = embed(sam, batch, adapter, SideInputs(streams=2, published={CODE: torch.ones(1, CODE_WIDTH)}))
    assert torch.allclose(told[1], nothing[1], atol=1e-6)
    assert not torch.allclose(told[0], nothing[0], atol=1e-4)


def test_with_a_band_stem_the_bands_are_heard_and_taught_through_it() -> None:
    sam = windowed_sam()
    adapter = Adapter(sam, [HybridConfig(spectral=True), BandStemConfig(5)])
    part = adapter.parts["hybrid"]
    perturb(part)
    adapter.attach(sam)
    bands = torch.randn(1, 5, 80, 80, generator=torch.Generator().manual_seed(1))
    with adapter.given(SideInputs(bands=bands)):
        encode(sam.image_encoder, images(1)).embedding.square().mean().backward()
    gradients = {name: value.grad for name, value in adapter.trainable_parameters()}
    conditions = [value for name, value in gradients.items() if name.endswith("condition")]
    assert len(conditions) == 1
    assert conditions[0] is not None
    assert conditions[0].any()
    pixels = gradients["band_stem.pixels.inner.weight"]
    assert pixels is not None
    assert pixels.any(), "although the stem's own maps are zero still"


@pytest.mark.parametrize(
    "config",
    [HybridConfig(shallow=-0.1), HybridConfig(shallow=1.5), HybridConfig(bottleneck=0), HybridConfig(bottleneck=6)],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(config: HybridConfig) -> None:
    with pytest.raises(TuningError, match="shallow"):
        config.plan(windowed_sam())
