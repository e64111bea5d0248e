"""Exemplars: a few crops of a task with their objects, kept beside its adapter so that a later run can protect it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ...models.errors import SamTuneError
from ...models.tiny import MEAN, STD

MOST = 32


@dataclass(frozen=True)
class Exemplar:
    """One object of a previous task.

    Attributes:
        image: (3, S, S) float32, normalised.
        mask: (S / 4, S / 4) bool, True somewhere.
    """

    image: torch.Tensor
    mask: torch.Tensor

    def __post_init__(self) -> None:
        """Refuse an object of which nothing is left at the mask's resolution.

        Raises:
            SamTuneError: the mask is empty.
        """
        if not bool(self.mask.any()):
            raise SamTuneError("An object is too small to be kept as an exemplar.")


def exemplar_path(adapter: Path) -> Path:
    """Return where the exemplars of an adapter file lie: beside it."""
    return adapter.with_suffix(".exemplars.safetensors")


def choose(candidates: Sequence[Exemplar], rng: np.random.Generator, most: int = MOST) -> tuple[Exemplar, ...]:
    """Draw at most ``most`` exemplars at random, in the order in which they came."""
    chosen = np.sort(rng.permutation(len(candidates))[:most])
    return tuple(candidates[index] for index in chosen)


def write_exemplars(adapter: Path, exemplars: Sequence[Exemplar]) -> Path:
    """Write exemplars beside an adapter, atomically: images as bytes, masks as bytes of 0 and 1.

    Args:
        adapter: path of the adapter file.
        exemplars: at least one, of one size, at most ``MOST``.

    Returns:
        The file.

    Raises:
        SamTuneError: there are none, too many, or of several sizes.
    """
    if not 0 < len(exemplars) <= MOST:
        raise SamTuneError(f"1 to {MOST} exemplars can be kept with an adapter, not {len(exemplars)}.")
    if len({item.image.shape for item in exemplars}) != 1:
        raise SamTuneError("Exemplars kept with an adapter must all be of one size.")
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    images = [(item.image.cpu() * std + mean).round().clamp(0, 255).to(torch.uint8) for item in exemplars]
    masks = [item.mask.cpu().to(torch.uint8) for item in exemplars]
    path = exemplar_path(adapter)
    partial = path.with_suffix(".part")
    save_file({"images": torch.stack(images), "masks": torch.stack(masks)}, partial)
    partial.replace(path)
    return path


def read_exemplars(adapter: Path) -> tuple[Exemplar, ...]:
    """Read the exemplars of an adapter; none where it has no file of them.

    Raises:
        SamTuneError: the file is damaged.
    """
    path = exemplar_path(adapter)
    if not path.is_file():
        return ()
    try:
        tensors = load_file(path)
        images, masks = tensors["images"], tensors["masks"]
    except (SafetensorError, KeyError, OSError) as error:
        raise SamTuneError(
            f"The exemplars of the previous task in {path.name} cannot be read. Delete the file to go on without them.",
            f"{type(error).__name__}: {error}",
        ) from error
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return tuple(Exemplar((image.float() - mean) / std, mask.bool()) for image, mask in zip(images, masks, strict=True))
