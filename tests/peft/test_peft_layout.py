"""The folder layout of the peft library: what it wrote itself is read, what is written computes the same."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from samtune.models.card import Architecture
from samtune.models.errors import OutputError, TuningError
from samtune.models.peft.adapter import Adapter
from samtune.models.peft.contract import MethodConfig
from samtune.models.peft.dora import DoraConfig
from samtune.models.peft.lora import LoraConfig, Projection
from samtune.models.peft.peft_layout import read_peft, write_peft
from samtune.models.peft.selective import BitFitConfig, DecoderConfig
from samtune.models.peft.sites import EVERY_LAYER, Layer

from .support import meta, shake, tiny

WRITTEN = """{
  "alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null,
  "auto_mapping": {"base_model_class": "ImageEncoderViT", "parent_library": "segment_anything"},
  "base_model_name_or_path": null, "bias": "none", "corda_config": null, "ensure_weight_tying": false,
  "eva_config": null, "exclude_modules": null, "fan_in_fan_out": false, "inference_mode": true,
  "init_lora_weights": true, "kasa_config": null, "layer_replication": null, "layers_pattern": null,
  "layers_to_transform": null, "loftq_config": {}, "lora_alpha": 8, "lora_bias": false, "lora_dropout": 0.0,
  "lora_ga_config": null, "megatron_config": null, "megatron_core": "megatron.core", "modules_to_save": null,
  "monteclora_config": null, "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 4,
  "rank_pattern": {}, "revision": null, "target_modules": "blocks\\\\.\\\\d+\\\\.attn\\\\.qkv",
  "target_parameters": null, "task_type": null, "trainable_token_indices": null, "use_bdlora": null, "use_dora": false,
  "use_qalora": false, "use_rslora": false, "velora_config": null
}"""
"""What peft 0.21.2 wrote for a LoRA of SAM's image encoder."""

WIDTHS = {"attn.qkv": (192, 576), "attn.proj": (192, 192), "mlp.lin1": (192, 768), "mlp.lin2": (768, 192)}


def folder(
    path: Path, layers: dict[str, int], prefix: str = "base_model.model.", **settings: object
) -> dict[str, torch.Tensor]:
    """Write an adapter as the library does, with random A and B of certain ranks, and return its tensors."""
    random = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    for name, rank in layers.items():
        inputs, outputs = WIDTHS[name.split(".", 2)[2]]
        tensors[f"{prefix}{name}.lora_A.weight"] = 0.2 * torch.randn(rank, inputs, generator=random)
        tensors[f"{prefix}{name}.lora_B.weight"] = 0.2 * torch.randn(outputs, rank, generator=random)
        if settings.get("use_dora"):
            tensors[f"{prefix}{name}.lora_magnitude_vector"] = torch.rand(outputs, generator=random)
    path.mkdir(exist_ok=True)
    save_file(tensors, path / "adapter_model.safetensors", metadata={"format": "pt"})
    (path / "adapter_config.json").write_text(json.dumps({**json.loads(WRITTEN), **settings}), encoding="utf-8")
    return tensors


@torch.no_grad()
def weight_with(adapter: Adapter, name: str) -> torch.Tensor:
    """Return a layer's weight as an adapter makes it, from what the layer computes."""
    layer = tiny().get_submodule(f"image_encoder.{name}")
    adapter.attach(tiny())
    found = layer(torch.eye(layer.in_features)) - layer.bias
    adapter.detach()
    return found.T


def weight_of(name: str) -> torch.Tensor:
    return tiny().get_parameter(f"image_encoder.{name}.weight").detach()


@pytest.mark.parametrize("prefix", ["base_model.model.", "base_model.model.image_encoder.", "image_encoder.", ""])
def test_what_the_library_wrote_is_read(tmp_path: Path, prefix: str) -> None:
    names = [f"blocks.{index}.{layer}" for index in (2, 3) for layer in ("attn.qkv", "mlp.lin2")]
    tensors = folder(tmp_path, dict.fromkeys(names, 4), prefix)
    adapter = read_peft(tmp_path, tiny())
    assert adapter.configs == (LoraConfig(4, 8.0, (Layer.QKV, Layer.LIN2), projections=(), start=1 / 3, stop=2 / 3),)
    for name in names:
        lower, upper = (tensors[f"{prefix}{name}.lora_{which}.weight"] for which in "AB")
        assert torch.allclose(weight_with(adapter, name), weight_of(name) + 2.0 * upper @ lower, atol=1e-5)
    assert torch.allclose(weight_with(adapter, "blocks.1.attn.qkv"), weight_of("blocks.1.attn.qkv"), atol=1e-6)


def test_dora_is_read(tmp_path: Path) -> None:
    tensors = folder(tmp_path, {"blocks.5.attn.proj": 2}, use_dora=True)
    adapter = read_peft(tmp_path, tiny())
    lower, upper, lengths = tensors.values()
    moved = weight_of("blocks.5.attn.proj") + 4.0 * upper @ lower
    expected = lengths[:, None] * moved / moved.norm(dim=1, keepdim=True)
    assert adapter.configs == (DoraConfig(2, 8.0, (Layer.PROJ,), (), 5 / 6, 1.0),)
    assert torch.allclose(weight_with(adapter, "blocks.5.attn.proj"), expected, atol=1e-5)


def test_rank_stabilisation_is_read(tmp_path: Path) -> None:
    tensors = folder(tmp_path, {"blocks.0.mlp.lin1": 4}, use_rslora=True, lora_alpha=3)
    lower, upper = tensors.values()
    found = weight_with(read_peft(tmp_path, tiny()), "blocks.0.mlp.lin1")
    assert torch.allclose(found, weight_of("blocks.0.mlp.lin1") + 3 / math.sqrt(4) * upper @ lower, atol=1e-5)


def test_ranks_and_scales_that_differ_are_read(tmp_path: Path) -> None:
    ranks = {"blocks.0.attn.qkv": 6, "blocks.0.attn.proj": 2, "blocks.2.attn.qkv": 3}
    tensors = folder(tmp_path, ranks, lora_alpha=6, alpha_pattern={"attn.proj": 5})
    adapter = read_peft(tmp_path, tiny())
    (config,) = adapter.configs
    assert isinstance(config, LoraConfig)
    assert config.rank == 6
    for name, rank in ranks.items():
        scale = (5 if name.endswith("proj") else 6) / rank
        lower, upper = (tensors[f"base_model.model.{name}.lora_{which}.weight"] for which in "AB")
        assert torch.allclose(weight_with(adapter, name), weight_of(name) + scale * upper @ lower, atol=1e-5)
    for name in ("blocks.1.attn.qkv", "blocks.1.attn.proj", "blocks.2.attn.proj"):
        assert torch.allclose(weight_with(adapter, name), weight_of(name), atol=1e-6), "an update that adds nothing"


CONFIGS = [
    LoraConfig(),
    LoraConfig(rank=3, alpha=5.0, layers=EVERY_LAYER, start=0.5),
    LoraConfig(rank=8, projections=()),
    LoraConfig(projections=(Projection.K,), stop=0.5),
    LoraConfig(layers=(Layer.PROJ,)),
    DoraConfig(rank=2, projections=(), layers=EVERY_LAYER),
    DoraConfig(layers=(Layer.LIN1,)),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.method}-{len(config.layers)}-{config.rank}")
@torch.no_grad()
def test_what_is_written_computes_the_same(tmp_path: Path, config: LoraConfig) -> None:
    adapter = Adapter(tiny(), [config])
    shake(adapter, 0.2)
    write_peft(tmp_path / "new" / "folder", adapter)
    again = read_peft(tmp_path / "new" / "folder", tiny())
    picture = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = []
    for one in (adapter, again):
        one.attach(tiny())
        found.append(tiny().image_encoder(picture))
        one.detach()
    assert torch.allclose(*found, atol=1e-4)
    assert not torch.allclose(found[0], tiny().image_encoder(picture), atol=1e-2)
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_the_layout_is_the_librarys(tmp_path: Path) -> None:
    adapter = Adapter(tiny(), [LoraConfig(rank=8, alpha=16.0, projections=(), start=0.5)])
    assert write_peft(tmp_path, adapter) == (
        "The layout does not say which base weights the adapter belongs to: keep SamTune's own file as well.",
    )
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as opened:
        assert opened.metadata() == {"format": "pt"}
        shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in list(opened.keys())}
    assert shapes == {
        f"base_model.model.blocks.{index}.attn.qkv.lora_{which}.weight": shape
        for index in (3, 4, 5)
        for which, shape in (("A", (8, 192)), ("B", (576, 8)))
    }
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert set(settings) <= set(json.loads(WRITTEN))
    assert (settings["peft_type"], settings["r"], settings["lora_alpha"]) == ("LORA", 8, 16.0)
    target = re.compile(settings["target_modules"])
    hit = {name for name, _ in tiny().image_encoder.named_modules() if target.fullmatch(name)}
    assert hit == {f"blocks.{index}.attn.qkv" for index in (3, 4, 5)}
    hit = {name for name, _ in tiny().named_modules() if target.fullmatch(name)}
    assert hit == {f"image_encoder.blocks.{index}.attn.qkv" for index in (3, 4, 5)}


def test_projections_grow_the_rank_and_say_so(tmp_path: Path) -> None:
    adapter = Adapter(tiny(), [LoraConfig(rank=4, layers=(Layer.QKV, Layer.PROJ)), DecoderConfig()])
    grown, left_out, _ = write_peft(tmp_path, adapter)
    assert "8 instead of 4" in grown
    assert "decoder" in left_out
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (settings["r"], settings["rank_pattern"], settings["alpha_pattern"]) == (4, {"attn.qkv": 8}, {"attn.qkv": 8})
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    upper = tensors["base_model.model.blocks.0.attn.qkv.lora_B.weight"]
    assert not upper[192:384].any(), "k has no update"
    assert len(tensors["base_model.model.blocks.0.attn.proj.lora_A.weight"]) == 4


@pytest.mark.parametrize(
    ("config", "said"), [(DoraConfig(), "whole layers only"), (BitFitConfig(), "Only LoRA and DoRA")]
)
def test_what_has_no_place_in_the_layout(tmp_path: Path, config: MethodConfig, said: str) -> None:
    with pytest.raises(TuningError, match=said):
        write_peft(tmp_path / "new", Adapter(tiny(), [config]))
    assert not (tmp_path / "new").exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        write_peft(tmp_path / "file" / "below", Adapter(tiny(), [LoraConfig()]))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"peft_type": "LOHA"}, "only LoRA and DoRA"),
        ({"bias": "all"}, "does not have"),
        ({"lora_bias": True}, "does not have"),
        ({"modules_to_save": ["mask_decoder"]}, "does not have"),
        ({"init_lora_weights": "pissa"}, "does not have"),
        ({"layer_replication": [[0, 4]]}, "does not have"),
        ({"alpha_pattern": {r"blocks\.[12]": 5}}, "by expressions"),
        ({"lora_alpha": "loud"}, "damaged"),
    ],
)
def test_settings_that_are_not_plain_are_refused(tmp_path: Path, settings: dict[str, object], said: str) -> None:
    folder(tmp_path, {"blocks.0.attn.qkv": 4}, **settings)
    with pytest.raises(TuningError, match=said):
        read_peft(tmp_path, tiny())


def rename(path: Path, old: str, new: str) -> None:
    tensors = load_file(path / "adapter_model.safetensors")
    save_file({name.replace(old, new): value for name, value in tensors.items()}, path / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("attn.qkv", "attn.k_proj", "something else"),
        ("blocks.0", "layers.0", "something else"),
        ("lora_A", "lora_embedding_A", "something else"),
        ("lora_A", "lora_magnitude_vector", "something else"),
        ("lora_A.weight", "lora_B", "do not go together"),
        ("attn.qkv", "attn.proj", "another base model"),
        ("blocks.0", "blocks.6", "another base model"),
    ],
)
def test_other_tensors_are_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    folder(tmp_path, {"blocks.0.attn.qkv": 4})
    rename(tmp_path, old, new)
    with pytest.raises(TuningError, match=said):
        read_peft(tmp_path, tiny())


def test_another_base_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, {"blocks.0.attn.qkv": 4})
    with pytest.raises(TuningError, match="another base model"):
        read_peft(tmp_path, meta(Architecture.VIT_B))


def test_an_empty_adapter_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, {})
    with pytest.raises(TuningError, match="holds nothing"):
        read_peft(tmp_path, tiny())


def test_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="it needs adapter_config"):
        read_peft(tmp_path, tiny())
    folder(tmp_path, {"blocks.0.attn.qkv": 4})
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(TuningError, match="it needs adapter_config"):
        read_peft(tmp_path, tiny())
    (tmp_path / "adapter_model.safetensors").write_bytes(b"\x80\x04 no tensors")
    with pytest.raises(TuningError, match="damaged"):
        read_peft(tmp_path, tiny())
    for text in ("[]", "{"):
        folder(tmp_path, {"blocks.0.attn.qkv": 4})
        (tmp_path / "adapter_config.json").write_text(text)
        with pytest.raises(TuningError, match="damaged"):
            read_peft(tmp_path, tiny())
