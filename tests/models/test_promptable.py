"""The promptable model: shapes, coordinates, prompts, cancelling, and agreement with SAM's own modules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from samtune.models import registry
from samtune.models.batch_decode import decode_batch
from samtune.models.card import ModelCard
from samtune.models.errors import CancelledByUser, DeviceError, PromptError
from samtune.models.fast_attention import fastest_precision
from samtune.models.loading import load
from samtune.models.prompt_mask import draw_one
from samtune.models.promptable import Decoded, PromptableModel, is_ambiguous
from samtune.models.sam_modules import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from .tiny_files import write_tiny

SIZE = 128
"""Small input, to be quick: tiny takes any multiple of 16."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> PromptableModel:
    card, path = write_tiny(tmp_path_factory.mktemp("weights"))
    return load(card, path, "cpu")


@pytest.fixture(scope="module")
def plain() -> PromptableModel:
    """Return a small SAM of the published kind: windows, relative positions, no clicks in the mask prompt."""
    torch.manual_seed(3)
    network = Sam(
        image_encoder=ImageEncoderViT(
            img_size=SIZE,
            embed_dim=32,
            depth=3,
            num_heads=2,
            use_rel_pos=True,
            window_size=3,
            global_attn_indexes=(2,),
            out_chans=64,
        ),
        prompt_encoder=PromptEncoder(64, (SIZE // 16, SIZE // 16), (SIZE, SIZE), 16),
        mask_decoder=MaskDecoder(
            transformer_dim=64, transformer=TwoWayTransformer(depth=2, embedding_dim=64, mlp_dim=64, num_heads=4)
        ),
    ).eval()
    torch.nn.init.normal_(network.image_encoder.pos_embed)
    card = replace(registry.card("vit_b"), input_size=SIZE)
    return PromptableModel(card, network.requires_grad_(requires_grad=False), torch.device("cpu"))


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def _click(x: float, y: float, label: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return np.array([[x, y]], np.float32), np.array([label])


@pytest.mark.parametrize("which", ["tiny", "plain"])
def test_shapes_and_types(which: str, image: NDArray[np.uint8], request: pytest.FixtureRequest) -> None:
    model: PromptableModel = request.getfixturevalue(which)
    embedding = model.encode(image)
    assert embedding.shape == (256 if which == "tiny" else 64, SIZE // 16, SIZE // 16)
    assert embedding.dtype == np.float16
    for multimask, masks in ((True, 3), (False, 1)):
        decoded = model.decode(embedding, *_click(40, 50), multimask=multimask)
        assert decoded.logits.shape == (masks, SIZE // 4, SIZE // 4)
        assert decoded.logits.dtype == decoded.iou.dtype == np.float32
        assert decoded.iou.shape == (masks,)
        assert ((decoded.iou >= 0) & (decoded.iou <= 1)).all()


def test_pixels_are_normalised_as_sam_does(plain: PromptableModel, image: NDArray[np.uint8]) -> None:
    pixels = torch.from_numpy(image).permute(2, 0, 1).float()
    # SAM's own preprocessing, on a full-size image, with its default mean and deviation.
    with torch.inference_mode(), fastest_precision(plain.device):
        expected = plain.network.image_encoder(plain.network.preprocess(pixels)[None])[0].half().numpy()
    np.testing.assert_array_equal(plain.encode(image), expected)


def test_invalid_pixels_do_not_count(tiny: PromptableModel, image: NDArray[np.uint8]) -> None:
    valid = np.ones((SIZE, SIZE), np.bool_)
    valid[:, 70:] = False
    other = image.copy()
    other[:, 70:] = 255
    np.testing.assert_array_equal(tiny.encode(image, valid), tiny.encode(other, valid))
    assert not np.array_equal(tiny.encode(image), tiny.encode(image, valid))
    np.testing.assert_array_equal(tiny.encode(image), tiny.encode(image, np.ones_like(valid)))


def test_invalid_pixels_are_the_mean_colour(plain: PromptableModel, image: NDArray[np.uint8]) -> None:
    model = PromptableModel(replace(plain.card, mean=(10.0, 20.0, 30.0)), plain.network, plain.device)
    filled = image.copy()
    filled[:32] = (10, 20, 30)
    valid = np.ones((SIZE, SIZE), np.bool_)
    valid[:32] = False
    np.testing.assert_array_equal(model.encode(image, valid), model.encode(filled))


def test_other_sizes_get_resized_positions(plain: PromptableModel) -> None:
    grey = np.full((2 * SIZE, 2 * SIZE, 3), 120, np.uint8)
    embedding = plain.encode(grey)
    assert embedding.shape == (64, 16, 16)
    table = plain.network.image_encoder.pos_embed
    flat = table.detach().clone()
    with torch.no_grad():
        table.fill_(0.25)
        constant = plain.encode(grey)
        table.copy_(flat)
    # A constant table stays constant when resized; a varying one must leave its trace.
    assert np.isfinite(constant).all()
    assert not np.allclose(constant, embedding, atol=1e-2)
    decoded = plain.decode(embedding, *_click(200, 30))
    assert decoded.logits.shape == (3, 64, 64)


def test_sizes_do_not_disturb_each_other(plain: PromptableModel, image: NDArray[np.uint8]) -> None:
    embedding = plain.encode(image)
    before = plain.decode(embedding, *_click(33, 44))
    large = plain.encode(np.full((2 * SIZE, 2 * SIZE, 3), 7, np.uint8))
    plain.decode(large, *_click(33, 44))
    after = plain.decode(embedding, *_click(33, 44))
    np.testing.assert_array_equal(before.logits, after.logits)
    assert plain.network.prompt_encoder.image_embedding_size == (SIZE // 16, SIZE // 16)


def test_decoding_is_sams_own(plain: PromptableModel, image: NDArray[np.uint8]) -> None:
    embedding = plain.encode(image)
    previous = np.random.default_rng(1).normal(size=(SIZE // 4, SIZE // 4)).astype(np.float32)
    points = np.array([[10.5, 20.5], [90.5, 100.5]], np.float32)
    found = plain.decode(
        embedding, points, np.array([1, 0]), np.array([4.5, 6.5, 99.5, 101.5], np.float32), previous, multimask=False
    )
    network = plain.network
    with torch.inference_mode():
        # SAM counts pixels by index and adds half a pixel itself.
        sparse, dense = network.prompt_encoder(
            points=(torch.tensor([[[10.0, 20.0], [90.0, 100.0]]]), torch.tensor([[1.0, 0.0]])),
            boxes=torch.tensor([[4.0, 6.0, 99.0, 101.0]]),
            masks=torch.from_numpy(previous)[None, None],
        )
        logits, iou = network.mask_decoder(
            image_embeddings=torch.from_numpy(embedding.astype(np.float32))[None],
            image_pe=network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
    np.testing.assert_allclose(found.logits, logits[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(found.iou, iou[0].clamp(0, 1).numpy(), atol=1e-6)


@pytest.mark.parametrize("box", [None, (16.0, 24.0, 100.0, 90.0)])
def test_tiny_is_prompted_as_it_was_trained(
    box: tuple[float, ...] | None, tiny: PromptableModel, image: NDArray[np.uint8]
) -> None:
    tiny = PromptableModel(replace(tiny.card, expected_iou=()), tiny.network, tiny.device)
    native = np.random.default_rng(2).integers(0, 256, (512, 512, 3), np.uint8)
    native[:SIZE, :SIZE] = image
    embedding = tiny.encode(native)
    points = np.array([[40.0, 50.0], [80.0, 30.0]], np.float32)
    labels = np.array([1, 0])
    corners = None if box is None else np.array(box, np.float32)
    with torch.inference_mode():
        logits, iou = decode_batch(
            tiny.network,
            torch.from_numpy(embedding.astype(np.float32))[None],
            torch.from_numpy(points)[None],
            torch.from_numpy(labels)[None],
            None if corners is None else torch.from_numpy(corners)[None],
            draw_one((SIZE, SIZE), points, labels, corners, None, torch.from_numpy(embedding)),
        )
    three = tiny.decode(embedding, points, labels, corners)
    one = tiny.decode(embedding, points, labels, corners, multimask=False)
    np.testing.assert_allclose(np.concatenate([one.logits, three.logits]), logits[0].numpy(), atol=1e-4)
    np.testing.assert_allclose(np.concatenate([one.iou, three.iou]), iou[0].clamp(0, 1).numpy(), atol=1e-5)


def test_click_bumps_follow_the_card(tiny: PromptableModel, image: NDArray[np.uint8]) -> None:
    embedding = tiny.encode(image)
    without = PromptableModel(replace(tiny.card, click_bumps=False), tiny.network, tiny.device)
    assert not np.allclose(
        tiny.decode(embedding, *_click(64, 64)).logits, without.decode(embedding, *_click(64, 64)).logits
    )


@pytest.mark.parametrize(
    "change",
    [
        {"points": np.array([[90.0, 20.0]], np.float32)},
        {"labels": np.array([0])},
        {"box": np.array([3.0, 3.0, 60.0, 60.0], np.float32)},
        {"mask_logits": np.full((SIZE // 4, SIZE // 4), 4.0, np.float32)},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("which", ["tiny", "plain"])
def test_every_prompt_has_an_effect(
    which: str, change: dict[str, NDArray[np.float32]], image: NDArray[np.uint8], request: pytest.FixtureRequest
) -> None:
    model: PromptableModel = request.getfixturevalue(which)
    embedding = model.encode(image)
    points, labels = _click(30, 30)
    prompts: dict[str, NDArray[np.float32] | NDArray[np.int64]] = {"points": points, "labels": labels}
    before = model.decode(embedding, **prompts)  # type: ignore[arg-type]
    after = model.decode(embedding, **(prompts | change))  # type: ignore[arg-type]
    assert not np.allclose(before.logits, after.logits)


@pytest.mark.parametrize("which", ["tiny", "plain"])
def test_a_box_alone_is_enough(which: str, image: NDArray[np.uint8], request: pytest.FixtureRequest) -> None:
    model: PromptableModel = request.getfixturevalue(which)
    decoded = model.decode(
        model.encode(image),
        np.zeros((0, 2), np.float32),
        np.zeros(0, np.int64),
        np.array([10, 10, 50, 50], np.float32),
        multimask=False,
    )
    assert decoded.logits.shape[0] == 1


def test_nothing_to_segment_by(tiny: PromptableModel, image: NDArray[np.uint8]) -> None:
    with pytest.raises(PromptError, match="Click a point"):
        tiny.decode(tiny.encode(image), np.zeros((0, 2), np.float32), np.zeros(0, np.int64))


def test_arguments_are_not_changed_and_answers_repeat(tiny: PromptableModel, image: NDArray[np.uint8]) -> None:
    embedding = tiny.encode(image)
    points, labels = _click(21, 22)
    previous = np.zeros((SIZE // 4, SIZE // 4), np.float32)
    inputs = (image, embedding, points, labels, previous)
    copies = [array.copy() for array in inputs]
    first = tiny.decode(embedding, points, labels, None, previous)
    second = tiny.decode(embedding, points, labels, None, previous)
    np.testing.assert_array_equal(first.logits, second.logits)
    assert all(np.array_equal(array, copy) for array, copy in zip(inputs, copies, strict=True))


def test_read_only_and_strided_arrays_are_fine(tiny: PromptableModel, image: NDArray[np.uint8]) -> None:
    flipped = image[::-1, :, ::-1]
    flipped.flags.writeable = False
    np.testing.assert_array_equal(tiny.encode(flipped), tiny.encode(flipped.copy()))


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((SIZE, SIZE), np.uint8), ((SIZE, SIZE, 4), np.uint8), ((SIZE, SIZE, 3), np.float32), ((100, 100, 3), np.uint8)],
)
def test_wrong_images_are_refused(tiny: PromptableModel, shape: tuple[int, ...], kind: type) -> None:
    with pytest.raises(ValueError, match="must be"):
        tiny.encode(np.zeros(shape, kind))


def test_wrong_validity_is_refused(tiny: PromptableModel, image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="valid must be"):
        tiny.encode(image, np.ones((SIZE, SIZE), np.uint8))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"labels": np.array([1, 1])}, "points must be"),
        ({"box": np.zeros(3, np.float32)}, "box must be"),
        ({"mask_logits": np.zeros((8, 8), np.float32)}, "mask_logits must be"),
        ({"embedding": np.zeros((64, 8), np.float16)}, "embedding must be"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tiny: PromptableModel, image: NDArray[np.uint8], change: dict[str, NDArray[np.float32]], what: str
) -> None:
    points, labels = _click(1, 1)
    arguments = {"embedding": tiny.encode(image), "points": points, "labels": labels} | change
    with pytest.raises(ValueError, match=what):
        tiny.decode(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("which", ["tiny", "plain"])
def test_check_runs_between_blocks_and_stops(
    which: str, image: NDArray[np.uint8], request: pytest.FixtureRequest
) -> None:
    model: PromptableModel = request.getfixturevalue(which)
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    expected = model.encode(image)
    np.testing.assert_array_equal(model.encode(image, check=count), expected)
    assert calls == model.encoder_steps == len(model.network.image_encoder.blocks) + 1

    def stop_at_second() -> None:
        count()
        if calls == 2:
            raise CancelledByUser

    calls = 0
    with pytest.raises(CancelledByUser):
        model.encode(image, check=stop_at_second)
    assert calls == 2
    # Nothing of it stays: neither hooks nor state.
    np.testing.assert_array_equal(model.encode(image), expected)
    assert calls == 2


def test_warm_up_runs_both_halves(tiny: PromptableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    small = PromptableModel(replace(tiny.card, input_size=SIZE), tiny.network, tiny.device)
    decoded: list[Decoded] = []
    original = PromptableModel.decode

    def decode(self: PromptableModel, *args: object, **kwargs: object) -> Decoded:
        decoded.append(original(self, *args, **kwargs))  # type: ignore[arg-type]
        return decoded[-1]

    monkeypatch.setattr(PromptableModel, "decode", decode)
    small.warm_up()
    assert decoded[0].logits.shape == (3, SIZE // 4, SIZE // 4)

    def stop() -> None:
        raise CancelledByUser

    with pytest.raises(CancelledByUser):
        small.warm_up(stop)


def test_exhausted_memory_has_a_remedy(
    tiny: PromptableModel, image: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_args: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(type(tiny.network.image_encoder.neck), "forward", exhausted)
    with pytest.raises(DeviceError, match="smaller model") as caught:
        tiny.encode(image)
    assert "20 GiB" in caught.value.details


@settings(max_examples=30, deadline=None)
@given(points=st.integers(0, 5), box=st.booleans(), previous=st.booleans())
def test_three_masks_only_for_what_may_mean_several_things(points: int, box: bool, previous: bool) -> None:
    assert is_ambiguous(points, box=box, previous=previous) == (points < 2 and not box and not previous)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("size", [SIZE, 512])
def test_cuda_in_half_precision_agrees_with_the_cpu(size: int, tmp_path: Path) -> None:
    card: ModelCard
    card, path = write_tiny(tmp_path)
    on_cpu, on_gpu = load(card, path, "cpu"), load(card, path, "cuda")
    picture = np.random.default_rng(4).integers(0, 256, (size, size, 3), np.uint8)
    expected, found = on_cpu.encode(picture), on_gpu.encode(picture)
    assert np.abs(found.astype(np.float32) - expected.astype(np.float32)).max() < 0.15
    middle = _click(size / 2, size / 2)
    a, b = on_cpu.decode(expected, *middle), on_gpu.decode(expected, *middle)
    np.testing.assert_allclose(a.logits, b.logits, atol=2e-2)
    np.testing.assert_allclose(a.iou, b.iou, atol=1e-2)


def test_embeddings_are_laid_out_as_the_store_gives_them_back(tiny: PromptableModel) -> None:
    """Otherwise answers from a stored embedding differ in their last digits from those of a fresh one."""
    embedding = tiny.encode(np.zeros((SIZE, SIZE, 3), np.uint8))
    assert embedding.flags.c_contiguous
