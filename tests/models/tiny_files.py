"""Weight files with random numbers: of ``tiny``, and cards that name them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from samtune.models import registry
from samtune.models.card import ModelCard
from samtune.models.tiny import build_tiny


def random_tiny_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """Return the tensors of a ``tiny`` with random weights, half precision like the shipped file."""
    torch.manual_seed(seed)
    state = build_tiny().state_dict()
    return {name: tensor.half().contiguous() for name, tensor in state.items()}


def write_tiny(folder: Path, seed: int = 0) -> tuple[ModelCard, Path]:
    """Write a random ``tiny`` and return a card that names exactly this file, not shipped."""
    path = folder / "tiny.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(random_tiny_state(seed), path)
    content = path.read_bytes()
    card = replace(
        registry.card("tiny"),
        shipped=False,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        url="https://example.org/tiny.safetensors",
    )
    return card, path
