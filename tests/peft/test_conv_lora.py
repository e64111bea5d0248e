"""Conv-LoRA: grid and windows, the choice of experts, their balance, and recomputation."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from samtune.models.encoder import encode
from samtune.models.peft.adapter import Adapter
from samtune.models.peft.contract import SideInputs, TuningError
from samtune.models.peft.conv_lora import ConvLora, ConvLoraConfig, ConvLowRank, Expert, ExpertGate, imbalance
from samtune.models.peft.sites import ATTENTION, EVERY_LAYER
from samtune.models.sam_modules import window_partition, window_unpartition
from torch import nn
from torch.nn import functional

from .windowed import attached, embed, images, perturb, windowed_sam

CONFIG = ConvLoraConfig(experts=(1, 2, 4))


def update(config: ConvLoraConfig = CONFIG) -> ConvLowRank:
    torch.manual_seed(3)
    made = ConvLowRank(nn.Linear(8, 12), config).eval()
    perturb(made)
    made.grid = (5, 7)
    return made


def part_of(adapter: Adapter) -> ConvLora:
    part = adapter.parts["conv_lora"]
    assert isinstance(part, ConvLora)
    return part


def test_the_update_is_that_of_the_equation() -> None:
    made = update(ConvLoraConfig(experts=(1, 3), rank=2))
    x = torch.randn(1, 5, 7, 8)
    h = x @ made.lora_A.T
    mean = h.mean(dim=(1, 2))
    shares = (mean @ made.gate.choice.T).softmax(dim=-1)
    best = int(shares.argmax())
    expert = made.experts[best]
    seen = expert(h.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    expected = (h + shares[0, best] * seen) @ made.lora_B.T
    got, told = made(x, 0)
    assert torch.allclose(got, expected, atol=1e-5)
    assert torch.allclose(told, shares)


def test_windows_make_no_seams() -> None:
    made = update()
    x = torch.randn(2, 5, 7, 8)
    windows, padded = window_partition(x, 3)
    whole, shares = made(x, 0)
    parts, told = made(windows, 3)
    assert parts.shape[:3] == windows.shape[:3]
    assert torch.allclose(window_unpartition(parts, 3, padded, (5, 7)), whole, atol=1e-5)
    assert torch.allclose(shares, told), "one choice per image, not per window"


def test_padding_of_windows_gets_nothing() -> None:
    made = update()
    windows, padded = window_partition(torch.randn(1, 5, 7, 8), 3)
    grown = made(windows, 3)[0].view(2, 3, 3, 3, 12).permute(0, 2, 1, 3, 4).reshape(*padded, 12)
    assert not grown[5:].any()
    assert not grown[:, 7:].any()
    assert grown[:5, :7].all()


def test_experts_see_at_their_scale() -> None:
    torch.manual_seed(0)
    h = torch.randn(1, 3, 6, 5)
    near = Expert(3, 1, h.device)
    assert torch.allclose(near(h), functional.gelu(near.conv(h)))
    point = torch.zeros(1, 3, 15, 15)
    point[..., 7, 7] = 1.0
    reach = []
    for scale in (1, 4):
        expert = Expert(3, scale, h.device)
        with torch.no_grad():
            expert.conv.weight.fill_(1.0)
            expert.conv.bias.zero_()
        seen = expert(point)[0, 0].detach().abs()
        assert seen.shape == (15, 15)
        reach.append(float((seen[4:11, 4:11].sum() - seen[6:9, 6:9].sum()) / seen.sum()))
    assert reach[0] == 0, "three by three, no further"
    assert reach[1] > 0, "resizing looks further"


def test_each_image_has_its_own_expert_whatever_is_beside_it() -> None:
    sam = windowed_sam()
    adapter, part = attached(sam, ConvLoraConfig(layers=ATTENTION))
    adapter.eval()
    with torch.no_grad():
        for made in part.modules():
            if isinstance(made, ExpertGate):
                made.choice.mul_(20.0)
    batch = torch.cat([images(2, 0), 5 * images(2, 1)])
    together = embed(sam, batch)
    alone = torch.cat([embed(sam, batch[index : index + 1]) for index in range(4)])
    assert torch.allclose(together, alone, atol=1e-4)
    chosen = set()
    first = next(made for made in part.modules() if isinstance(made, ConvLowRank))
    for row in first(torch.randn(40, 5, 5, 32) * 3, 0)[1].argmax(dim=-1):
        chosen.add(int(row))
    assert len(chosen) > 1, "the test is about a choice"


def test_noise_in_training_only() -> None:
    sam = windowed_sam()
    adapter, _ = attached(sam, CONFIG)
    batch = images(3)
    adapter.eval()
    assert torch.equal(embed(sam, batch), embed(sam, batch))
    adapter.train()
    assert not torch.equal(embed(sam, batch), embed(sam, batch))


def test_balance_is_one_where_even_and_grows_to_the_number_of_experts() -> None:
    even = torch.eye(3) * 0.94 + 0.02
    assert torch.isclose(imbalance(even), torch.tensor(1.0))
    assert imbalance(torch.tensor([[0.98, 0.01, 0.01]] * 4)) == pytest.approx(2.94)
    assert imbalance(torch.tensor([[0.6, 0.2, 0.2]] * 4)) == pytest.approx(1.8)


def test_the_penalty_spreads_a_choice_that_has_collapsed() -> None:
    torch.manual_seed(0)
    gate = ExpertGate(3, 3, torch.device("cpu"))
    means = torch.randn(200, 3) + 2.0
    with torch.no_grad():
        gate.choice[0] = 1.0
    before = gate.eval()(means).argmax(dim=-1).bincount(minlength=3).max() / 200
    optimiser = torch.optim.Adam(gate.parameters(), lr=0.05)
    gate.train()
    for _ in range(150):
        optimiser.zero_grad()
        imbalance(gate(means)).backward()
        optimiser.step()
    after = gate(means).argmax(dim=-1).bincount(minlength=3).max() / 200
    assert before > 0.99
    assert after < 0.5


def test_the_penalty_is_weighted_averaged_over_layers_and_for_training_only() -> None:
    sam = windowed_sam()
    adapter, part = attached(sam, ConvLoraConfig(balance=0.5, layers=ATTENTION))
    adapter.eval()
    embed(sam, images(2))
    assert adapter.penalty() is None
    adapter.train()
    encode(sam.image_encoder, images(2))
    value = adapter.penalty()
    assert value is not None
    assert 0 < float(value.detach()) <= 0.5 * 3
    assert len(part_of(adapter)._shares) == 6
    value.backward()
    gates = [made for made in part.modules() if isinstance(made, ExpertGate)]
    assert all(made.choice.grad is not None and made.choice.grad.any() for made in gates)
    assert all(made.noise.grad is not None and made.noise.grad.any() for made in gates)
    adapter.detach()
    quiet, _ = attached(sam, ConvLoraConfig(balance=0.0))
    encode(sam.image_encoder, images(1))
    assert quiet.penalty() is None


def test_the_task_teaches_the_gate_too_and_only_the_chosen_experts() -> None:
    sam = windowed_sam()
    adapter, part = attached(sam, CONFIG)
    adapter.eval()
    encode(sam.image_encoder, images(1)).embedding.square().mean().backward()
    for made in part.modules():
        if isinstance(made, ConvLowRank):
            assert made.gate.choice.grad is not None
            assert made.gate.choice.grad.any()
            taught = [expert.conv.weight.grad is not None for expert in made.experts]
            assert sum(taught) == 1


def test_computing_again_counts_nothing_twice() -> None:
    sam = windowed_sam()
    adapter, _ = attached(sam, CONFIG)
    adapter.train()
    found = []
    for recompute in (False, True):
        torch.manual_seed(7)
        adapter.zero_grad()
        side = SideInputs()
        with adapter.given(side):
            again = partial(adapter.given, side)
            embedding = encode(sam.image_encoder, images(2), recompute=recompute, again=again).embedding
        penalty = adapter.penalty()
        assert penalty is not None
        (embedding.square().mean() + penalty).backward()
        after = adapter.penalty()
        assert after is not None
        assert torch.equal(after, penalty)
        found.append((float(penalty.detach()), [value.grad for _, value in adapter.trainable_parameters()]))
    assert found[0][0] == found[1][0]
    for plain, again_ in zip(found[0][1], found[1][1], strict=True):
        assert (plain is None) == (again_ is None)
        assert plain is None or (again_ is not None and torch.allclose(plain, again_, atol=1e-6))


def test_it_works_on_the_mlp_and_in_half_precision() -> None:
    sam = windowed_sam()
    adapter, _ = attached(sam, ConvLoraConfig(layers=EVERY_LAYER))
    adapter.eval()
    exact = embed(sam, images(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = embed(sam, images(1))
    assert (rough.float() - exact).abs().mean() < 0.2 * exact.abs().mean()


def test_memory_can_be_counted_on_the_meta_device() -> None:
    sam = windowed_sam().to("meta")
    adapter, _ = attached(sam, CONFIG, moved=False)
    adapter.train()
    embedding = encode(sam.image_encoder, torch.empty(2, 3, 80, 80, device="meta")).embedding
    embedding.sum().backward()
    assert embedding.is_meta


@pytest.mark.parametrize(
    "config",
    [
        ConvLoraConfig(experts=(2,)),
        ConvLoraConfig(experts=(1, 1)),
        ConvLoraConfig(experts=(0, 1)),
        ConvLoraConfig(layers=()),
        ConvLoraConfig(balance=-1.0),
        ConvLoraConfig(rank=0),
        ConvLoraConfig(rank=33),
        ConvLoraConfig(alpha=0.0),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(config: ConvLoraConfig) -> None:
    with pytest.raises(TuningError, match=r"Conv-LoRA|rank|alpha"):
        config.plan(windowed_sam())
