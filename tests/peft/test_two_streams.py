"""What methods with two streams have in common: nothing changed at the start, and streams kept apart in one batch."""

from __future__ import annotations

import pytest
import torch
from samtune.models.peft.contract import MethodConfig, SideInputs
from samtune.models.peft.mm_adapter import MmAdapterConfig
from samtune.models.peft.mm_lora import MmLoraConfig
from samtune.models.sam_modules import Sam
from samtune.models.tiny import build_tiny

from .windowed import attached, embed, images, windowed_sam

TWO = SideInputs(streams=2)
APART = (MmAdapterConfig(exchange=False), MmLoraConfig(exchange=False))
CROSSED = (MmAdapterConfig(), MmLoraConfig())

of_all = pytest.mark.parametrize("config", APART + CROSSED, ids=str)
of_crossed = pytest.mark.parametrize("config", CROSSED, ids=str)


@pytest.fixture
def sam() -> Sam:
    return windowed_sam()


@of_all
def test_a_new_one_changes_no_stream(sam: Sam, config: MethodConfig) -> None:
    batch = images(4)
    frozen = embed(sam, batch)
    adapter, _ = attached(sam, config, moved=False)
    assert torch.equal(embed(sam, batch, adapter, TWO), frozen)
    assert torch.equal(embed(sam, batch, adapter, SideInputs()), frozen)
    adapter.detach()
    for half in (slice(0, 2), slice(2, 4)):
        torch.testing.assert_close(embed(sam, batch[half]), frozen[half], atol=1e-5, rtol=1e-5)


@of_crossed
def test_a_new_one_changes_nothing_in_tiny(config: MethodConfig) -> None:
    torch.manual_seed(3)
    tiny = build_tiny()
    batch = torch.randn(2, 3, 96, 64)
    frozen = embed(tiny, batch)
    adapter, _ = attached(tiny, config, moved=False)
    assert torch.equal(embed(tiny, batch, adapter, TWO), frozen)


@of_crossed
def test_the_second_modality_off_equals_a_single_stream(sam: Sam, config: MethodConfig) -> None:
    adapter, part = attached(sam, config)
    alone = embed(sam, images(2), adapter, SideInputs())
    ways_out = [
        value
        for name, value in part.named_parameters()
        if ".second." in name and (".up." in name or name.endswith("lora_B"))
    ]
    assert ways_out
    with torch.no_grad():
        for value in ways_out:
            value.zero_()
    both = embed(sam, torch.cat([images(2), images(2, seed=9)]), adapter, TWO)
    torch.testing.assert_close(both[:2], alone, atol=1e-5, rtol=1e-5)


@of_crossed
def test_a_moved_one_with_a_single_stream_changes_the_image(sam: Sam, config: MethodConfig) -> None:
    frozen = embed(sam, images(1))
    adapter, _ = attached(sam, config)
    assert (embed(sam, images(1), adapter, SideInputs()) - frozen).abs().max() > 1e-2


@of_all
def test_modalities_reach_each_other_only_by_exchange(sam: Sam, config: MethodConfig) -> None:
    adapter, _ = attached(sam, config)
    here, other = images(2), images(2, seed=9)
    first = embed(sam, torch.cat([here, here]), adapter, TWO)
    second_changed = embed(sam, torch.cat([here, other]), adapter, TWO)
    first_changed = embed(sam, torch.cat([other, here]), adapter, TWO)
    assert torch.equal(first[:2], second_changed[:2]) is (config in APART)
    assert torch.equal(first[2:], first_changed[2:]) is (config in APART)


@of_crossed
def test_an_exchange_is_between_the_modalities_of_one_place(sam: Sam, config: MethodConfig) -> None:
    # In blocks with windows too, where the batch of a hook is of windows.
    adapter, _ = attached(sam, config)
    image, second, other = images(2), images(2, seed=8), images(2, seed=9)
    before = embed(sam, torch.cat([image, second]), adapter, TWO)
    after = embed(sam, torch.cat([image, torch.stack([second[0], other[1]])]), adapter, TWO)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[1], after[1])
