"""Discs on noisy ground, some of them in contact, and the shipped model to see them with."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from samtune.models import registry
from samtune.models.encoder import Features, encode
from samtune.models.loading import read_state
from samtune.models.sam_modules import Sam
from samtune.models.tiny import MEAN, STD, build_tiny

SIZE = 256
RADIUS = 14
TOUCHING = ((40.0, 40.0), (68.0, 40.0), (96.0, 40.0), (60.0, 150.0), (81.0, 168.6), (180.0, 200.0), (152.0, 200.0))
ALONE = ((200.0, 60.0), (150.0, 120.0), (90.0, 220.0), (230.0, 150.0))


@dataclass(frozen=True)
class Scene:
    """One image.

    Attributes:
        image: (1, 3, S, S) normalised.
        masks: (M, S, S) bool.
        centres: (M, 2) x, y.
    """

    image: torch.Tensor
    masks: torch.Tensor
    centres: torch.Tensor


def disc(size: int, x: float, y: float, radius: float) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


@functools.cache
def discs() -> Scene:
    """Return bright discs with dark rims; those of ``TOUCHING`` are in contact."""
    random = torch.Generator().manual_seed(0)
    centres = (*TOUCHING, *ALONE)
    masks = torch.stack([disc(SIZE, x, y, RADIUS) for x, y in centres])
    core = torch.stack([disc(SIZE, x, y, RADIUS - 1.5) for x, y in centres]).any(dim=0)
    image = torch.full((3, SIZE, SIZE), 90.0)
    image[:, masks.any(dim=0)] = 90.0
    image[:, core] = torch.tensor([200.0, 190.0, 170.0])[:, None]
    image = image + 8 * torch.randn(3, SIZE, SIZE, generator=random)
    image = (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    return Scene(image[None], masks, torch.tensor(centres))


@functools.cache
def shipped() -> Sam:
    """Return the shipped ``tiny``, frozen."""
    sam = build_tiny()
    card = registry.card("tiny")
    state = read_state(registry.WEIGHTS_DIR / card.file_name)
    sam.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return sam.requires_grad_(requires_grad=False)


@functools.cache
def seen() -> Features:
    """Return the features of every second block of the scene."""
    with torch.no_grad():
        return encode(shipped().image_encoder, discs().image, collect=(1, 3, 5))


def random_features(batch: int = 1, side: int = 8, seed: int = 0, dim: int = 192) -> Features:
    """Return features as of ``tiny`` on images of 16 * side pixels."""
    random = torch.Generator().manual_seed(seed)
    blocks = {index: torch.randn(batch, side, side, dim, generator=random) for index in (1, 3, 5)}
    return Features(torch.randn(batch, 256, side, side, generator=random), blocks)


def connected_parts(mask: torch.Tensor) -> int:
    """Count the 4-connected parts of an (H, W) mask."""
    labels = torch.where(mask, torch.arange(1, mask.numel() + 1).view_as(mask), 0).float()
    while True:
        padded = torch.nn.functional.pad(labels[None], (1, 1, 1, 1))[0]
        shifts = [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]]
        grown = torch.where(mask, torch.stack([labels, *shifts]).amax(dim=0), 0.0)
        if torch.equal(grown, labels):
            return len(labels.unique()) - 1
        labels = grown
