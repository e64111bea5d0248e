"""Adapters as files: whole or not there, checked in every respect before they are used, never unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import signal
import stat
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from samtune.models.card import Architecture
from samtune.models.errors import OutputError, TuningError
from samtune.models.peft import atomic_file
from samtune.models.peft.adapter import Adapter
from samtune.models.peft.adapter_card import AdapterCard, BaseRecord, HeadKind, read_header
from samtune.models.peft.adapter_file import (
    adapter_sha256,
    encoder_digest,
    load_adapter,
    read_card,
    save_adapter,
)
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.selective import BitFitConfig, DecoderConfig

from .support import SHA, meta, same, shake, tiny

CARD = AdapterCard("roofs", BaseRecord("tiny", Architecture.TINY, SHA, "none"), HeadKind.PROMPTABLE, "0", "2026-01-01")


def made(seed: int = 0) -> Adapter:
    base = tiny()  # building it, the first time, draws random numbers
    torch.manual_seed(0)
    adapter = Adapter(base, [LoraConfig(rank=2, start=0.5), BitFitConfig()])
    shake(adapter, seed=seed)
    return adapter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_adapter(tmp_path / "roofs.safetensors", made(), CARD)
    return tmp_path / "roofs.safetensors"


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], None]) -> None:
    """Change what a file holds, with everything but the header's hash as it should be."""
    tensors, header = load_file(path), read_header(path)
    change(tensors, header)
    save_file(tensors, path, metadata=header)


def seal(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], None]) -> None:
    """Change what a file holds, with the hash made anew: what a faulty writer would make."""

    def both(tensors: dict[str, torch.Tensor], header: dict[str, str]) -> None:
        change(tensors, header)
        parts = json.loads(header["card"])["parts"]
        total = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
        for name in sorted(tensors):
            value = tensors[name]
            total.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
            total.update(value.numpy().tobytes())
        header["sha256"] = total.hexdigest()

    rewrite(path, both)


def recard(**changes: object) -> Callable[[dict[str, torch.Tensor], dict[str, str]], None]:
    def change(_tensors: dict[str, torch.Tensor], header: dict[str, str]) -> None:
        header["card"] = json.dumps({**json.loads(header["card"]), **changes})

    return change


def test_what_is_written_comes_back(path: Path) -> None:
    loaded, card = load_adapter(path, tiny(), SHA)
    assert same(dict(loaded.state_dict()), dict(made().state_dict()))
    assert card == replace(CARD, parts=tuple(config.to_json() for config in made().configs))
    assert read_card(path) == card
    assert not loaded.training
    assert not loaded.attached
    assert all(value.requires_grad for value in loaded.parameters()), "it can be tuned on"


def test_the_test_seals_as_the_product_does(path: Path) -> None:
    before = read_header(path)["sha256"]
    seal(path, lambda _tensors, _header: None)
    assert read_header(path)["sha256"] == before == adapter_sha256(made())
    load_adapter(path, tiny(), SHA)


def test_precision_is_kept(tmp_path: Path) -> None:
    adapter = made().half()
    save_adapter(tmp_path / "a.safetensors", adapter, CARD)
    with pytest.raises(TuningError, match="does not hold what its methods need") as raised:
        load_adapter(tmp_path / "a.safetensors", tiny(), SHA)
    assert "float16" in raised.value.details


def test_another_base_is_refused(path: Path) -> None:
    with pytest.raises(TuningError, match=r"another base model \(tiny\)") as raised:
        load_adapter(path, tiny(), "ab" * 32)
    assert SHA in raised.value.details


def test_a_network_of_another_size_is_refused(path: Path) -> None:
    with pytest.raises(TuningError):
        load_adapter(path, meta(Architecture.VIT_B), SHA)


def _drop(tensors: dict[str, torch.Tensor], _header: dict[str, str]) -> None:
    del tensors[min(tensors)]


def _add(tensors: dict[str, torch.Tensor], _header: dict[str, str]) -> None:
    tensors["lora.more"] = torch.zeros(1)


def _foreign(tensors: dict[str, torch.Tensor], _header: dict[str, str]) -> None:
    tensors["dora.more"] = torch.zeros(1)


def _widen(tensors: dict[str, torch.Tensor], _header: dict[str, str]) -> None:
    name = min(tensors)
    tensors[name] = torch.cat([tensors[name], tensors[name]])


def _whole_numbers(tensors: dict[str, torch.Tensor], _header: dict[str, str]) -> None:
    tensors[min(tensors)] = tensors[min(tensors)].int()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_drop, "missing (1)"),
        (_add, "surplus (1): lora.more"),
        (_foreign, "surplus (1): dora.more"),
        (_widen, "other shape or type (1)"),
        (_whole_numbers, "int32 instead of"),
    ],
)
def test_other_tensors_are_refused(
    path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], None], told: str
) -> None:
    seal(path, change)
    with pytest.raises(TuningError, match="does not hold what its methods need") as raised:
        load_adapter(path, tiny(), SHA)
    assert told in raised.value.details


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([{"method": "telepathy"}], "unknown"),
        ([{"method": "lora", "rank": 2, "telepathy": 1}], "cannot be used"),
        ([{"method": "lora", "rank": 10_000}], "does not fit"),
        ([], "at least one method"),
        ([{"method": "lora"}, {"method": "lora"}], "given twice"),
    ],
)
def test_other_settings_are_refused(path: Path, parts: list[object], said: str) -> None:
    seal(path, recard(parts=parts))
    with pytest.raises(TuningError, match=said):
        load_adapter(path, tiny(), SHA)


def test_a_later_schema_is_refused(path: Path) -> None:
    rewrite(path, recard(schema=99))
    with pytest.raises(TuningError, match="Update SamTune"):
        load_adapter(path, tiny(), SHA)


def test_changed_settings_are_noticed(path: Path) -> None:
    parts = [{**part, "alpha": 400.0} if part["method"] == "lora" else part for part in read_card(path).parts]
    rewrite(path, recard(parts=parts))
    with pytest.raises(TuningError, match="is damaged"):
        load_adapter(path, tiny(), SHA)


def test_one_flipped_bit_is_noticed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(TuningError, match="is damaged"):
        load_adapter(path, tiny(), SHA)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_cut_file_is_noticed(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(TuningError, match="damaged"):
        load_adapter(path, tiny(), SHA)


def test_a_header_alone_is_noticed(path: Path) -> None:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    path.write_bytes(content[: 8 + length])
    assert read_card(path).name == "roofs"
    with pytest.raises(TuningError, match="is damaged"):
        load_adapter(path, tiny(), SHA)


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("exploded",)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "roofs.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(TuningError, match="no adapter"):
        load_adapter(path, tiny(), SHA)
    torch.save({"w": Bomb()}, path)
    with pytest.raises(TuningError, match="no adapter"):
        load_adapter(path, tiny(), SHA)
    assert not (tmp_path / "exploded").exists()


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a\.safetensors could not be written"):
        save_adapter(tmp_path / "no" / "a.safetensors", made(), CARD)


def test_a_full_disk_leaves_what_was_there(path: Path) -> None:
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OutputError, match="space left"):
            save_adapter(path, made(1), CARD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_interruption_leaves_what_was_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    monkeypatch.setattr(atomic_file.os, "fsync", lambda _number: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_adapter(path, made(1), CARD)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_is_replaced_and_readable_by_others(path: Path) -> None:
    before = os.umask(0o022)
    try:
        save_adapter(path, made(1), CARD)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert same(dict(load_adapter(path, tiny(), SHA)[0].state_dict()), dict(made(1).state_dict()))


def test_an_attached_adapter_is_saved_as_well(tmp_path: Path) -> None:
    adapter = made()
    adapter.attach(tiny())
    try:
        save_adapter(tmp_path / "a.safetensors", adapter, CARD)
    finally:
        adapter.detach()
    assert same(dict(load_adapter(tmp_path / "a.safetensors", tiny(), SHA)[0].state_dict()), dict(made().state_dict()))


def test_tensors_that_share_memory_are_written_each(tmp_path: Path) -> None:
    one = torch.arange(6.0).reshape(2, 3)
    atomic_file.write_tensors(tmp_path / "t", {"a": one, "b": one, "c": one.T}, {})
    found = load_file(tmp_path / "t")
    assert torch.equal(found["b"], one)
    assert torch.equal(found["c"], one.T)


def test_the_hash_is_of_tensors_and_settings() -> None:
    assert adapter_sha256(made()) == adapter_sha256(made())
    assert adapter_sha256(made()) != adapter_sha256(made(1))
    louder = Adapter(tiny(), [LoraConfig(rank=2, alpha=8.0, start=0.5), BitFitConfig()])
    louder.load_state_dict(made().state_dict())
    assert adapter_sha256(louder) != adapter_sha256(made())


def test_only_the_encoder_counts_for_embeddings() -> None:
    decoder = Adapter(tiny(), [DecoderConfig()])
    assert encoder_digest(decoder) == ""
    both = Adapter(tiny(), [LoraConfig(), DecoderConfig()])
    first = encoder_digest(both)
    assert first not in ("", adapter_sha256(both))
    with torch.no_grad():
        both.parts["decoder"].parameters().__next__().add_(1)
    assert encoder_digest(both) == first
    with torch.no_grad():
        both.parts["lora"].parameters().__next__().add_(1)
    assert encoder_digest(both) != first
