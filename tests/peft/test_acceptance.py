"""What every tuning method must hold: identity, files, merging, what moves and what never does, counts, learning.

Parametrised over the table of cases; a method in the registry without a case fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from samtune.models.batch_decode import decode_batch
from samtune.models.card import Architecture
from samtune.models.encoder import encode
from samtune.models.loading import build
from samtune.models.losses import dice, focal, true_iou
from samtune.models.peft.adapter import Adapter, freeze
from samtune.models.peft.adapter_card import AdapterCard, BaseRecord, HeadKind
from samtune.models.peft.adapter_file import load_adapter, save_adapter
from samtune.models.peft.contract import Scope, TuningError
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.registry import METHODS, config_from_json
from samtune.models.sam_modules import Sam

from .cases import CASES, Case
from .support import SHA, SIDE, answers, distance, equal, images, meta, pristine, same, shake, tiny, train

LEARNT = 0.4
"""By how much IoU must rise: calling everything the object gives 0.3."""

BASES = (Architecture.VIT_B, Architecture.VIT_L, Architecture.VIT_H)
CARD = AdapterCard("test", BaseRecord("tiny", Architecture.TINY, SHA, "none"), HeadKind.PROMPTABLE, "0", "2026-01-01")


def over(*cases: Case) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


EVERY = over(*CASES)
TUNES_SAM = over(*(case for case in CASES if case.config.scope is not Scope.HEAD))
FIRST = tuple({case.config.method: case for case in reversed(CASES) if case.config.scope is not Scope.HEAD}.values())
ONE_EACH = over(*FIRST)
MERGES = over(*(case for case in CASES if case.config.merges))


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Whatever a test does, the base comes out of it bit for bit, with nothing left on it."""
    sam, before = tiny(), pristine()
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in sam.modules())
    yield
    assert same(before, dict(sam.state_dict()))
    assert not any(parameter.requires_grad for parameter in sam.parameters())
    assert hooks == sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in sam.modules())


def made(case: Case, sam: Sam | None = None) -> Adapter:
    torch.manual_seed(0)
    return Adapter(sam or tiny(), [case.config]).eval()


@cache
def moved(case: Case) -> Adapter:
    """Return an adapter in the form in which it is used, that does something; always the same one."""
    adapter = made(case)
    with torch.enable_grad():
        train(tiny(), adapter, case, 2)
    shake(adapter)
    adapter.finish()
    return adapter


def test_every_method_has_a_case() -> None:
    assert {case.config.method for case in CASES} == set(METHODS)
    assert len({case.name for case in CASES}) == len(CASES)


@EVERY
def test_settings_come_back_from_their_json(case: Case) -> None:
    assert config_from_json(case.config.to_json()) == case.config
    with pytest.raises(TuningError, match="cannot be used"):
        config_from_json({**case.config.to_json(), "no_such_setting": 1})


@TUNES_SAM
@torch.no_grad()
def test_a_new_adapter_changes_nothing(case: Case) -> None:
    adapter = made(case)
    plain = answers(tiny(), None, case)
    adapter.attach(tiny())
    attached = answers(tiny(), adapter, case)
    adapter.detach()
    assert distance(plain, attached) <= case.start
    assert equal(answers(tiny(), None, case), plain), "detached, the base computes what it did"


@EVERY
def test_what_should_move_moves_and_the_base_does_not(case: Case) -> None:
    adapter = made(case)
    before = {name: value.detach().clone() for name, value in adapter.trainable_parameters()}
    base = [(parameter, parameter.detach().clone()) for parameter in tiny().parameters()]
    losses = train(tiny(), adapter, case, 3)
    assert all(torch.equal(parameter, value) for parameter, value in base)
    after = dict(adapter.trainable_parameters())
    still = [name for name, value in before.items() if torch.equal(after[name], value)]
    assert [name for name in still if not any(part in name for part in case.still)] == []
    assert all(torch.isfinite(torch.tensor(losses)))


@EVERY
@torch.no_grad()
def test_the_file_gives_back_the_same_bits(case: Case, tmp_path: Path) -> None:
    adapter = moved(case)
    written = save_adapter(tmp_path / "a.safetensors", adapter, CARD)
    loaded, card = load_adapter(tmp_path / "a.safetensors", tiny(), SHA)
    assert card == written
    assert loaded.configs == (case.config,)
    assert same(dict(adapter.state_dict()), dict(loaded.state_dict()))
    found = []
    for one in (adapter, loaded):
        one.attach(tiny())
        found.append(answers(tiny(), one, case))
        one.detach()
    assert equal(*found)


@MERGES
@torch.no_grad()
def test_merged_is_unmerged(case: Case) -> None:
    adapter = moved(case)
    plain = answers(tiny(), None, case)
    adapter.attach(tiny())
    hooked = answers(tiny(), adapter, case)
    adapter.detach()
    adapter.attach(tiny(), merged=True)
    merged = answers(tiny(), adapter, case)
    hooks = sum(len(module._forward_hooks) for module in tiny().modules())
    adapter.detach()
    assert distance(hooked, merged) < 1e-4
    assert distance(plain, merged) > 1e-3, "the test is about an adapter that does something"
    assert hooks == 0, "merged weights cost nothing"
    assert equal(answers(tiny(), None, case), plain)


@over(*(case for case in CASES if not case.config.merges))
def test_what_cannot_be_merged_says_so(case: Case) -> None:
    adapter = made(case)
    with pytest.raises(TuningError, match="cannot be merged"):
        adapter.parts[case.config.method].attach_merged(tiny())
    adapter.attach(tiny(), merged=True)
    adapter.detach()


@ONE_EACH
@pytest.mark.parametrize("merged", [False, True], ids=["hooked", "merged"])
@torch.no_grad()
def test_two_adapters_come_off_in_any_order(case: Case, merged: bool) -> None:
    first = moved(case)
    second = Adapter(tiny(), [LoraConfig(rank=2)]).eval()
    shake(second, seed=4)
    alone = []
    for adapter in (first, second):
        adapter.attach(tiny(), merged=merged and adapter is first)
        alone.append(answers(tiny(), adapter, case))
        adapter.detach()
    for order in ((0, 1), (1, 0)):
        first.attach(tiny(), merged=merged)
        second.attach(tiny(), merged=merged and not case.config.merges)
        (first, second)[order[0]].detach()
        assert equal(answers(tiny(), (first, second)[order[1]], case), alone[order[1]]) or merged
        assert distance(answers(tiny(), (first, second)[order[1]], case), alone[order[1]]) < 1e-4
        (first, second)[order[1]].detach()
    assert not (first.attached or second.attached)


@ONE_EACH
@torch.no_grad()
def test_one_can_be_made_while_another_is_in_use(case: Case) -> None:
    other = moved(case)
    plain = answers(tiny(), None, case)
    other.attach(tiny())
    adapter = made(case)
    other.detach()
    adapter.attach(tiny())
    found = answers(tiny(), adapter, case)
    adapter.detach()
    assert distance(plain, found) <= case.start


@EVERY
def test_an_adapter_is_attached_once(case: Case) -> None:
    adapter = made(case)
    if case.config.scope is Scope.HEAD:
        pytest.skip("a head is attached to nothing")
    adapter.attach(tiny())
    try:
        with pytest.raises(TuningError, match="in use already"):
            adapter.parts[case.config.method].attach(tiny())
    finally:
        adapter.detach()


@EVERY
def test_the_plan_counts_what_is_built(case: Case) -> None:
    built = sum(value.numel() for _, value in made(case).trainable_parameters())
    assert case.config.plan(tiny()).trainable == built


@EVERY
@pytest.mark.parametrize("architecture", BASES, ids=lambda base: base.value)
def test_the_plan_counts_for_the_published_sizes(case: Case, architecture: Architecture) -> None:
    base = meta(architecture)
    plan = case.config.plan(base)
    with torch.device("meta"):
        built = sum(value.numel() for _, value in Adapter(base, [case.config]).trainable_parameters())
    assert plan.trainable == built
    if case.counts:
        assert plan.trainable == case.counts[BASES.index(architecture)]
    names = dict(base.named_modules())
    assert all(site in names for site in plan.sites)


@pytest.fixture(scope="module")
def vit_b() -> Sam:
    torch.manual_seed(0)
    sam = build(Architecture.VIT_B)
    freeze(sam)
    return sam


@pytest.fixture(scope="module")
def plain_vit_b(vit_b: Sam) -> Callable[[Case], list[torch.Tensor]]:
    """Return what gives the base's own answers, computed once for one stream and once for two."""
    known: dict[int, list[torch.Tensor]] = {}

    def plain(case: Case) -> list[torch.Tensor]:
        streams = case.side(1, 256).streams
        if streams not in known:
            known[streams] = answers(vit_b, None, case, 256, 1)
        return known[streams]

    return plain


@ONE_EACH
@torch.no_grad()
def test_on_vit_b_a_new_adapter_changes_nothing(
    case: Case, vit_b: Sam, plain_vit_b: Callable[[Case], list[torch.Tensor]]
) -> None:
    adapter = made(case, vit_b)
    plain = plain_vit_b(case)
    adapter.attach(vit_b)
    attached = answers(vit_b, adapter, case, 256, 1)
    adapter.detach()
    assert distance(plain, attached) <= case.start


def tile(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noise (B, 3, 64, 64) in which nothing is to be seen, and the disc (16, 16) that is to be found in it."""
    picture = 0.3 * images(case, count=1)
    place = torch.arange(16.0) - 7.5
    return picture, ((place[:, None] ** 2 + place**2) < 25).float()


@over(*(case for case in FIRST if case.rate))
def test_one_tile_is_learnt_within_a_hundred_steps(case: Case) -> None:
    sam, adapter = tiny(), made(case)
    picture, target = tile(case)
    side = case.side(1, SIDE)

    def mask() -> torch.Tensor:
        embedding = encode(sam.image_encoder, picture).embedding[:1]
        click = torch.tensor([[[32.0, 32.0]]])
        return decode_batch(sam, embedding, click, torch.ones(1, 1), None, None)[0][0, 0]

    adapter.attach(sam)
    try:
        with adapter.given(side), torch.no_grad():
            frozen = float(true_iou(mask(), target))
        with adapter.given(side):
            adapter.calibrate(sam, [lambda: focal(mask(), target) + dice(mask(), target)])
        factors = adapter.rate_factors
        groups = [
            {"params": [value], "lr": case.rate * factors.get(name, 1.0)}
            for name, value in adapter.trainable_parameters()
        ]
        optimiser = torch.optim.Adam(groups)
        best = frozen
        for step in range(100):
            adapter.begin_step(step / 100)
            with adapter.given(side):
                logits = mask()
            best = max(best, float(true_iou(logits, target)))
            if best > frozen + LEARNT:
                break
            optimiser.zero_grad()
            (focal(logits, target) + dice(logits, target)).backward()
            optimiser.step()
    finally:
        adapter.detach()
    assert best > frozen + LEARNT
