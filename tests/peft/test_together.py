"""Methods and adapters in each other's company, copies of adapters, and bases kept in half precision."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path

import pytest
import torch
from samtune.models.card import Architecture
from samtune.models.encoder import encode
from samtune.models.peft.adapter import Adapter
from samtune.models.peft.adapter_card import AdapterCard, BaseRecord, HeadKind
from samtune.models.peft.adapter_file import load_adapter, save_adapter
from samtune.models.peft.band_stem import BandStemConfig
from samtune.models.peft.contract import MethodConfig, Scope, SideInputs, TuningError
from samtune.models.peft.conv_lora import ConvLoraConfig
from samtune.models.peft.dora import DoraConfig
from samtune.models.peft.gate_config import GateConfig
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.selective import BitFitConfig, FullConfig, NormConfig
from samtune.models.sam_modules import Sam

from .cases import CASES, Case
from .support import SHA
from .windowed import SIDE, embed, images, perturb, windowed_sam

CARD = AdapterCard("test", BaseRecord("tiny", Architecture.TINY, SHA, "none"), HeadKind.PROMPTABLE, "0", "2026-01-01")
DORA = DoraConfig(rank=2, projections=())
LORA = LoraConfig(rank=2)
GATE = GateConfig(share=0.02)

IN_ENCODER = pytest.mark.parametrize(
    "case",
    {case.config.method: case for case in reversed(CASES) if case.config.scope is Scope.ENCODER}.values(),
    ids=lambda case: case.config.method,
)


@pytest.fixture
def sam() -> Sam:
    return windowed_sam()


def batch(case: Case) -> torch.Tensor:
    return torch.cat([images(1, seed) for seed in range(case.side(1, SIDE).streams)])


def calibrated(sam: Sam, *configs: MethodConfig) -> Adapter:
    torch.manual_seed(0)
    adapter = Adapter(sam, configs)
    adapter.calibrate(sam, [lambda: encode(sam.image_encoder, images(1)).embedding.square().mean()])
    perturb(adapter, size=0.05)
    return adapter


def outputs(sam: Sam, adapter: Adapter, case: Case, *, merged: bool = False) -> torch.Tensor:
    adapter.eval()
    adapter.attach(sam, merged=merged)
    found = embed(sam, batch(case), adapter, case.side(1, SIDE))
    adapter.detach()
    return found


PAIRS = ((LORA, DORA), (DORA, ConvLoraConfig()), (LORA, GATE), (DORA, BitFitConfig()), (DORA, NormConfig()))


@pytest.mark.parametrize("pair", [*PAIRS, *(pair[::-1] for pair in PAIRS)], ids=lambda pair: pair[0].method)
def test_merged_is_unmerged_whatever_is_tuned_beside(sam: Sam, pair: tuple[MethodConfig, MethodConfig]) -> None:
    adapter = calibrated(sam, *pair)
    adapter.finish()
    case = Case("", pair[0])
    assert torch.allclose(outputs(sam, adapter, case), outputs(sam, adapter, case, merged=True), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("other", [GATE, FullConfig()], ids=lambda config: config.method)
def test_a_method_that_scales_weights_does_not_go_with_one_that_tunes_them(sam: Sam, other: MethodConfig) -> None:
    for configs in ((DORA, other), (other, DORA)):
        with pytest.raises(TuningError, match="both tune the same weights"):
            Adapter(sam, configs)


def test_two_band_stems_may_be_given_the_same_batch(sam: Sam) -> None:
    stems = [Adapter(sam, [BandStemConfig(3)]) for _ in range(2)]
    for seed, stem in enumerate(stems):
        perturb(stem, seed)
        stem.attach(sam)
    bands = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    shared = SideInputs(bands=bands)
    found = []
    for sides in ((shared, shared), (SideInputs(bands=bands), SideInputs(bands=bands))):
        with contextlib.ExitStack() as stack:
            for stem, side in zip(stems, sides, strict=True):
                stack.enter_context(stem.given(side))
            found.append(embed(sam, images(1)))
    assert torch.equal(*found)


@IN_ENCODER
def test_a_copy_is_attached_to_nothing_and_does_the_same(sam: Sam, case: Case) -> None:
    adapter = calibrated(sam, case.config)
    adapter.train()
    adapter.attach(sam)
    with adapter.given(case.side(1, SIDE)):
        encode(sam.image_encoder, batch(case))
        twin = copy.deepcopy(adapter)
    assert not twin.attached
    twin.detach()
    assert adapter.attached
    adapter.detach()
    assert torch.equal(outputs(sam, twin, case), outputs(sam, adapter, case))
    perturb(twin)
    assert not torch.equal(outputs(sam, twin, case), outputs(sam, adapter, case))


@IN_ENCODER
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_base_kept_in_half_precision_takes_every_method(sam: Sam, case: Case, dtype: torch.dtype) -> None:
    half, pictures = copy.deepcopy(sam).to(dtype), batch(case).to(dtype)
    plain = embed(half, pictures)
    adapter = Adapter(half, [case.config])
    adapter.attach(half)
    assert torch.equal(embed(half, pictures, adapter, case.side(1, SIDE)), plain)
    perturb(adapter, size=0.05)
    moved = embed(half, pictures, adapter, case.side(1, SIDE))
    assert moved.dtype is dtype
    assert torch.isfinite(moved).all()
    assert torch.equal(moved, plain) == (case.config.method == "gate"), "the gate knows no weights to change yet"


@IN_ENCODER
def test_what_was_loaded_while_a_model_was_in_use_can_be_tuned_on(sam: Sam, case: Case, tmp_path: Path) -> None:
    save_adapter(tmp_path / "a.safetensors", Adapter(sam, [case.config]), CARD)
    with torch.inference_mode():
        adapter, _ = load_adapter(tmp_path / "a.safetensors", sam, SHA)
    adapter.calibrate(sam, [lambda: encode(sam.image_encoder, images(1)).embedding.square().mean()])
    adapter.train()
    adapter.attach(sam)
    with adapter.given(case.side(1, SIDE)):
        encode(sam.image_encoder, batch(case)).embedding.square().mean().backward()
    adapter.detach()
    assert any(value.grad is not None for _, value in adapter.trainable_parameters())
