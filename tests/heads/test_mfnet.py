"""MFNet's head: counts, one stream and two, learning a tile, and the whole of it on ViT-B."""

from __future__ import annotations

import time

import pytest
import torch
from samtune.models.card import Architecture
from samtune.models.encoder import Features, encode
from samtune.models.heads.mfnet import MfnetHead, MfnetHeadConfig
from samtune.models.loading import build
from samtune.models.peft.adapter import Adapter, freeze
from samtune.models.peft.contract import SideInputs, TuningError
from samtune.models.peft.mm_adapter import MmAdapterConfig
from samtune.models.peft.registry import config_from_json
from samtune.models.sam_modules import Sam
from samtune.models.tiny import build_tiny

TWO = SideInputs(streams=2)


@pytest.fixture(scope="module")
def tiny() -> Sam:
    torch.manual_seed(0)
    sam = build_tiny()
    freeze(sam)
    return sam


def made(sam: Sam, config: MfnetHeadConfig) -> MfnetHead:
    torch.manual_seed(1)
    head = config.build(sam)
    assert isinstance(head, MfnetHead)
    return head.eval()


def features(images: int, size: int = 4) -> Features:
    return Features(torch.randn(images, 256, size, size, generator=torch.Generator().manual_seed(images)), {})


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (MfnetHeadConfig(6), 1_643_136 + 515_102),
        (MfnetHeadConfig(6, streams=1), 1_643_136 // 2 + 515_102),
        (MfnetHeadConfig(6, fusion=False), 515_102),
    ],
)
def test_counts(tiny: Sam, config: MfnetHeadConfig, count: int) -> None:
    assert config.plan(tiny).trainable == count
    assert sum(value.numel() for _, value in made(tiny, config).trainable_parameters()) == count
    with torch.device("meta"):
        large = build(Architecture.VIT_H)
    assert config.plan(large).trainable == count
    assert {value.device.type for value in config.build(large).parameters()} == {"meta"}


@pytest.mark.parametrize("fusion", [True, False])
@pytest.mark.parametrize("size", [2, 3, 16])
def test_one_stream_and_two_give_logits_of_the_images(tiny: Sam, fusion: bool, size: int) -> None:
    head = made(tiny, MfnetHeadConfig(5, fusion=fusion, width=32))
    with torch.no_grad():
        one = head(features(2, size))
        head.side = TWO
        two = head(features(4, size))
    assert one.shape == two.shape == (2, 5, 4 * size, 4 * size)
    assert one.dtype == torch.float32


@pytest.mark.parametrize("fusion", [True, False])
def test_both_modalities_matter_and_belong_to_their_place(tiny: Sam, fusion: bool) -> None:
    head = made(tiny, MfnetHeadConfig(3, fusion=fusion, width=32))
    head.side = TWO
    given = features(4)
    changed = Features(given.embedding.clone(), {})
    changed.embedding[3] += torch.randn(256, 4, 4)
    with torch.no_grad():
        before, after = head(given), head(changed)
    torch.testing.assert_close(after[0], before[0], atol=1e-6, rtol=1e-5)
    assert (after[1] - before[1]).abs().max() > 1e-4


def test_without_fusion_it_is_the_sum_of_the_embeddings(tiny: Sam) -> None:
    head = made(tiny, MfnetHeadConfig(3, fusion=False, width=32))
    given = features(4)
    with torch.no_grad():
        alone = head(Features(given.embedding[:2] + given.embedding[2:], {}))
        head.side = TWO
        torch.testing.assert_close(head(given), alone)


def test_a_head_for_one_modality_refuses_two(tiny: Sam) -> None:
    head = made(tiny, MfnetHeadConfig(3, streams=1))
    head.side = TWO
    with pytest.raises(TuningError, match="one modality"):
        head(features(4))


@pytest.mark.parametrize(
    "config",
    [MfnetHeadConfig(1), MfnetHeadConfig(width=24), MfnetHeadConfig(width=0), MfnetHeadConfig(streams=3),
     MfnetHeadConfig(streams=0)],
)  # fmt: skip
def test_settings_out_of_range_are_refused(tiny: Sam, config: MfnetHeadConfig) -> None:
    with pytest.raises(TuningError):
        config.plan(tiny)


def test_state_goes_round_bit_for_bit_with_running_statistics(tiny: Sam) -> None:
    config = MfnetHeadConfig(3, width=32)
    head = made(tiny, config)
    head.side = TWO
    head.train()
    with torch.no_grad():
        head(features(4))
    head.eval()
    rebuilt = config_from_json(config.to_json())
    assert rebuilt == config
    torch.manual_seed(99)
    twin = rebuilt.build(tiny).eval()
    twin.side = TWO
    twin.load_state_dict(head.state_dict())
    with torch.no_grad():
        assert torch.equal(twin(features(4)), head(features(4)))


def test_adapter_and_head_learn_what_only_the_second_modality_shows(tiny: Sam) -> None:
    """The classes are invisible in the image; the second modality has them."""
    torch.manual_seed(2)
    image = 0.3 * torch.randn(1, 3, 64, 64)
    truth = torch.zeros(1, 16, 16, dtype=torch.int64)
    truth[:, 4:12, 6:] = 1
    height = torch.nn.functional.interpolate(truth[:, None].float(), (64, 64)).expand(-1, 3, -1, -1) * 2 - 1
    adapter = Adapter(tiny, [MmAdapterConfig(), MfnetHeadConfig(2, width=16)])
    adapter.attach(tiny)
    adapter.train()
    head = adapter.parts["mfnet_head"]
    weights = [value for _, value in adapter.trainable_parameters()]
    before = [value.detach().clone() for value in weights]
    optimiser = torch.optim.AdamW(weights, lr=3e-3)
    losses = []
    try:
        for _ in range(25):
            with adapter.given(TWO):
                logits = head(encode(tiny.image_encoder, torch.cat([image, height])))
            loss = torch.nn.functional.cross_entropy(logits, truth)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
    finally:
        adapter.detach()
    assert losses[-1] < 0.35 * losses[0]
    assert all(not torch.equal(old, new) for old, new in zip(before, weights, strict=True))
    assert all(value.grad is None for value in tiny.parameters())


def test_the_whole_of_it_on_vit_b() -> None:
    """A 256 px pair through ViT-B with the source's adapters and head, as a check of shapes, time and identity."""
    torch.manual_seed(0)
    sam = build(Architecture.VIT_B)
    freeze(sam)
    pair = torch.randn(2, 3, 256, 256)
    started = time.monotonic()
    with torch.inference_mode():
        frozen = encode(sam.image_encoder, pair).embedding
        alone = time.monotonic() - started
        adapter = Adapter(sam, [MmAdapterConfig(ratio=4), MfnetHeadConfig(6)])
        adapter.attach(sam)
        adapter.eval()
        started = time.monotonic()
        with adapter.given(TWO):
            found = encode(sam.image_encoder, pair)
            logits = adapter.parts["mfnet_head"](found)
        tuned = time.monotonic() - started
    assert torch.equal(found.embedding, frozen)
    assert logits.shape == (1, 6, 64, 64) and torch.isfinite(logits).all()
    assert sum(value.numel() for _, value in adapter.trainable_parameters()) == 14_201_880 + 1_643_136 + 515_102
    assert tuned < 10 * alone + 20, "two adapters per block cost a share of the encoder, not many times it"
