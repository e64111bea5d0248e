"""Exemplars: a few crops of a task with their objects, kept in the run's folder so that a later run can protect it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ...models.errors import OutputError, SamTuneError
from ...models.tiny import MEAN, STD

MOST = 32
_NAME = "exemplars.safetensors"


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

    @classmethod
    def of(cls, image: torch.Tensor, mask: NDArray[np.bool_]) -> Exemplar:
        """Make one of an array's mask."""
        return cls(image, torch.from_numpy(np.ascontiguousarray(mask)))


def choose(candidates: Sequence[Exemplar], rng: np.random.Generator, most: int = MOST) -> tuple[Exemplar, ...]:
    """Draw at most ``most`` exemplars at random, in the order in which they came."""
    chosen = np.sort(rng.permutation(len(candidates))[:most])
    return tuple(candidates[index] for index in chosen)


def write_exemplars(folder: Path, exemplars: Sequence[Exemplar]) -> Path:
    """Write exemplars into a run's folder, atomically: images as bytes, masks as bytes of 0 and 1.

    Args:
        folder: made where it is not there.
        exemplars: at least one, of one size, at most ``MOST``.

    Returns:
        The file.

    Raises:
        SamTuneError: there are none, too many, or of several sizes; or the folder cannot be written to.
    """
    if not 0 < len(exemplars) <= MOST:
        raise SamTuneError(f"1 to {MOST} exemplars can be kept with a run, not {len(exemplars)}.")
    if len({item.image.shape for item in exemplars}) != 1:
        raise SamTuneError("Exemplars kept with a run must all be of one size.")
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    images = [(item.image.cpu() * std + mean).round().clamp(0, 255).to(torch.uint8) for item in exemplars]
    masks = [item.mask.cpu().to(torch.uint8) for item in exemplars]
    path = folder / _NAME
    partial = path.with_suffix(".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"images": torch.stack(images), "masks": torch.stack(masks)}, partial)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"The exemplars of the run could not be written to {folder}. Make room there, or choose another folder.",
            str(error),
        ) from error
    return path


def read_exemplars(folder: Path) -> tuple[Exemplar, ...]:
    """Read the exemplars of a run; none where its folder has no file of them.

    Raises:
        SamTuneError: the file is damaged.
    """
    path = folder / _NAME
    if not path.is_file():
        return ()
    try:
        tensors = load_file(path)
        images, masks = tensors["images"], tensors["masks"]
    except (SafetensorError, KeyError, OSError) as error:
        raise SamTuneError(
            f"The exemplars of the previous task in {path} cannot be read. Delete the file to go on without them.",
            f"{type(error).__name__}: {error}",
        ) from error
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return tuple(Exemplar((image.float() - mean) / std, mask.bool()) for image, mask in zip(images, masks, strict=True))
