"""Adapters as files: one safetensors file each, the card in its header. Nothing is unpickled.

The header holds a hash over the tensors and the settings too, so that a damaged file is noticed wherever it is damaged.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..card import JsonValue
from ..errors import TuningError
from ..sam_modules import Sam
from .adapter import Adapter
from .adapter_card import FORMAT, AdapterCard, fit_warnings, read_card, read_header
from .atomic_file import write_file, write_tensors
from .contract import Scope
from .registry import config_from_json

__all__ = [
    "adapter_sha256",
    "encoder_digest",
    "fit_warnings",
    "load_adapter",
    "read_card",
    "rewrite_card",
    "save_adapter",
]

_MOST_NAMED = 4
_ALIGNED = 8
"""Bytes; tensors begin at a multiple of it."""

_Settings = Iterable[Mapping[str, JsonValue]]


def save_adapter(path: Path, adapter: Adapter, card: AdapterCard) -> AdapterCard:
    """Write an adapter, in one step: the file is there whole, or what was there before is.

    Args:
        path: of the file; one that is there is replaced.
        adapter: attached or not.
        card: its card; ``parts`` is filled in.

    Returns:
        The card as it was written.

    Raises:
        OutputError: the file cannot be written (folder missing or protected, disk full).
    """
    written = replace(card, parts=tuple(config.to_json() for config in adapter.configs))
    tensors = adapter.state_dict()
    header = {"format": FORMAT, "card": written.to_json(), "sha256": _digest(written.parts, tensors)}
    write_tensors(path, tensors, header)
    return written


def rewrite_card(source: Path, target: Path, card: AdapterCard) -> None:
    """Write a file anew with another card and the same tensors, byte for byte, in one step.

    Args:
        source: an adapter's file.
        target: of the new one; the source itself, or one that is there, is replaced.
        card: with the parts of the source's.

    Raises:
        TuningError: the source is missing, or no adapter.
        OutputError: the target cannot be written.
    """
    facts = read_header(source) | {"card": card.to_json()}
    with source.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
        header["__metadata__"] = facts
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNED)

        def write(unfinished: Path) -> None:
            with unfinished.open("wb") as output:
                output.write(struct.pack("<Q", len(text)) + text)
                shutil.copyfileobj(stream, output)

        write_file(target, write)


@torch.inference_mode(mode=False)
def load_adapter(path: Path, sam: Sam, base_sha256: str) -> tuple[Adapter, AdapterCard]:
    """Read an adapter for a base; it is not attached yet.

    Args:
        path: of the file.
        sam: the base.
        base_sha256: of the base's weight file.

    Returns:
        The adapter, on the base's device, and its card.

    Raises:
        TuningError: the file is missing, damaged, for another base, of a later SamTune, or holds other tensors than
            its methods have.
    """
    header = read_header(path)
    card = AdapterCard.from_json(header.get("card", ""))
    if card.base.sha256 != base_sha256:
        raise TuningError(
            f"The adapter {card.name} was tuned on another base model ({card.base.name}), or on other weights of it. "
            "Choose that one, or tune again.",
            f"{path}: base SHA-256 {card.base.sha256}, the present one has {base_sha256}",
        )
    adapter = Adapter(sam, [config_from_json(part) for part in card.parts])
    tensors = _read(path)
    if header.get("sha256") != _digest(card.parts, tensors):
        raise TuningError(_damaged(path), f"{path}: its content is not what its header says")
    for name, part in adapter.parts.items():
        part.expect({own.removeprefix(f"{name}."): t for own, t in tensors.items() if own.startswith(f"{name}.")})
    _check(path, adapter, tensors)
    adapter.load_state_dict(tensors)
    return adapter.eval(), card


def adapter_sha256(adapter: Adapter) -> str:
    """Return a hash, hexadecimal, of an adapter's settings and tensors: the one in its file's header.

    Args:
        adapter: attached or not.
    """
    return _digest((config.to_json() for config in adapter.configs), adapter.state_dict())


def encoder_digest(adapter: Adapter) -> str:
    """Return a hash of what changes embeddings, for the store's keys; empty where the encoder is the base's.

    Args:
        adapter: attached or not.
    """
    tuned = {name: part for name, part in adapter.parts.items() if part.config.scope is Scope.ENCODER}
    if not tuned:
        return ""
    tensors = {f"{name}.{own}": value for name, part in tuned.items() for own, value in part.state_dict().items()}
    return _digest((part.config.to_json() for part in tuned.values()), tensors)


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError, LookupError) as error:
        raise TuningError(_damaged(path), f"{path}: {error!r}") from error


def _damaged(path: Path) -> str:
    return f"The adapter file {path.name} is damaged. Copy it again from where it came from, or tune again."


def _check(path: Path, adapter: Adapter, tensors: Mapping[str, torch.Tensor]) -> None:
    expected = adapter.state_dict()
    missing = sorted(set(expected) - set(tensors))
    surplus = sorted(set(tensors) - set(expected))
    wrong = [
        f"{name} {tuple(tensors[name].shape)} {tensors[name].dtype} instead of {tuple(value.shape)} {value.dtype}"
        for name, value in expected.items()
        if name in tensors and (tensors[name].shape != value.shape or tensors[name].dtype != value.dtype)
    ]
    problems = [("missing", missing), ("surplus", surplus), ("other shape or type", wrong)]
    if any(names for _, names in problems):
        raise TuningError(
            f"The adapter file {path.name} does not hold what its methods need. Tune again, or update SamTune.",
            "\n".join(f"{what} ({len(names)}): {_some(names)}" for what, names in problems if names),
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")


def _digest(settings: _Settings, tensors: Mapping[str, torch.Tensor]) -> str:
    """Hash settings as canonical JSON, and tensors by name, type, shape and bytes."""
    total = hashlib.sha256(json.dumps(list(settings), sort_keys=True, default=dict).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
