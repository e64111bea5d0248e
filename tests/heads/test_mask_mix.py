"""Mixing SAM's three masks: nothing changes before training, one click alone is changed after, and it learns."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from samtune.models import registry
from samtune.models.batch_decode import decode_batch
from samtune.models.peft import persam
from samtune.models.peft.adapter import Adapter
from samtune.models.peft.contract import Scope, TuningError
from samtune.models.peft.persam import MaskMix, MaskMixConfig, MixExample, fit_mask_mix
from samtune.models.peft.registry import config_from_json
from samtune.models.peft.selective import DecoderConfig
from samtune.models.promptable import PromptableModel
from samtune.models.sam_modules import Sam
from samtune.models.tiny import build_tiny
from torch import nn
from torch.nn.functional import avg_pool2d

from .scenes import disc, discs, seen, shipped

CELLS = 8


@pytest.fixture(scope="module")
def sam() -> Sam:
    torch.manual_seed(0)
    return build_tiny().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def embedding() -> torch.Tensor:
    return torch.randn(1, 256, CELLS, CELLS, generator=torch.Generator().manual_seed(1))


def _part(sam: Sam, first: float | None = None, second: float = 0.0) -> MaskMix:
    part = MaskMixConfig().build(sam)
    assert isinstance(part, MaskMix)
    if first is not None:
        part.shift.data = torch.tensor([first, second]) - 1 / 3
    return part


def _batch(sam: Sam, embedding: torch.Tensor, clicks: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode five objects by the batch."""
    random = torch.Generator().manual_seed(2)
    points = torch.rand(5, clicks, 2, generator=random) * 16 * CELLS
    return decode_batch(sam, embedding, points, torch.ones(5, clicks, dtype=torch.int64), None, None)


def _module(sam: Sam, embedding: torch.Tensor, *, multimask: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode two objects by calling the decoder itself."""
    random = torch.Generator().manual_seed(3)
    logits, iou = sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe()[..., :CELLS, :CELLS],
        sparse_prompt_embeddings=torch.randn(2, 2, 256, generator=random),
        dense_prompt_embeddings=torch.randn(2, 256, CELLS, CELLS, generator=random),
        multimask_output=multimask,
    )
    return logits, iou


def test_it_is_two_numbers(sam: Sam) -> None:
    config = MaskMixConfig()
    assert config.scope is Scope.DECODER
    assert config.plan(sam).trainable == sum(value.numel() for value in _part(sam).parameters()) == 2
    assert config.plan(sam).sites == ("mask_decoder",)
    assert config_from_json(config.to_json()) == config


def test_weights_begin_as_thirds_and_sum_to_one(sam: Sam) -> None:
    assert torch.allclose(_part(sam).weights, torch.full((3,), 1 / 3))
    weights = _part(sam, 0.7, -0.2).weights
    assert torch.allclose(weights, torch.tensor([0.7, -0.2, 0.5]))


def test_untrained_it_changes_no_bit(sam: Sam, embedding: torch.Tensor) -> None:
    part = _part(sam)
    before = _batch(sam, embedding), _module(sam, embedding)
    part.attach(sam)
    after = _batch(sam, embedding), _module(sam, embedding)
    part.detach()
    for one, two in zip(before, after, strict=True):
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])


def test_untrained_it_has_the_gradient_of_the_mixture(sam: Sam, embedding: torch.Tensor) -> None:
    part = _part(sam)
    part.attach(sam)
    try:
        _batch(sam, embedding)[0].square().mean().backward()
    finally:
        part.detach()
    assert part.shift.grad is not None
    assert part.shift.grad.abs().min() > 0


@pytest.mark.parametrize("decode", [_batch, _module])
def test_the_mixture_takes_the_place_of_the_choice(decode: object, sam: Sam, embedding: torch.Tensor) -> None:
    call = _batch if decode is _batch else _module
    logits, iou = call(sam, embedding)
    three = logits[:, -3:]
    part = _part(sam, 0.6, 0.3)
    part.attach(sam)
    try:
        mixed, same = call(sam, embedding)
    finally:
        part.detach()
    assert torch.equal(same, iou)
    expected = 0.6 * three[:, 0] + 0.3 * three[:, 1] + 0.1 * three[:, 2]
    chosen = iou[:, -3:].argmax(dim=1)
    for index, place in enumerate(chosen.tolist()):
        assert torch.allclose(mixed[index, -3:][place], expected[index], atol=1e-5)
        others = [other for other in range(3) if other != place]
        assert torch.equal(mixed[index, -3:][others], three[index][others])
    assert torch.equal(call(sam, embedding)[0], logits)


def test_several_prompts_are_answered_as_before(sam: Sam, embedding: torch.Tensor) -> None:
    part = _part(sam, 0.6, 0.3)
    batch, module = _batch(sam, embedding, clicks=3), _module(sam, embedding, multimask=False)
    part.attach(sam)
    try:
        assert torch.equal(_batch(sam, embedding, clicks=3)[0][:, 0], batch[0][:, 0])
        assert torch.equal(_module(sam, embedding, multimask=False)[0], module[0])
    finally:
        part.detach()


def test_a_click_in_the_product_gets_the_mixture(sam: Sam, embedding: torch.Tensor) -> None:
    model = PromptableModel(registry.card("tiny"), sam, torch.device("cpu"))
    stored = embedding[0].numpy().astype(np.float16)
    click, labels = np.array([[40.0, 50.0]], np.float32), np.ones(1, np.int64)
    plain = model.decode(stored, click, labels)
    part = _part(sam, 0.2, 0.2)
    part.attach(sam)
    try:
        mixed = model.decode(stored, click, labels)
        single = model.decode(stored, click, labels, multimask=False)
    finally:
        part.detach()
    best = int(plain.iou.argmax())
    assert int(mixed.iou.argmax()) == best
    expected = 0.2 * plain.logits[0] + 0.2 * plain.logits[1] + 0.6 * plain.logits[2]
    np.testing.assert_allclose(mixed.logits[best], expected, atol=1e-4)
    np.testing.assert_array_equal(single.logits, model.decode(stored, click, labels, multimask=False).logits)


def test_two_bases_do_not_disturb_each_other(sam: Sam, embedding: torch.Tensor) -> None:
    torch.manual_seed(9)
    other = build_tiny()
    before = _batch(other, embedding)[0]
    part = _part(sam, 0.6, 0.3)
    part.attach(sam)
    try:
        assert torch.equal(_batch(other, embedding)[0], before)
    finally:
        part.detach()


def test_it_goes_with_a_tuned_decoder(sam: Sam, embedding: torch.Tensor) -> None:
    plain = _batch(sam, embedding)[0]
    adapter = Adapter(sam, [DecoderConfig(), MaskMixConfig()])
    adapter.attach(sam)
    assert torch.equal(_batch(sam, embedding)[0], plain)
    adapter.detach()


def test_it_survives_saving(sam: Sam) -> None:
    part, again = _part(sam, 0.61, 0.27), _part(sam)
    again.load_state_dict(part.state_dict())
    assert torch.equal(part.weights, again.weights)
    assert list(part.state_dict()) == ["shift"]


def test_a_model_with_other_answers_is_refused() -> None:
    sam = build_tiny()
    sam.mask_decoder.num_multimask_outputs = 2
    with pytest.raises(TuningError, match="three masks"):
        MaskMixConfig().build(sam)


def _answer_with_discs(monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Have every click answered with three discs, of which SAM believes in the largest; return the masks."""
    three = torch.stack([disc(32, 16.0, 16.0, radius) for radius in (4, 8, 13)])
    logits = torch.where(three, 6.0, -6.0)
    answer = torch.cat([torch.zeros(1, 32, 32), logits])[None]

    def decode(*arguments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count = len(arguments[2])
        return answer.expand(count, -1, -1, -1), torch.tensor([[0.9, 0.2, 0.3, 0.8]]).expand(count, -1)

    monkeypatch.setattr(persam, "decode_batch", decode)
    return three


@pytest.mark.parametrize("place", [0, 1, 2])
def test_it_learns_which_of_the_masks_is_meant(
    place: int, sam: Sam, embedding: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = _answer_with_discs(monkeypatch)
    part = _part(sam)
    example = MixExample(embedding[0], torch.full((4, 2), 64.0), three[place].float().expand(4, -1, -1))
    fit = fit_mask_mix(sam, part, [example], bumps=False, steps=200, rate=5e-3)
    assert fit.iou_before == pytest.approx(float(three[place].sum() / three[2].sum()))
    assert fit.iou_after == 1.0
    assert fit.loss_after < max(fit.loss_before, 0.1)
    assert sum(fit.weights) == pytest.approx(1.0)
    assert fit.weights == tuple(part.weights.tolist())
    assert sum(fit.weights[place:]) > 0.5 > sum(fit.weights[place + 1 :]), "the mixture's edge is another one"


def test_all_examples_and_all_their_objects_count(
    sam: Sam, embedding: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = _answer_with_discs(monkeypatch)
    most = MixExample(embedding[0], torch.full((40, 2), 64.0), three[1].float().expand(40, -1, -1))
    one = MixExample(embedding[0], torch.full((1, 2), 64.0), three[2].float()[None])
    fit = fit_mask_mix(sam, _part(sam), [one, most], bumps=False, steps=200, rate=5e-3)
    ratio = float(three[1].sum() / three[2].sum())
    assert fit.iou_before == pytest.approx((1 + 40 * ratio) / 41)
    assert fit.iou_after == pytest.approx((ratio + 40) / 41)


def _masks_of(sam: Sam, embedding: torch.Tensor, points: torch.Tensor, place: int) -> torch.Tensor:
    """Return as targets the masks in one place of the three."""
    labels = torch.ones(len(points), 1, dtype=torch.int64)
    with torch.no_grad():
        logits, _ = decode_batch(sam, embedding, points[:, None], labels, None, None)
    return (logits[:, 1 + place] > 0).float()


def test_the_losses_reported_are_of_the_choice_and_the_mixture(sam: Sam, embedding: torch.Tensor) -> None:
    points = torch.rand(4, 2, generator=torch.Generator().manual_seed(4)) * 16 * CELLS
    example = MixExample(embedding[0], points, _masks_of(sam, embedding, points, 1))
    first = fit_mask_mix(sam, _part(sam), [example], bumps=False, steps=5)
    longer = fit_mask_mix(sam, _part(sam), [example], bumps=False, steps=200, rate=5e-3)
    assert first.loss_before == longer.loss_before
    assert longer.loss_after < first.loss_after


def test_unlabelled_ground_teaches_nothing(sam: Sam, embedding: torch.Tensor) -> None:
    points = torch.rand(3, 2, generator=torch.Generator().manual_seed(4)) * 16 * CELLS
    targets = _masks_of(sam, embedding, points, 1)
    known = torch.ones(4 * CELLS, 4 * CELLS, dtype=torch.bool)
    known[:, 16:] = False
    other = targets.clone()
    other[:, :, 16:] = 1 - other[:, :, 16:]
    fits = [
        fit_mask_mix(sam, _part(sam), [MixExample(embedding[0], points, one, known)], bumps=False, steps=20)
        for one in (targets, other)
    ]
    assert fits[0] == fits[1]
    everything = fit_mask_mix(sam, _part(sam), [MixExample(embedding[0], points, other)], bumps=False, steps=20)
    assert everything.weights != fits[0].weights


def test_what_cannot_be_trained_is_refused(sam: Sam, embedding: torch.Tensor) -> None:
    part = _part(sam)
    nothing = MixExample(embedding[0], torch.zeros(0, 2), torch.zeros(0, 32, 32))
    with pytest.raises(TuningError, match="at least one"):
        fit_mask_mix(sam, part, [nothing], bumps=False)
    part.attach(sam)
    try:
        with pytest.raises(TuningError, match="Detach"):
            fit_mask_mix(sam, part, [nothing], bumps=False)
    finally:
        part.detach()


def test_discs_in_seconds() -> None:
    """With the shipped model and its drawn prompts: never worse than SAM's own choice on what it learnt from."""
    sam, scene = shipped(), discs()
    targets = avg_pool2d(scene.masks.float(), 4)
    part = _part(sam)
    began = time.process_time()
    fit = fit_mask_mix(sam, part, [MixExample(seen().embedding[0], scene.centres, targets)], bumps=True, steps=300)
    assert time.process_time() - began < 20
    assert isinstance(part.shift, nn.Parameter)
    assert fit.loss_after <= fit.loss_before + 1e-3
