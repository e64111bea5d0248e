"""Loading: strict about hash, names, shapes and types; runs no code from a file; clear about what is wrong."""

from __future__ import annotations

import pickle
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from samtune.models import registry
from samtune.models.card import Architecture, ModelCard
from samtune.models.errors import CancelledByUser, ModelMissingError, WeightsError
from samtune.models.hashing import sha256_of, verify
from samtune.models.loading import VIT_SIZES, build, check_layout, layout, load, read_state

from .tiny_files import random_tiny_state, write_tiny

# What Meta's files hold, written down independently of the code: counts of numbers, and tensors that tell them apart.
NOISE = [random.Random(seed).randbytes((40, 400, 4096)[seed % 3]) for seed in range(300)]

PUBLISHED = {
    Architecture.VIT_B: (93_735_728, 314, {"image_encoder.pos_embed": (1, 64, 64, 768)}),
    Architecture.VIT_L: (312_343_088, 482, {"image_encoder.blocks.23.attn.rel_pos_h": (127, 64)}),
    Architecture.VIT_H: (641_090_864, 594, {"image_encoder.blocks.31.attn.rel_pos_w": (127, 80)}),
}
COMMON = {
    "image_encoder.neck.2.weight": (256, 256, 3, 3),
    "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": (2, 128),
    "prompt_encoder.mask_downscaling.6.weight": (256, 16, 1, 1),
    "mask_decoder.transformer.layers.1.mlp.lin1.weight": (2048, 256),
    "mask_decoder.output_upscaling.3.weight": (64, 32, 2, 2),
    "mask_decoder.iou_prediction_head.layers.2.weight": (4, 256),
}


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[ModelCard, Path]:
    return write_tiny(tmp_path)


@pytest.mark.parametrize("architecture", PUBLISHED, ids=lambda architecture: architecture.value)
def test_layout_is_the_published_one(architecture: Architecture) -> None:
    numbers, tensors, special = PUBLISHED[architecture]
    found = layout(architecture)
    assert len(found) == tensors
    assert sum(int(np.prod(shape)) for shape in found.values()) == numbers
    assert {name: found[name] for name in special | COMMON} == special | COMMON
    # Blocks with windows of 14 tokens have 27 rows of relative positions, the global ones 127.
    rows = [found[f"image_encoder.blocks.{i}.attn.rel_pos_h"][0] for i in range(VIT_SIZES[architecture].depth)]
    assert [i for i, count in enumerate(rows) if count == 127] == list(VIT_SIZES[architecture].global_blocks)
    assert set(rows) == {27, 127}


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h", "tiny"])
def test_cards_count_their_parameters(name: str) -> None:
    card = registry.card(name)
    # All tensors but the random frequencies of the point encoding, which are not trained.
    numbers = {key: int(np.prod(shape)) for key, shape in layout(card.architecture).items() if "gaussian" not in key}
    assert card.parameters == sum(numbers.values())


def test_vit_b_loads_from_a_file_of_the_published_layout(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    state = {name: 0.02 * torch.randn(shape, generator=generator) for name, shape in layout(Architecture.VIT_B).items()}
    path = tmp_path / "sam_vit_b_01ec64.pth"
    torch.save(state, path)
    card = replace(registry.card("vit_b"), sha256=sha256_of(path), size_bytes=path.stat().st_size)
    model = load(card, path, "cpu")
    loaded = model.network.state_dict()
    assert set(loaded) == set(state)
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    assert not model.network.training
    # 256 px instead of 1,024, to be quick: positions are resized.
    embedding = model.encode(np.full((256, 256, 3), 90, np.uint8))
    assert embedding.shape == (256, 16, 16)
    assert np.isfinite(embedding).all()


@pytest.mark.parametrize("name", ["vit_l", "vit_h"])
def test_large_models_accept_their_layout_and_no_other(name: str) -> None:
    card = registry.card(name)
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in layout(card.architecture).items()}
    check_layout(card, state)
    with pytest.raises(WeightsError, match="of another model") as caught:
        check_layout(registry.card("vit_b"), state)
    assert "unknown" in caught.value.details


def test_a_network_on_the_meta_device_takes_no_memory() -> None:
    with torch.device("meta"):
        network = build(Architecture.VIT_H)
    assert all(parameter.is_meta for parameter in network.parameters())


def test_tiny_loads_in_full_precision(tiny: tuple[ModelCard, Path]) -> None:
    card, path = tiny
    model = load(card, path, torch.device("cpu"))
    expected = random_tiny_state()
    loaded = model.network.state_dict()
    assert set(loaded) == set(expected)
    assert all(torch.equal(loaded[name], expected[name].float()) for name in expected)
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    assert not any(tensor.is_meta for tensor in (*model.network.parameters(), *model.network.buffers()))


def test_a_missing_file_is_told(tiny: tuple[ModelCard, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelMissingError, match="nowhere"):
        load(tiny[0], tmp_path / "nowhere.safetensors", "cpu")


def test_a_file_with_another_hash_is_refused_before_it_is_read(tiny: tuple[ModelCard, Path]) -> None:
    card, path = tiny
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(WeightsError, match="its content differs") as caught:
        load(card, path, "cpu")
    assert card.sha256 in caught.value.details
    load(card, path, "cpu", verified=True)  # it is only the hash that tells this apart


def test_a_cut_file_is_refused(tiny: tuple[ModelCard, Path]) -> None:
    card, path = tiny
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match=f"100000 bytes instead of {card.size_bytes}"):
        load(card, path, "cpu")
    with pytest.raises(WeightsError, match="damaged"):
        load(replace(card, sha256=""), path, "cpu")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>Please sign in</html>", NOISE[0]], ids=["empty", "html", "noise"])
def test_what_is_no_weight_file_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged, or no model file"):
        read_state(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_any_noise_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    for noise in NOISE:
        path.write_bytes(noise)
        with pytest.raises(WeightsError, match="damaged, or no model file"):
            read_state(path)


def test_a_truncated_torch_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(random_tiny_state(), path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(WeightsError, match="damaged"):
        read_state(path)


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])
def test_no_code_from_a_file_is_run(tmp_path: Path, write: object) -> None:
    path, trace = tmp_path / "weights.pth", tmp_path / "exploded"
    write({"image_encoder.pos_embed": _Bomb(trace)}, path)  # type: ignore[operator]
    with pytest.raises(WeightsError):
        read_state(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "value", [[torch.zeros(1)], {"model": {"weight": torch.zeros(1)}}, {"weight": 3}, torch.zeros(2)]
)
def test_other_structures_are_refused(tmp_path: Path, value: object) -> None:
    path = tmp_path / "weights.pth"
    torch.save(value, path)
    with pytest.raises(WeightsError, match="something else than the weights"):
        read_state(path)


def test_every_departure_from_the_layout_is_named(tiny: tuple[ModelCard, Path]) -> None:
    card, path = tiny
    state = random_tiny_state()
    state["extra"] = torch.zeros(1)
    del state["mask_decoder.iou_token.weight"]
    state["mask_decoder.mask_tokens.weight"] = torch.zeros(3, 256)
    state["prompt_encoder.no_mask_embed.weight"] = torch.zeros(1, 256, dtype=torch.int64)
    save_file(state, path)
    with pytest.raises(WeightsError, match="of another model") as caught:
        load(replace(card, sha256=""), path, "cpu")
    details = caught.value.details
    assert "missing (1): mask_decoder.iou_token.weight" in details
    assert "unknown (1): extra" in details
    assert "mask_decoder.mask_tokens.weight (3, 256) torch.float32 instead of (4, 256)" in details
    assert "torch.int64" in details


def test_another_models_file_is_refused_with_few_names(tiny: tuple[ModelCard, Path]) -> None:
    card = replace(registry.card("vit_b"), sha256="")
    with pytest.raises(WeightsError, match="SAM ViT-B: it is of another model") as caught:
        load(card, tiny[1], "cpu")
    assert len(caught.value.details) < 2000


def test_hashing_can_be_stopped(tiny: tuple[ModelCard, Path]) -> None:
    def stop() -> None:
        raise CancelledByUser

    with pytest.raises(CancelledByUser):
        verify(tiny[0], tiny[1], stop)


def test_verify_returns_the_hash_of_a_file_whose_card_has_none(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert verify(replace(registry.card("tiny"), sha256=""), path) == known
    with pytest.raises(WeightsError, match="cannot be read"):
        sha256_of(tmp_path / "nothing")
