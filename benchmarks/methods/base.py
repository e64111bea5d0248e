"""The model that everything is measured on, and the methods with the settings they are measured with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from samtune.models import registry
from samtune.models.card import ModelCard
from samtune.models.loading import load
from samtune.models.peft.adapter import Adapter, freeze
from samtune.models.peft.contract import MethodConfig
from samtune.models.sam_modules import Sam

WEIGHTS = Path(__file__).resolve().parents[2] / "models" / "weights" / "tiny.safetensors"


@dataclass(frozen=True)
class Options:
    """How the program was called.

    Attributes:
        data: folder with the data, or None.
        quick: a few steps of everything, to see that it runs.
        command: for the report.
        json: where the report goes, or None.
        minutes: of processor time after which nothing new is begun, or None.
        only: the one seed that is run, or None for all.
    """

    data: Path | None = None
    quick: bool = False
    command: str = ""
    json: Path | None = None
    minutes: float | None = None
    only: int | None = None


@dataclass(frozen=True)
class Arm:
    """One of the things that are compared.

    Attributes:
        name: for tables.
        configs: the methods; none for the base as it is.
        rate: peak learning rate, the same in all tables.
    """

    name: str
    configs: tuple[MethodConfig, ...] = ()
    rate: float = 1e-3


def base() -> tuple[ModelCard, Sam]:
    """Load ``tiny``, frozen."""
    card = registry.card("tiny")
    sam = load(card, WEIGHTS, "cpu").network
    freeze(sam)
    return card, sam


def new_adapter(sam: Sam, arm: Arm, seed: int) -> Adapter:
    """Make an arm's adapter from a seed."""
    torch.manual_seed(seed)
    return Adapter(sam, arm.configs)


def trainable(sam: Sam, arm: Arm) -> int:
    """Return how many numbers an arm's methods train, a head's left out."""
    return sum(config.plan(sam).trainable for config in arm.configs if config.scope.value != "head")


def facts(card: ModelCard, options: Mapping[str, object], data_hash: str) -> dict[str, object]:
    """Return what every table says about how it was made."""
    return {
        "model": f"{card.name}, SHA-256 {card.sha256[:12]}",
        **options,
        "data": f"SHA-256 {data_hash} of the arrays used",
        "torch": f"{torch.__version__}, {torch.get_num_threads()} thread, numpy {np.__version__}",
    }
