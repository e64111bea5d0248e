"""A loaded model with adapters: taking part in encoding and decoding, swapped at no cost, leaving no trace."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from samtune.models import registry
from samtune.models.peft.adapter import Adapter
from samtune.models.peft.contract import MethodConfig, TuningError
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.persam import MaskMixConfig
from samtune.models.peft.selective import BitFitConfig, DecoderConfig, FullConfig, NormConfig
from samtune.models.promptable import Decoded, PromptableModel
from samtune.models.tiny import build_tiny

SIZE = 64
ENCODER = (LoraConfig(), BitFitConfig(), NormConfig(), FullConfig())


@pytest.fixture(scope="module")
def model() -> PromptableModel:
    torch.manual_seed(0)
    network = build_tiny().eval().requires_grad_(requires_grad=False)
    return PromptableModel(registry.card("tiny"), network, torch.device("cpu"))


@pytest.fixture(autouse=True)
def alone(model: PromptableModel) -> Iterator[None]:
    """Leave the base alone in use."""
    yield
    with model.using(None):
        pass


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def moved(model: PromptableModel, *configs: MethodConfig, seed: int = 1) -> Adapter:
    """Return an adapter that does something."""
    made = Adapter(model.network, configs)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return made


def click(model: PromptableModel, embedding: NDArray[np.float16], *, multimask: bool = True) -> Decoded:
    return model.decode(embedding, np.array([[20.0, 30.0]], np.float32), np.ones(1, np.int64), multimask=multimask)


def outputs(model: PromptableModel, image: NDArray[np.uint8]) -> tuple[NDArray[np.float16], Decoded]:
    embedding = model.encode(image)
    return embedding, click(model, embedding)


def same(one: Decoded, two: Decoded) -> bool:
    return np.array_equal(one.logits, two.logits) and np.array_equal(one.iou, two.iou)


@pytest.mark.parametrize("config", ENCODER, ids=lambda config: config.method)
def test_an_encoder_adapter_changes_embeddings_and_nothing_after(
    model: PromptableModel, image: NDArray[np.uint8], config: MethodConfig
) -> None:
    embedding, answer = outputs(model, image)
    with model.using(moved(model, config)):
        tuned = model.encode(image)
        assert not np.array_equal(tuned, embedding)
        assert same(click(model, embedding), answer), "the decoder is the base's"
    with model.using(None):
        again = outputs(model, image)
    assert np.array_equal(again[0], embedding)
    assert same(again[1], answer)


@pytest.mark.parametrize("size", [(SIZE, SIZE), (96, 64)])
def test_a_decoder_adapter_is_seen_by_decoders_of_all_sizes_and_embeddings_stay(
    model: PromptableModel, size: tuple[int, int]
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    embedding, answer = outputs(model, image)  # positions of this size are remembered from here on
    with model.using(moved(model, DecoderConfig())):
        assert np.array_equal(model.encode(image), embedding)
        tuned = click(model, embedding)
        assert not np.array_equal(tuned.logits, answer.logits)
        assert not np.array_equal(tuned.iou, answer.iou)
    with model.using(None):
        assert same(click(model, embedding), answer)


@pytest.mark.parametrize("configs", [(LoraConfig(),), (LoraConfig(), DecoderConfig()), (NormConfig(), LoraConfig())])
def test_in_use_an_adapter_computes_what_it_computed_in_training(
    model: PromptableModel, image: NDArray[np.uint8], configs: Sequence[MethodConfig]
) -> None:
    adapter = moved(model, *configs)
    with model.using(None):
        adapter.attach(model.network)
        try:
            embedding, answer = outputs(model, image)
        finally:
            adapter.detach()
    with model.using(adapter):
        merged, tuned = outputs(model, image)
    scale = np.abs(embedding.astype(np.float32)).max()
    assert np.abs(merged.astype(np.float32) - embedding).max() <= 2e-2 * scale, "embeddings are kept in half precision"
    assert np.abs(tuned.logits - answer.logits).max() <= 2e-2 * np.abs(answer.logits).max()


def test_mixed_masks_take_the_place_of_the_models_choice(model: PromptableModel, image: NDArray[np.uint8]) -> None:
    embedding, answer = outputs(model, image)
    adapter = Adapter(model.network, [MaskMixConfig()])
    with model.using(adapter):
        assert same(click(model, embedding), answer), "untrained it chooses as the model does"
    with torch.no_grad():
        adapter.parts["mask_mix"].get_parameter("shift").copy_(torch.tensor([2 / 3, -1 / 3]))
    with model.using(None), model.using(adapter):
        mixed = click(model, embedding)
    best = int(answer.iou.argmax())
    assert np.allclose(mixed.logits[best], answer.logits[0], atol=1e-4), "all weight on the first mask"
    assert np.array_equal(mixed.iou, answer.iou)
    assert np.array_equal(np.delete(mixed.logits, best, 0), np.delete(answer.logits, best, 0))
    with model.using(None):
        assert same(click(model, embedding), answer)


def test_the_cards_table_of_iou_is_for_the_bases_decoder(model: PromptableModel, image: NDArray[np.uint8]) -> None:
    card = replace(model.card, expected_iou=((0.0, 0.0), (1.0, 0.1)))
    tabled = PromptableModel(card, model.network, model.device)
    without = PromptableModel(replace(card, expected_iou=()), model.network, model.device)
    plain, mapped = outputs(without, image), outputs(tabled, image)
    assert np.allclose(mapped[1].iou, 0.1 * plain[1].iou, atol=1e-4)
    for config, follows in ((DecoderConfig(), False), (MaskMixConfig(), True), (LoraConfig(), True)):
        with tabled.using(Adapter(model.network, [config])):
            found = click(tabled, plain[0]).iou
        assert np.allclose(found, 0.1 * plain[1].iou if follows else plain[1].iou, atol=1e-4), config.method
    with tabled.using(None):
        pass


def test_adapters_swap_without_a_trace(model: PromptableModel, image: NDArray[np.uint8]) -> None:
    first, second = moved(model, LoraConfig(), seed=2), moved(model, BitFitConfig(), DecoderConfig(), seed=3)
    weights = {name: (tensor, tensor.clone()) for name, tensor in model.network.state_dict(keep_vars=True).items()}
    with model.using(first):
        one = outputs(model, image)
    with model.using(second):
        two = outputs(model, image)
        assert model.adapter is second
    with model.using(first):
        again = outputs(model, image)
    with model.using(None):
        assert model.adapter is None
    assert np.array_equal(one[0], again[0])
    assert same(one[1], again[1])
    assert not np.array_equal(one[0], two[0])
    after = model.network.state_dict(keep_vars=True)
    assert all(after[name] is tensor for name, (tensor, _) in weights.items()), "the very parameters of before"
    assert all(torch.equal(after[name], copy) for name, (_, copy) in weights.items())


def test_the_same_adapter_again_is_not_attached_again(model: PromptableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = moved(model, LoraConfig())
    attached = []
    attach = adapter.attach
    monkeypatch.setattr(adapter, "attach", lambda *a, **k: (attached.append(1), attach(*a, **k)))
    for _ in range(3):
        with model.using(adapter):
            assert adapter.attached
    assert attached == [1]
    with model.using(None):
        assert not adapter.attached


def test_what_does_not_fit_leaves_the_base_in_use(model: PromptableModel, image: NDArray[np.uint8]) -> None:
    embedding, _ = outputs(model, image)
    elsewhere = moved(model, LoraConfig())
    other = build_tiny()
    elsewhere.attach(other)
    with model.using(moved(model, NormConfig())):
        pass
    with pytest.raises(TuningError), model.using(elsewhere):
        pytest.fail("must not get here")
    assert model.adapter is None
    assert np.array_equal(model.encode(image), embedding)
    elsewhere.detach()
    with model.using(elsewhere):
        assert not np.array_equal(model.encode(image), embedding)


def test_an_adapter_can_still_be_trained_after_use(model: PromptableModel, image: NDArray[np.uint8]) -> None:
    adapter = moved(model, LoraConfig(), DecoderConfig())
    with torch.inference_mode(), model.using(adapter):
        outputs(model, image)
    with model.using(None):
        adapter.attach(model.network)
        try:
            pixels = torch.randn(1, 3, SIZE, SIZE)
            model.network.image_encoder(pixels).square().mean().backward()
        finally:
            adapter.detach()
    gradient = next(value.grad for name, value in adapter.named_parameters() if "lora_B" in name)
    assert gradient is not None and gradient.abs().sum() > 0


def test_threads_with_different_adapters_do_not_mix(model: PromptableModel, image: NDArray[np.uint8]) -> None:
    adapters = [None, moved(model, LoraConfig(), seed=4), moved(model, DecoderConfig(), NormConfig(), seed=5)]
    expected = []
    for adapter in adapters:
        with model.using(adapter):
            expected.append(outputs(model, image))
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(4):
            with model.using(adapters[index]):
                embedding, answer = outputs(model, image)
            if not (np.array_equal(embedding, expected[index][0]) and same(answer, expected[index][1])):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(adapters))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
