"""A model with an adapter's head, on batches of crops: what is where, as arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ...models.encoder import Features
from ...models.errors import TuningError
from ...models.heads.contract import SemanticHead
from ...models.heads.find import FindOptions, Found, find
from ...models.heads.instances import Instances
from ...models.peft.card_records import HeadKind
from ...models.promptable import checked, device_errors
from ..tuning.embedding_cache import EmbeddingCache
from ..tuning.encoding import Encoding
from ..tuning.mapping import head_of
from ..tuning.reading import CropInputs

if TYPE_CHECKING:
    from ...models.peft.adapter_card import AdapterCard
    from ...models.promptable import PromptableModel
    from ..adapters import LoadedAdapter

MOST_CROPS = 16
"""Crops at most that a graphics card encodes at once: more make it no faster."""

FREE_SHARE = 0.5
"""Share of a graphics card's free memory that a batch may take."""

_ABILITIES = {
    HeadKind.PROMPTABLE: "outline what you click or draw a box around",
    HeadKind.INSTANCES: "find all objects (samtune find, or Find all)",
    HeadKind.SEMANTIC: "make class maps (samtune map, or Class map)",
}


@dataclass(frozen=True)
class Candidate:
    """An object as the model sees it in one crop.

    Attributes:
        logits: (S / 4, S / 4) float32, positive inside.
        box: x0, y0, x1, y1 in input pixels that it was prompted with.
        label: index of its class.
        score: 0 to 1.
    """

    logits: NDArray[np.float32]
    box: tuple[float, float, float, float]
    label: int
    score: float


Check = Callable[[], None]


class FindLook(Protocol):
    """Says which objects there are in crops; how many crops at once is its own affair."""

    @property
    def batch(self) -> int:
        """How many crops to give at once, from now on."""

    def look(self, crops: Sequence[CropInputs], check: Check) -> list[list[Candidate]]:
        """Return the objects of each crop, the surest first."""


class MapLook(Protocol):
    """Says what the ground is in crops."""

    @property
    def batch(self) -> int:
        """How many crops to give at once, from now on."""

    @property
    def classes(self) -> int:
        """How many classes there are."""

    def look(self, crops: Sequence[CropInputs], check: Check) -> list[NDArray[np.float32]]:
        """Return (K, S / 4, S / 4) chances of the classes for each crop."""


def refuse_other_head(card: AdapterCard, wanted: HeadKind) -> None:
    """Refuse an adapter that cannot do what is asked.

    Args:
        card: of the adapter.
        wanted: what it must be able to do.

    Raises:
        TuningError: it can do something else.
    """
    if card.head is not wanted:
        raise TuningError(
            f"The adapter {card.name} cannot {_ABILITIES[wanted].split(' (')[0]}: it was tuned to "
            f"{_ABILITIES[card.head]}. Choose one that was tuned with --head {wanted.value}."
        )


class _Adapted:
    """A model with an adapter, running on batches that fit the device."""

    def __init__(self, model: PromptableModel, loaded: LoadedAdapter) -> None:
        self._model, self._loaded = model, loaded
        self._encoding = Encoding(model, loaded.adapter, EmbeddingCache())
        self._batch = 1

    @property
    def batch(self) -> int:
        """One on a processor; on a graphics card what fits, as seen by the memory that the first crop took."""
        return self._batch

    @contextlib.contextmanager
    def features(self, crops: Sequence[CropInputs], check: Check) -> Iterator[Features]:
        """Encode crops; what the head does belongs into the context. Looks for a cancel before every block."""
        model, sam = self._model, self._model.network
        stops = (*sam.image_encoder.blocks, sam.image_encoder.neck, sam.mask_decoder.transformer)
        with (
            model.using(self._loaded.adapter),
            device_errors(model.device),
            self._measured(len(crops)),
            torch.inference_mode(),
            checked(stops, check),
            self._encoding.encoded(self._encoding.inputs(crops)) as found,
        ):
            blocks = {index: tokens.float() for index, tokens in found.blocks.items()}
            yield Features(found.embedding.float(), blocks)

    @contextlib.contextmanager
    def _measured(self, crops: int) -> Iterator[None]:
        device = self._model.device
        if device.type != "cuda" or self._batch > 1:
            yield
            return
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield
        each = max(1, torch.cuda.max_memory_allocated(device) - before) / crops
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + unused
        self._batch = int(min(max(1, FREE_SHARE * free / each), MOST_CROPS))


class InstanceLook(_Adapted):
    """The instance head of an adapter."""

    def __init__(self, model: PromptableModel, loaded: LoadedAdapter, threshold: float) -> None:
        """Take a model and an adapter into use.

        Args:
            model: the base.
            loaded: an adapter that fits it.
            threshold: least chance of an object's centre, 0 to 1.

        Raises:
            TuningError: the adapter does not find objects.
        """
        refuse_other_head(loaded.card, HeadKind.INSTANCES)
        super().__init__(model, loaded)
        head = head_of(loaded.adapter)
        if not isinstance(head, Instances):
            raise TuningError(f"The adapter {loaded.card.name} has no head that finds objects.")
        self._head = head
        self._options = FindOptions(threshold=threshold, bumps=model.card.click_bumps)

    def look(self, crops: Sequence[CropInputs], check: Check) -> list[list[Candidate]]:
        """Return the objects of each crop, the surest first."""
        with self.features(crops, check) as features:
            return [_candidates(found) for found in find(self._model.network, self._head, features, self._options)]


def _candidates(found: Found) -> list[Candidate]:
    logits, boxes = found.logits.float().cpu().numpy(), found.boxes.cpu().tolist()
    rows = zip(logits, boxes, found.classes.tolist(), found.scores.tolist(), strict=True)
    return [Candidate(mask, tuple(box), int(label), float(score)) for mask, box, label, score in rows]


class SemanticLook(_Adapted):
    """The semantic head of an adapter."""

    def __init__(self, model: PromptableModel, loaded: LoadedAdapter) -> None:
        """Take a model and an adapter into use.

        Args:
            model: the base.
            loaded: an adapter that fits it.

        Raises:
            TuningError: the adapter makes no class maps.
        """
        refuse_other_head(loaded.card, HeadKind.SEMANTIC)
        super().__init__(model, loaded)
        head = head_of(loaded.adapter)
        if not isinstance(head, SemanticHead):
            raise TuningError(f"The adapter {loaded.card.name} has no head for class maps.")
        self._head = head
        self._classes = len(loaded.card.classes)

    @property
    def classes(self) -> int:
        """How many classes there are, "anything else" included."""
        return self._classes

    def look(self, crops: Sequence[CropInputs], check: Check) -> list[NDArray[np.float32]]:
        """Return (K, S / 4, S / 4) chances of the classes for each crop."""
        with self.features(crops, check) as features:
            chances = self._head(features).float().softmax(dim=1).cpu().numpy()
        if chances.shape[1] != self._classes:
            raise TuningError(
                f"The adapter {self._loaded.card.name} tells {chances.shape[1]} classes apart, but its card names "
                f"{self._classes}. Tune it again."
            )
        return list(chances)
