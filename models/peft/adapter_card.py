"""What one must know about an adapter before using it: its card, in the header of its file. Standard library only."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from ..card import JsonValue
from ..errors import TuningError
from .card_records import (
    BandRecord,
    BaseRecord,
    ClassRecord,
    GroundRecord,
    HeadKind,
    InputRecord,
    MetricRecord,
    SecondRecord,
    TrainingRecord,
)
from .plain import record_from, to_plain

__all__ = [
    "FORMAT",
    "SCHEMA",
    "USER_NOTE",
    "AdapterCard",
    "BandRecord",
    "BaseRecord",
    "ClassRecord",
    "GroundRecord",
    "HeadKind",
    "InputRecord",
    "MetricRecord",
    "SecondRecord",
    "TrainingRecord",
    "described",
    "fit_warnings",
    "read_card",
    "read_header",
]

FORMAT = "samtune-adapter"
SCHEMA = 1
"""Version of the card's layout. A file of a later one is refused."""

FARTHEST_GSD = 2.0
"""A ground resolution that is this many times off the training's is warned of."""

USER_NOTE = "Note: "
"""What the note that the user wrote begins with; the others are SamTune's own."""

_MOST_HEADER_BYTES = 100_000_000  # what safetensors itself accepts


@dataclass(frozen=True)
class AdapterCard:
    """An adapter's card.

    Attributes:
        name: for lists.
        base: what it was tuned on.
        head: what it answers with.
        plugin_version: of the SamTune that made it.
        created: time, ISO 8601, UTC.
        parts: the configurations of its parts, as :meth:`.contract.MethodConfig.to_json` has them; filled in by
            :func:`.adapter_file.save_adapter`.
        inputs: what it was trained to see.
        ground: where and at which scale.
        classes: what it tells apart; empty for a promptable one without.
        training: how it was trained.
        metrics: how good it was found to be.
        notes: sentences for the user.
        schema: version of this layout.
    """

    name: str
    base: BaseRecord
    head: HeadKind
    plugin_version: str
    created: str
    parts: tuple[Mapping[str, JsonValue], ...] = ()
    inputs: InputRecord = field(default_factory=InputRecord)
    ground: GroundRecord = field(default_factory=GroundRecord)
    classes: tuple[ClassRecord, ...] = ()
    training: TrainingRecord = field(default_factory=TrainingRecord)
    metrics: tuple[MetricRecord, ...] = ()
    notes: tuple[str, ...] = ()
    schema: int = SCHEMA

    def to_json(self) -> str:
        """Return the card as JSON text, names sorted."""
        return json.dumps(to_plain(self), sort_keys=True, allow_nan=False, ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> AdapterCard:
        """Rebuild from :meth:`to_json`, strictly.

        Raises:
            TuningError: it is no card, or one of a later schema.
        """
        try:
            values: object = json.loads(text)
            _check_schema(values)
            return record_from(cls, values)
        except (ValueError, TypeError, RecursionError) as error:
            raise TuningError("The adapter's card cannot be read: the file is damaged.", repr(error)) from error


def described(card: AdapterCard, name: str, notes: str) -> AdapterCard:
    """Return a card with another name and another note of the user.

    Args:
        card: as it is; SamTune's own notes stay.
        name: for lists.
        notes: of the user; empty for none.
    """
    own = tuple(note for note in card.notes if not note.startswith(USER_NOTE))
    return replace(card, name=name, notes=(*own, *((USER_NOTE + notes,) if notes else ())))


def _check_schema(values: object) -> None:
    if not isinstance(values, Mapping):
        raise TypeError("no JSON object")
    schema = values.get("schema")
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
        raise ValueError(f"schema {schema!r}")
    if schema > SCHEMA:
        raise TuningError(
            "The adapter was made by a later version of SamTune. Update SamTune to use it.", f"schema {schema}"
        )


def read_header(path: Path) -> dict[str, str]:
    """Read the texts in the header of an adapter's file: ``format``, ``card`` and ``sha256``, but none of its tensors.

    Args:
        path: of the file.

    Raises:
        TuningError: there is no such file, or it is damaged or no adapter.
    """
    try:
        with path.open("rb") as stream:
            return _facts(stream)
    except FileNotFoundError as error:
        raise TuningError(f"The adapter file {path.name} is not there.", str(path)) from error
    except (OSError, ValueError, struct.error, RecursionError) as error:
        raise TuningError(
            f"{path.name} is damaged, or no adapter. Choose a file that SamTune's tuning wrote.", f"{path}: {error!r}"
        ) from error


def _facts(stream: BinaryIO) -> dict[str, str]:
    """Read safetensors' header: its length in eight bytes, then JSON."""
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > _MOST_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes")
    header: object = json.loads(stream.read(length))
    facts: object = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise ValueError("its header is another one")
    return {str(name): str(text) for name, text in facts.items()}


def read_card(path: Path) -> AdapterCard:
    """Read an adapter's card without its tensors.

    Args:
        path: of the file.

    Raises:
        TuningError: as :func:`read_header`, or the card is damaged or of a later SamTune.
    """
    return AdapterCard.from_json(read_header(path).get("card", ""))


def fit_warnings(card: AdapterCard, bands: Sequence[int], gsd: float | None) -> tuple[str, ...]:
    """Say what speaks against an adapter's use on certain imagery.

    Args:
        card: of the adapter.
        bands: the raster's bands, from 1, that it would be given: those of the picture, then further ones.
        gsd: size of a pixel of the model's input on the ground, metres; None where unknown.

    Returns:
        Sentences for the user; none when nothing does.
    """
    found: list[str] = []
    wanted = card.inputs.numbers()
    if tuple(bands) != wanted:
        found.append(
            f"The adapter {card.name} was trained on the bands {_listed(wanted)}, but is given {_listed(bands)}. "
            "Choose the same bands, or expect worse outlines."
        )
    if gsd is not None and card.ground.gsd is not None:
        finest, coarsest = card.ground.gsd
        if gsd > coarsest * FARTHEST_GSD or gsd * FARTHEST_GSD < finest:
            finer = "coarser" if gsd > coarsest else "finer"
            found.append(
                f"The adapter {card.name} was trained at {_span(finest, coarsest)} m per pixel; {gsd:.3g} m is much "
                f"{finer}. Choose another level of detail, or expect worse outlines."
            )
    return tuple(found)


def _listed(bands: Sequence[int]) -> str:
    return ", ".join(str(band) for band in bands) or "none"


def _span(finest: float, coarsest: float) -> str:
    return f"{finest:.3g}" if finest == coarsest else f"{finest:.3g} to {coarsest:.3g}"
