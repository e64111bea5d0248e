"""The gate: its budget, the ramp, hardening, files in every phase, and what learns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import cache, partial

import pytest
import torch
from samtune.models.card import Architecture
from samtune.models.encoder import encode
from samtune.models.loading import build
from samtune.models.peft.adapter import Adapter
from samtune.models.peft.contract import TuningError
from samtune.models.peft.gate import Gate
from samtune.models.peft.gate_config import GateConfig, Selection
from samtune.models.peft.lora import LoraConfig
from samtune.models.sam_modules import Sam

from .windowed import embed, images, windowed_sam

CONFIG = GateConfig(share=0.01, gate_rate=10.0)
RATE = 3e-3


@cache
def base() -> Sam:
    return windowed_sam()


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    before = {name: value.clone() for name, value in base().state_dict().items()}
    yield
    assert all(torch.equal(value, before[name]) for name, value in base().state_dict().items())
    assert not any(value.requires_grad for value in base().parameters())
    assert not any("forward" in vars(module) for module in base().modules())


def loss(seed: int = 0) -> torch.Tensor:
    """Ask for an embedding that is turned: something that weights can learn."""
    embedding = encode(base().image_encoder, images(1, seed)).embedding
    return (embedding - aim(seed)).square().mean()


@cache
def aim(seed: int) -> torch.Tensor:
    return torch.randn(1, 256, 5, 5, generator=torch.Generator().manual_seed(50 + seed))


def samples(count: int = 2) -> list[Callable[[], torch.Tensor]]:
    return [partial(loss, seed) for seed in range(count)]


def made(config: GateConfig = CONFIG, *, calibrated: bool = True) -> tuple[Adapter, Gate]:
    adapter = Adapter(base(), [config])
    part = adapter.parts["gate"]
    assert isinstance(part, Gate)
    if calibrated:
        adapter.calibrate(base(), samples())
    return adapter, part


Watch = Callable[[float], None]


def train(adapter: Adapter, steps: int, *, start: int = 0, stop: int | None = None, watch: Watch | None = None) -> None:
    """Train steps ``start`` to ``stop`` of ``steps``."""
    factors = adapter.rate_factors
    groups = [{"params": [v], "lr": RATE * factors.get(name, 1.0)} for name, v in adapter.trainable_parameters()]
    optimiser = torch.optim.Adam(groups)
    adapter.train()
    adapter.attach(base())
    try:
        for step in range(start, stop or steps):
            torch.manual_seed(step)
            adapter.begin_step(step / steps)
            if watch is not None:
                watch(step / steps)
            optimiser.zero_grad()
            loss(step % 2).backward()
            optimiser.step()
    finally:
        adapter.detach()
        adapter.eval()


def output(adapter: Adapter, *, merged: bool = False) -> torch.Tensor:
    adapter.eval()
    adapter.attach(base(), merged=merged)
    found = embed(base(), images(2))
    adapter.detach()
    return found


BUDGET = int(0.01 * sum(value.numel() for value in windowed_sam().image_encoder.parameters()))


@pytest.mark.parametrize(
    ("architecture", "budget"),
    [(Architecture.VIT_B, 269_012), (Architecture.VIT_L, 924_834), (Architecture.VIT_H, 1_911_078)],
    ids=lambda value: getattr(value, "value", None),
)
def test_the_budget_is_exact_for_the_published_sizes(architecture: Architecture, budget: int) -> None:
    with torch.device("meta"):
        sam = build(architecture)
    config = GateConfig()
    plan = config.plan(sam)
    encoder = sum(value.numel() for value in sam.image_encoder.parameters())
    assert plan.trainable == budget == encoder * 3 // 1000
    assert config.candidates_of(sam) == 4 * budget
    assert len(plan.replaced) == 4 * len(sam.image_encoder.blocks)
    part = config.build(sam)
    shapes = {name: (tuple(value.shape), value.dtype) for name, value in part.state_dict().items()}
    assert shapes == {"index": ((budget,), torch.int32), "delta": ((budget,), torch.float16)}


@pytest.mark.parametrize("selection", Selection)
@pytest.mark.parametrize("steps", [1, 10])
def test_exactly_the_budget_is_kept_and_changed(selection: Selection, steps: int) -> None:
    adapter, part = made(dataclasses.replace(CONFIG, selection=selection, half=False))
    train(adapter, steps)
    adapter.finish()
    assert part.index.shape == part.delta.shape == (BUDGET,)
    assert bool((part.index.diff() > 0).all()), "no weight twice"
    changed = 0
    for name, tensor in part.merged(base()).items():
        changed += int((tensor != base().get_parameter(name)).sum())
    assert changed == int((part.delta != 0).sum())
    if steps > 1:
        assert changed > 0.95 * BUDGET
    assert sum(value.numel() for _, value in adapter.trainable_parameters()) == BUDGET


def test_before_it_knows_the_data_it_changes_nothing_and_does_not_train() -> None:
    adapter, part = made(calibrated=False)
    assert torch.equal(output(adapter), embed(base(), images(2)))
    assert part.merged(base()) == {}
    assert not part.chosen
    assert part.expected_open() == 0
    with pytest.raises(TuningError, match="Calibrate"):
        adapter.begin_step(0.0)
    adapter.finish()
    assert torch.equal(output(adapter), embed(base(), images(2)))


def test_calibration_chooses_what_is_sensitive_and_changes_nothing() -> None:
    adapter, part = made()
    assert part.index.shape == (4 * BUDGET,)
    assert torch.equal(output(adapter), embed(base(), images(2)))
    plain = embed(base(), images(2))
    adapter.train()
    adapter.attach(base())
    adapter.begin_step(0.0)
    gated = embed(base(), images(2))
    adapter.detach()
    assert torch.equal(gated, plain), "gates on changes of zero"
    weights = [base().get_parameter(name) for name in CONFIG.plan(base()).replaced]
    for weight in weights:
        weight.requires_grad_(True)
    planes = [torch.zeros_like(weight) for weight in weights]
    for sample in samples():
        for plane, gradient in zip(planes, torch.autograd.grad(sample(), weights), strict=True):
            plane.add_(gradient**2)
    for weight in weights:
        weight.requires_grad_(False)
    flat = torch.cat([plane.flatten() for plane in planes])
    best = flat.topk(4 * BUDGET).indices.sort().values
    shared = torch.isin(part.index.long(), best).float().mean()
    assert shared > 0.999


def test_calibration_works_attached_and_takes_no_more_samples_than_asked() -> None:
    asked: list[int] = []

    def counted(seed: int) -> torch.Tensor:
        asked.append(seed)
        return loss(seed)

    _, reference = made(dataclasses.replace(CONFIG, samples=2))
    adapter, part = made(dataclasses.replace(CONFIG, samples=2), calibrated=False)
    adapter.attach(base())
    adapter.calibrate(base(), [partial(counted, seed) for seed in range(9)])
    adapter.detach()
    assert asked == [0, 1]
    assert torch.equal(part.index, reference.index)


def test_the_expected_number_follows_the_ramp_and_is_at_the_budget_when_hardening() -> None:
    adapter, part = made(dataclasses.replace(CONFIG, gate_rate=30.0))
    seen: list[tuple[float, float]] = []
    train(adapter, 60, watch=lambda progress: seen.append((progress, part.expected_open())))
    start = 4 * BUDGET * CONFIG.gates.open_at(2.0)
    assert start > 3.8 * BUDGET
    for progress, expected in seen:
        wanted = start + (BUDGET - start) * min(progress / 0.3, 1.0)
        assert expected == pytest.approx(wanted, rel=1e-4), progress
    assert seen[23][1] == pytest.approx(BUDGET, rel=1e-4), "the last step with gates"
    assert part.kept is not None
    assert int(part.kept.sum()) == BUDGET


def test_logits_drift_little_between_two_shifts() -> None:
    adapter, part = made()
    drifts: list[float] = []

    def look(progress: float) -> None:
        if part.logits is not None and not part._hardened and progress > 0:
            drifts.append(part.expected_open())

    before: list[float] = []
    plain = part.begin_step

    def begin(progress: float) -> None:
        before.append(part.expected_open())
        plain(progress)

    part.begin_step = begin  # type: ignore[method-assign]
    train(adapter, 60, watch=look)
    for early, late in zip(drifts[:-1], before[2:], strict=False):
        assert late == pytest.approx(early, rel=0.05), "what one step of the optimiser does to the number"


def test_the_ramp_holds_at_vit_b_s_size_whatever_pushes_the_logits() -> None:
    torch.manual_seed(0)
    config, budget, entries = GateConfig(), 269_012, 1_076_048
    logits = torch.full((entries,), config.initial)
    for push in (0.05, -0.05):
        for step in range(0, 40, 4):
            target = config.target(step / 100, entries, budget)
            logits += config.gates.shift_to(logits, target)
            assert config.gates.expected(logits) == pytest.approx(target, rel=1e-4)
            logits += push + 0.05 * torch.randn(entries).sign()
            assert config.gates.expected(logits) == pytest.approx(target, rel=0.08), "within one step, at worst"
    assert config.target(0.39, entries, budget) == budget


def test_gates_are_drawn_per_step_and_open_as_often_as_expected() -> None:
    adapter, part = made()
    adapter.train()
    with torch.no_grad():
        part.delta.fill_(1.0)
    drawn = []
    for progress in (0.0, 0.15, 0.3):
        adapter.begin_step(progress)
        drawn.append(part._weighted().detach())
        assert float((drawn[-1] > 0).sum()) == pytest.approx(part.expected_open(), rel=0.25)
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(part._weighted(), drawn[-1]), "the same within a step"


def test_hardening_keeps_the_largest_changes_that_are_likely_open() -> None:
    adapter, part = made()
    assert part.logits is not None
    with torch.no_grad():
        part.delta.copy_(torch.randn(part.delta.shape))
        part.logits.copy_(2 * torch.randn(part.delta.shape))
        strength = part.delta.abs() * CONFIG.gates.open(part.logits)
        values = part.delta.clone()
    before = output(adapter)
    part.harden()
    assert part.kept is not None
    assert int(part.kept.sum()) == BUDGET
    assert strength[part.kept].min() >= strength[~part.kept].max()
    assert torch.equal(part.delta, values * part.kept)
    assert torch.equal(output(adapter), before), "at rest it already counted as it would after hardening"
    index, kept = part.index.clone(), part.kept.clone()
    part.harden()
    assert torch.equal(part.kept, kept)
    adapter.finish()
    assert torch.equal(part.index, index[kept])
    assert torch.equal(part.delta, values[kept].half().float())


def test_after_hardening_only_what_was_kept_learns() -> None:
    adapter, part = made()
    train(adapter, 20, stop=9)
    assert part.kept is not None
    assert part.logits is not None
    assert int(part.kept.sum()) == BUDGET
    logits, kept, delta = part.logits.detach().clone(), part.kept.clone(), part.delta.detach().clone()
    train(adapter, 20, start=9, stop=14)
    assert torch.equal(part.logits, logits)
    assert torch.equal(part.kept, kept)
    assert not part._weighted()[~kept].any(), "whatever is left of momentum"
    assert (part.delta[kept] != delta[kept]).float().mean() > 0.95


def test_an_optimiser_keeps_its_parameters_until_the_end() -> None:
    adapter, _ = made()
    before = [id(value) for _, value in adapter.trainable_parameters()]
    train(adapter, 10)
    assert [id(value) for _, value in adapter.trainable_parameters()] == before
    assert adapter.rate_factors == {"gate.logits": 10.0}
    adapter.finish()
    assert [name for name, _ in adapter.trainable_parameters()] == ["gate.delta"]
    assert adapter.rate_factors == {}


def test_the_task_is_learnt() -> None:
    adapter, _ = made(dataclasses.replace(CONFIG, share=0.03))
    with torch.no_grad():
        frozen = float(loss(0) + loss(1))
    train(adapter, 60)
    adapter.finish()
    adapter.attach(base())
    with torch.no_grad():
        tuned = float(loss(0) + loss(1))
    adapter.detach()
    assert tuned < 0.9 * frozen


@pytest.mark.parametrize("stop", [1, 3, 7], ids=["first", "gates", "hardened"])
@pytest.mark.parametrize("selection", Selection)
def test_training_goes_on_from_a_state_in_any_phase(stop: int, selection: Selection) -> None:
    config = dataclasses.replace(CONFIG, selection=selection)
    adapter, part = made(config)
    train(adapter, 10, stop=stop)
    state = {name: value.clone() for name, value in adapter.state_dict().items()}
    assert state["gate.delta"].dtype == torch.float32, "not rounded while training goes on"
    other, twin = made(config, calibrated=False)
    other.load_state_dict(state)
    other.calibrate(base(), [])
    for name, value in other.state_dict().items():
        assert torch.equal(value, state[name])
    assert twin._hardened == part._hardened
    assert torch.equal(output(other), output(adapter))
    for one in (adapter, other):
        train(one, 10, start=stop, stop=stop + 2)
        one.finish()
    assert torch.equal(part.index, twin.index)
    assert torch.equal(part.delta, twin.delta)


@pytest.mark.parametrize("half", [True, False])
def test_a_finished_adapter_comes_back_bit_for_bit_and_can_be_tuned_on(half: bool) -> None:
    adapter, part = made(dataclasses.replace(CONFIG, half=half))
    train(adapter, 6)
    adapter.finish()
    state = adapter.state_dict()
    assert {name: value.dtype for name, value in state.items()} == {
        "gate.index": torch.int32,
        "gate.delta": torch.float16 if half else torch.float32,
    }
    assert sum(value.numel() * value.element_size() for value in state.values()) == BUDGET * (6 if half else 8)
    other, twin = made(dataclasses.replace(CONFIG, half=half), calibrated=False)
    other.load_state_dict(state)
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())
    assert torch.equal(output(other), output(adapter))
    other.calibrate(base(), [])
    held = twin.delta
    train(other, 4)
    assert twin.delta is held
    assert torch.equal(twin.index, part.index), "the choice stays"
    assert not torch.equal(twin.delta, part.delta)
    assert twin.state_dict()["delta"].dtype == torch.float32


@pytest.mark.parametrize("wrong", ["order", "beyond", "negative"])
def test_indices_that_cannot_be_are_refused(wrong: str) -> None:
    adapter, _ = made()
    train(adapter, 3)
    adapter.finish()
    state = adapter.state_dict()
    index = state["gate.index"].clone()
    if wrong == "order":
        index[:2] = index[:2].flip(0)
    elif wrong == "beyond":
        index[-1] = 2**31 - 1
    else:
        index[0] = -5
    other, _ = made(calibrated=False)
    with pytest.raises(TuningError, match="damaged"):
        other.load_state_dict({**state, "gate.index": index})


def test_another_number_of_weights_is_refused() -> None:
    adapter, _ = made(dataclasses.replace(CONFIG, share=0.02))
    other, _ = made(calibrated=False)
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.load_state_dict(adapter.state_dict())


@pytest.mark.parametrize("selection", Selection)
def test_merged_is_unmerged_to_the_bit(selection: Selection) -> None:
    adapter, _ = made(dataclasses.replace(CONFIG, selection=selection))
    train(adapter, 6)
    adapter.finish()
    found = output(adapter)
    assert torch.equal(output(adapter, merged=True), found)
    assert not torch.equal(found, embed(base(), images(2)))


def test_it_stacks_with_lora_on_the_same_layers() -> None:
    adapter = Adapter(base(), [LoraConfig(rank=2), CONFIG])
    adapter.calibrate(base(), samples())
    train(adapter, 6)
    adapter.finish()
    hooked = output(adapter)
    assert torch.allclose(output(adapter, merged=True), hooked, atol=1e-4)
    alone, _ = made(calibrated=False)
    alone.load_state_dict({k: v for k, v in adapter.state_dict().items() if k.startswith("gate.")})
    assert not torch.allclose(output(alone), hooked, atol=1e-4)


def test_two_gates_are_not_in_use_at_once() -> None:
    first, _ = made()
    second, _ = made()
    first.attach(base())
    with pytest.raises(TuningError, match="at once"):
        second.attach(base())
    assert not second.attached
    first.detach()
    second.attach(base())
    second.detach()


def test_computing_again_gives_the_same_gradients() -> None:
    adapter, part = made()
    train(adapter, 20, stop=3)
    adapter.train()
    adapter.attach(base())
    torch.manual_seed(0)
    adapter.begin_step(0.2)
    found = []
    for recompute in (False, True):
        adapter.zero_grad()
        encode(base().image_encoder, images(2), recompute=recompute).embedding.square().mean().backward()
        found.append([value.grad for value in (part.delta, part.logits)])  # type: ignore[union-attr]
    adapter.detach()
    for plain, again in zip(*found, strict=True):
        assert plain is not None
        assert again is not None
        assert plain.any()
        assert torch.allclose(plain, again, atol=1e-7)


def test_a_look_between_passes_does_not_disturb_what_is_computed_again() -> None:
    adapter, part = made()
    adapter.train()
    adapter.attach(base())
    adapter.begin_step(0.2)
    value = encode(base().image_encoder, images(1), recompute=True).embedding.square().mean()
    embed(base(), images(1))
    value.backward()
    adapter.detach()
    assert part.delta.grad is not None


def test_gradients_are_those_of_the_full_weights_at_the_chosen_places() -> None:
    adapter, part = made(dataclasses.replace(CONFIG, selection=Selection.SCORED))
    adapter.train()
    adapter.attach(base())
    loss().backward()
    adapter.detach()
    weights = [base().get_parameter(name) for name in CONFIG.plan(base()).replaced]
    for weight in weights:
        weight.requires_grad_(True)
    full = torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss(), weights)])
    for weight in weights:
        weight.requires_grad_(False)
    assert part.delta.grad is not None
    assert torch.allclose(part.delta.grad, full[part.index.long()], atol=1e-8, rtol=1e-4)


def test_it_trains_in_half_precision() -> None:
    adapter, part = made()
    adapter.train()
    adapter.attach(base())
    adapter.begin_step(0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss()
    value.backward()
    adapter.detach()
    assert part.delta.grad is not None
    assert part.delta.grad.dtype == torch.float32
    assert part.delta.grad.any()


def test_memory_can_be_counted_on_the_meta_device() -> None:
    sam = windowed_sam().to("meta")
    adapter = Adapter(sam, [CONFIG])
    adapter.calibrate(sam, [])
    adapter.train()
    adapter.attach(sam)
    adapter.begin_step(0.0)
    encode(sam.image_encoder, torch.empty(1, 3, 80, 80, device="meta")).embedding.sum().backward()
    part = adapter.parts["gate"]
    assert isinstance(part, Gate)
    assert part.delta.grad is not None
    assert part.delta.grad.shape == (4 * BUDGET,)


def test_noise_and_shift_do_not_depend_on_the_number_of_passes() -> None:
    """A pass of validation between two steps, or a second one within a step, changes nothing of the training."""
    found = []
    for looks in (False, True):
        adapter, part = made()

        def look(_progress: float, looks: bool = looks, adapter: Adapter = adapter) -> None:
            if looks:
                adapter.eval()
                embed(base(), images(1))
                adapter.train()

        train(adapter, 8, watch=look)
        found.append(part.delta.detach().clone())
    assert torch.equal(*found)


@pytest.mark.parametrize(
    "values",
    [
        {"share": 0.0},
        {"share": 1.0},
        {"candidates": 1.0},
        {"ramp": 0.5},
        {"ramp": 0.0},
        {"harden_at": 1.0},
        {"samples": 0},
        {"gate_rate": 0.0},
        {"beta": 0.0},
        {"gamma": 0.1},
        {"zeta": 0.9},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(TuningError):
        dataclasses.replace(GateConfig(), **values).plan(base())  # type: ignore[arg-type]
