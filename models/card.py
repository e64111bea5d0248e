"""What one must know about a base model before touching its weights. Standard library only."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from .errors import WeightsError

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]

_SHA256_LENGTH = 64


class Architecture(StrEnum):
    """The networks that :mod:`.loading` can build."""

    VIT_B = "vit_b"
    VIT_L = "vit_l"
    VIT_H = "vit_h"
    TINY = "tiny"


@dataclass(frozen=True)
class Automatic:
    """Which masks stay when everything in a crop is outlined (``everything.py``).

    The values given here are those of SAM's published generator of masks, for weights that were published with it. How
    those of a card of ours came about is told in benchmarks/README.md, "Segment everything".

    Attributes:
        iou: least IoU that the model predicts for the mask of a point.
        stability: least IoU of a mask with itself when its threshold is moved by 1 up and down.
        overlap: of masks whose IoU is above this the best stays.
        agreement: if above 0, the model is asked a second time, by the bounding box of its first answer, and the second
            answer stays if its IoU with the first is at least this. For models that know objects by their boxes better
            than by a point, and whose one answer to a point says little about how sure they are.
    """

    iou: float = 0.88
    stability: float = 0.95
    overlap: float = 0.7
    agreement: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that are no shares.

        Raises:
            ValueError: a value cannot be right.
        """
        if not all(0 <= value <= 1 for value in dataclasses.astuple(self)):
            raise ValueError(f"automatic: {self} has values beyond 0 to 1")


@dataclass(frozen=True)
class ModelCard:
    """A base model and its weight file.

    Attributes:
        name: short key, as on the command line and in provenance attributes.
        title: for lists shown to the user.
        description: one sentence: when to choose it.
        architecture: which network the weights belong to.
        input_size: side of the square that the model was trained on, pixels; a multiple of 16.
        mean: of RGB, subtracted from 0-255 input.
        std: of RGB, by which the difference is divided.
        parameters: number of weights.
        licence: of the weights, SPDX.
        origin: who made them, and where that is written down.
        file_name: of the weight file, as published.
        size_bytes: of the weight file; 0 while it is not published.
        sha256: of the weight file, hexadecimal; empty while it is not published.
        url: where it is published; empty for a model that ships with the plugin.
        shipped: the file lies in ``models/weights`` of the package.
        click_bumps: the model was trained with clicks drawn into the mask prompt as well (see ``prompt_mask``).
        expected_iou: how the decoder's own estimate of IoU is to be read: pairs of an estimate and the IoU found on
            average where it was made, both rising from 0 to 1, between which is interpolated. Empty: as it is.
        automatic: which masks stay when everything is outlined.
        notes: how size and hash were established, known weaknesses; sentences.
        training: data and its terms, recipe, seeds and figures of a model trained by this project.
    """

    name: str
    title: str
    description: str
    architecture: Architecture
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    parameters: int
    licence: str
    origin: str
    file_name: str
    size_bytes: int
    sha256: str
    url: str = ""
    shipped: bool = False
    click_bumps: bool = False
    expected_iou: tuple[tuple[float, float], ...] = ()
    automatic: Automatic = Automatic()
    notes: tuple[str, ...] = ()
    training: Mapping[str, JsonValue] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Refuse values that would only fail later, far from the card.

        Raises:
            ValueError: a value cannot be right.
        """
        if self.input_size <= 0 or self.input_size % 16:
            raise ValueError(f"{self.name}: input_size {self.input_size} is no multiple of 16")
        if min(self.std) <= 0 or len(self.mean) != 3 or len(self.std) != 3:
            raise ValueError(f"{self.name}: mean and std must be three numbers each, std positive")
        if self.sha256 and (len(self.sha256) != _SHA256_LENGTH or set(self.sha256) - set("0123456789abcdef")):
            raise ValueError(f"{self.name}: sha256 must be {_SHA256_LENGTH} lower-case hexadecimal digits")
        estimates, found = ([pair[side] for pair in self.expected_iou] for side in (0, 1))
        if sorted(set(estimates)) != estimates or sorted(found) != found or not all(0 <= v <= 1 for v in found):
            raise ValueError(f"{self.name}: expected_iou must rise, and its second values lie between 0 and 1")
        if Path(self.file_name).name != self.file_name:
            raise ValueError(f"{self.name}: file_name {self.file_name!r} must not contain a folder")


def read_card(path: Path) -> ModelCard:
    """Read a card from its JSON file.

    Args:
        path: UTF-8 JSON, one object whose keys are the fields of :class:`ModelCard`.

    Returns:
        The card.

    Raises:
        WeightsError: the file is not a card.
    """
    try:
        return _card_from(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"The model card {path.name} cannot be read. Install SamTune again.", f"{path}: {error!r}"
        ) from error


def _card_from(values: object) -> ModelCard:
    if not isinstance(values, dict):
        raise TypeError("not a JSON object")
    known = {item.name for item in dataclasses.fields(ModelCard)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"unknown fields: {', '.join(unknown)}")
    converted: dict[str, typing.Any] = dict(values)
    for name in ("mean", "std", "notes"):
        if name in converted:
            converted[name] = tuple(converted[name])
    converted["expected_iou"] = tuple((float(a), float(b)) for a, b in converted.get("expected_iou", ()))
    converted["automatic"] = Automatic(**converted.get("automatic", {}))
    converted["architecture"] = Architecture(converted["architecture"])
    return ModelCard(**converted)
