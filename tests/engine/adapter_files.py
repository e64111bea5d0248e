"""Adapter files with random numbers, for the shipped ``tiny`` or any other model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from samtune.models.card import ModelCard
from samtune.models.peft.adapter import Adapter
from samtune.models.peft.adapter_card import AdapterCard
from samtune.models.peft.adapter_file import save_adapter
from samtune.models.peft.card_records import BaseRecord, HeadKind, InputRecord
from samtune.models.peft.contract import MethodConfig
from samtune.models.peft.lora import LoraConfig
from samtune.models.sam_modules import Sam


def card_for(model: ModelCard, name: str = "ponds", **more: object) -> AdapterCard:
    """Return the card of an adapter tuned on a model."""
    base = BaseRecord(model.name, model.architecture, model.sha256, model.licence)
    card = AdapterCard(name, base, HeadKind.PROMPTABLE, "0.1.0", "2026-11-23T00:00:00+00:00", inputs=InputRecord((1,)))
    return replace(card, **more)


def moved_adapter(network: Sam, *configs: MethodConfig, seed: int = 1, by: float = 0.02) -> Adapter:
    """Return an adapter that does something: random numbers added to all it has."""
    made = Adapter(network, configs or (LoraConfig(),))
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=by)
    return made


def write_adapter(
    path: Path, model: ModelCard, network: Sam, *configs: MethodConfig, seed: int = 1, by: float = 0.02, **more: object
) -> Path:
    """Write an adapter that does something, and return its path; ``more`` are fields of its card."""
    card = card_for(model, **{"name": path.stem, **more})
    save_adapter(path, moved_adapter(network, *configs, seed=seed, by=by), card)
    return path
