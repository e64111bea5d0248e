"""The base models that SamTune knows: one JSON card each in ``models/cards``. Standard library only.

MobileSAM-class models are deliberately absent. Their weights are Apache-2.0, but their image encoder (TinyViT) is not
in ``segment_anything``: loading them needs a further package that pulls in timm and torchvision, and its blocks
(convolutions with batch norm, attention with biases per offset) take none of the tuning methods written for SAM's plain
blocks. ``tiny`` fills that place: smaller, shipped, made of the same blocks as the large models.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from .card import ModelCard, read_card
from .errors import ModelMissingError

if TYPE_CHECKING:
    from collections.abc import Mapping

CARDS_DIR = Path(__file__).resolve().parent / "cards"
WEIGHTS_DIR = Path(__file__).resolve().parent / "weights"
DEFAULT_MODEL = "tiny"


@cache
def cards() -> Mapping[str, ModelCard]:
    """Return every card by name, the smallest model first.

    Raises:
        WeightsError: a card file is damaged.
    """
    found = sorted((read_card(path) for path in CARDS_DIR.glob("*.json")), key=lambda card: card.parameters)
    return MappingProxyType({card.name: card for card in found})


def card(name: str, among: Mapping[str, ModelCard] | None = None) -> ModelCard:
    """Return one card.

    Args:
        name: of the model.
        among: cards by name; None for :func:`cards`.

    Raises:
        ModelMissingError: there is no such model; the text lists those there are.
    """
    known = cards() if among is None else among
    if name not in known:
        raise ModelMissingError(f"There is no model called {name!r}. Choose one of: {', '.join(known)}.")
    return known[name]
