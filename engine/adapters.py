"""Adapter files in use: loaded once per model, checked against it and against the raster they are used on."""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..models.errors import TuningError
from ..models.peft.adapter_card import AdapterCard, HeadKind, fit_warnings
from .crops import MIN_LEVEL, RasterFrame
from .ground import metres_per_unit
from .messages import RasterInfo
from .progress import NullProgress, Progress

if TYPE_CHECKING:
    from ..models.peft.adapter import Adapter
    from ..models.promptable import PromptableModel

_log = logging.getLogger(__name__)

KEPT_BYTES = 1 << 30
"""Tensors of the adapters that are kept per model; the one asked for last is kept in any case."""

_Stamp = tuple[str, int, int]
"""Path, time of change, size."""


@dataclass(frozen=True)
class LoadedAdapter:
    """An adapter that fits a loaded model.

    Attributes:
        card: what it is.
        adapter: attached to nothing yet.
        digest: of its settings and tensors; answers of the decoder depend on it.
        encoder: hash of what it changes in embeddings; empty where they are the base's.
        nbytes: of its tensors.
    """

    card: AdapterCard
    adapter: Adapter
    digest: str
    encoder: str
    nbytes: int


class AdapterService:
    """Loads adapters for models and keeps them. May be asked from several threads."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        """Prepare; nothing is loaded yet.

        Args:
            kept_bytes: size up to which adapters of a model are kept.
        """
        self._kept_bytes = kept_bytes
        # By model: an adapter belongs to one loaded network, and goes when that is let go.
        self._loaded: weakref.WeakKeyDictionary[PromptableModel, OrderedDict[_Stamp, LoadedAdapter]]
        self._loaded = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def get(self, path: str, model: PromptableModel, progress: Progress | None = None) -> LoadedAdapter:
        """Return the adapter in a file, loading it at the first call and whenever the file changed.

        Args:
            path: of the file.
            model: that it is to be used with.
            progress: told what is being done.

        Raises:
            TuningError: the file is missing, damaged, of a later SamTune, or for another base model.
        """
        file = Path(path).expanduser()
        stamp = _stamp(file)
        with self._lock:
            kept = self._loaded.setdefault(model, OrderedDict())
            if stamp not in kept:
                (progress or NullProgress()).report(-1.0, f"Loading the adapter {file.stem}")
                kept[stamp] = _load(file, model)
                self._make_room(kept)
            kept.move_to_end(stamp)
            return kept[stamp]

    def _make_room(self, kept: OrderedDict[_Stamp, LoadedAdapter]) -> None:
        """Let go of what was used longest ago. The newest comes last and stays."""
        total = sum(loaded.nbytes for loaded in kept.values())
        while total > self._kept_bytes and len(kept) > 1:
            _, dropped = kept.popitem(last=False)
            _log.info("The adapter %s is let go to make room for others", dropped.card.name)
            total -= dropped.nbytes


def _stamp(file: Path) -> _Stamp:
    try:
        status = file.stat()
    except OSError as error:
        raise TuningError(
            f"There is no adapter file {file}. Choose one that SamTune's tuning wrote.", repr(error)
        ) from error
    return str(file.resolve()), status.st_mtime_ns, status.st_size


def _load(file: Path, model: PromptableModel) -> LoadedAdapter:
    from ..models.peft.adapter_file import adapter_sha256, encoder_digest, load_adapter  # torch

    adapter, card = load_adapter(file, model.network, model.card.sha256)
    nbytes = sum(tensor.numel() * tensor.element_size() for tensor in adapter.state_dict().values())
    return LoadedAdapter(card, adapter, adapter_sha256(adapter), encoder_digest(adapter), nbytes)


def refuse_without_prompts(card: AdapterCard) -> None:
    """Refuse an adapter that does not answer clicks.

    Args:
        card: of the adapter.

    Raises:
        TuningError: it makes class maps.
    """
    if card.head is HeadKind.SEMANTIC:
        raise TuningError(
            f"The adapter {card.name} was tuned to make class maps and does not answer clicks or boxes. Use one that "
            "was tuned with --head promptable."
        )


def ground_pixel(info: RasterInfo, level: int = 0) -> float | None:
    """Return the size of a pixel of the model's input on the ground, metres; None without a CRS.

    Args:
        info: of the raster.
        level: of the crop.
    """
    if not info.crs_wkt:
        return None
    frame = RasterFrame(info.width, info.height, info.transform)
    ((x, y),) = frame.to_map(np.array([[info.width / 2.0, info.height / 2.0]]))
    return info.pixel_size * metres_per_unit(info.crs_wkt, float(x), float(y)) * 2.0**level


def warnings(card: AdapterCard, info: RasterInfo, level: int) -> tuple[str, ...]:
    """Say what speaks against an adapter's use on a raster at a level.

    Args:
        card: of the adapter.
        info: of the raster, its bands chosen.
        level: of the crop.

    Returns:
        Sentences for the user; none when nothing does.
    """
    if not card.inputs.rgb:  # not known, as of imported ones
        return fit_warnings(card, card.inputs.numbers(), ground_pixel(info, level))
    further = [number for number in card.inputs.numbers() if number not in card.inputs.rgb]
    present = [number for number in further if number <= len(info.band_names)]
    bands = (*info.spec.bands, *(number for number in present if number not in info.spec.bands))
    return fit_warnings(card, bands, ground_pixel(info, level))


def level_of(card: AdapterCard, info: RasterInfo) -> int | None:
    """Return the level nearest to the raster's own that is as fine as what an adapter was trained on; None if unknown.

    Args:
        card: of the adapter.
        info: of the raster.
    """
    finest = ground_pixel(info)
    if finest is None or card.ground.gsd is None:
        return None
    low, high = (round(math.log2(gsd / finest)) for gsd in card.ground.gsd)
    return min(max(min(max(0, low), high), MIN_LEVEL), info.max_level)
