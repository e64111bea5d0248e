"""Training samples: a window of a packed image at a drawn scale and orientation, with a few of the objects in it.

Every sample is a function of (seed, step, slot) and the packs alone, so a resumed run sees what an uninterrupted one
sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from .augment import radiometric, textureless
from .pack import Entry

_TRIES = 12
_SMALLEST_CELLS = 14  # pixels of the crop
_LARGEST_SHARE = 0.85
_MOST_MAGNIFIED = 4.0
_REFERENCE = 256
_OVERHANGING = 0.125
_CENTRED = 0.65


@dataclass(frozen=True)
class SamplingSettings:
    """How samples are drawn.

    Attributes:
        sources: weight of each set.
        kinds: weight of each kind of layer; kinds not named have 1.
        masks: objects per image.
        smallest: smallest aimed-at object side, as share of 256 pixels.
        largest: largest aimed-at object side, likewise (crops of 512 show objects as large as crops of 256 do).
        rotated: share of samples turned by any angle (all are flipped and turned by right angles).
        empty: share of textureless samples, with nothing to find.
    """

    sources: Mapping[str, float]
    kinds: Mapping[str, float]
    masks: int = 5
    smallest: float = 0.1
    largest: float = 0.9
    rotated: float = 0.3
    empty: float = 0.03


@dataclass(frozen=True)
class Sample:
    """One crop with objects.

    Attributes:
        image: (3, S, S) uint8 RGB.
        valid: (S, S) bool, False where the window lies outside the image.
        masks: (M, S, S) bool; all False in a textureless sample.
    """

    image: torch.Tensor
    valid: torch.Tensor
    masks: NDArray[np.bool_]


class Sampler:
    """Draws samples from packs."""

    def __init__(self, entries: Sequence[Entry], settings: SamplingSettings) -> None:
        """Sort the entries by set; sets of weight 0 and unnamed sets are left out."""
        self._settings = settings
        self._by_source: dict[str, list[Entry]] = {}
        for entry in entries:
            if settings.sources.get(entry.source, 0.0) > 0:
                self._by_source.setdefault(entry.source, []).append(entry)
        self._names = sorted(self._by_source)
        weights = np.array([settings.sources[name] for name in self._names])
        self._weights = weights / weights.sum()

    def draw(self, rng: np.random.Generator, size: int) -> Sample:
        """Draw one sample of ``size`` pixels a side."""
        if rng.random() < self._settings.empty:
            image = torch.from_numpy(textureless(rng, size)).permute(2, 0, 1)
            nothing = np.zeros((self._settings.masks, size, size), np.bool_)
            return Sample(image, torch.ones(size, size, dtype=torch.bool), nothing)
        while True:
            source = self._by_source[self._names[int(rng.choice(len(self._names), p=self._weights))]]
            for _ in range(_TRIES):
                sample = self._try(source[int(rng.integers(len(source)))], rng, size)
                if sample is not None:
                    return sample

    def _try(self, entry: Entry, rng: np.random.Generator, size: int) -> Sample | None:
        weights = np.array([self._settings.kinds.get(kind, 1.0) for kind in entry.layers])
        if weights.sum() <= 0:
            return None
        layer = int(rng.choice(len(weights), p=weights / weights.sum()))
        window = _aim(np.asarray(entry.labels[layer]), rng, size, self._settings)
        if window is None:
            return None
        top, left, side, target = window
        turned = bool(rng.random() < self._settings.rotated)
        image, labels, valid = _cut(entry, top, left, side, size, float(rng.uniform(0, 360)) if turned else 0.0)
        masks = _choose(labels, (layer, target), weights, rng, self._settings.masks)
        if masks is None:
            return None
        quarter, flip = int(rng.integers(4)), bool(rng.integers(2))
        masks = np.rot90(masks, quarter, axes=(1, 2))
        image, valid = torch.rot90(image, quarter, (1, 2)), torch.rot90(valid, quarter, (0, 1))
        if flip:
            masks, image, valid = masks[:, :, ::-1], image.flip(2), valid.flip(1)
        return Sample(radiometric(image, rng), valid.contiguous(), np.ascontiguousarray(masks))


def _aim(
    labels: NDArray[np.uint16], rng: np.random.Generator, size: int, settings: SamplingSettings
) -> tuple[int, int, int, int] | None:
    """Choose an object of an (H, W) label map and a square window that shows it at a drawn size.

    Returns:
        The window's top, left and side, and the object's number; None where there is no object.
    """
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    present = np.flatnonzero(areas >= 30)
    if not len(present):
        return None
    weights = areas[present] ** float(rng.choice([0.0, 0.5]))
    target = int(rng.choice(present, p=weights / weights.sum()))
    rows, columns = np.nonzero(labels == target)
    extent = max(np.ptp(rows) + 1, np.ptp(columns) + 1)
    aimed = np.exp(rng.uniform(np.log(settings.smallest), np.log(settings.largest))) * _REFERENCE / size
    # Mostly within the image; one in eight shows its end, as crops at a raster's edge do.
    limit = 1.25 * max(labels.shape) if rng.random() < _OVERHANGING else 0.9 * min(labels.shape)
    side = int(np.clip(extent / aimed, size / _MOST_MAGNIFIED, max(limit, size / _MOST_MAGNIFIED)))
    pick = int(rng.integers(len(rows)))
    middle = np.array([rows[pick], columns[pick]]) + rng.uniform(-0.3, 0.3, 2) * side
    corner = [_placed(middle[axis] - side / 2, side, labels.shape[axis], rng) for axis in (0, 1)]
    return corner[0], corner[1], side, target


def _placed(start: float, side: int, length: int, rng: np.random.Generator) -> int:
    """Keep a window within the image, but for one sample in eight."""
    if side >= length:
        return int(rng.integers(length - side, 1))
    slack = 0.3 * side if rng.random() < _OVERHANGING else 0.0
    return int(np.clip(start, -slack, length - side + slack))


def _cut(
    entry: Entry, top: int, left: int, side: int, size: int, angle: float
) -> tuple[torch.Tensor, NDArray[np.uint16], torch.Tensor]:
    """Return image (3, S, S) uint8, all label layers (L, S, S) and validity (S, S) of a window."""
    margin = int(0.21 * side) if angle else 0
    top, left, side = top - margin, left - margin, side + 2 * margin
    height, width = entry.image.shape[:2]
    rows = slice(max(top, 0), max(min(top + side, height), 0))
    columns = slice(max(left, 0), max(min(left + side, width), 0))
    at = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    image = np.zeros((side, side, 3), np.uint8)
    labels = np.zeros((entry.labels.shape[0], side, side), np.uint16)
    valid = np.zeros((side, side), np.bool_)
    image[at], valid[at] = entry.image[rows, columns], True
    labels[:, at[0], at[1]] = entry.labels[:, rows, columns]
    grown = size if not angle else round(size * side / (side - 2 * margin))
    pixels = functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None].float(), (grown, grown), mode="bilinear", antialias=True
    )[0]
    nearest = ((np.arange(grown) + 0.5) * side / grown).astype(int)
    labels, valid = labels[:, nearest[:, None], nearest], valid[nearest[:, None], nearest]
    if angle:
        pixels, labels, valid = _turn(pixels, labels, valid, angle, size)
    return pixels.round().clamp(0, 255).to(torch.uint8), labels, torch.from_numpy(np.ascontiguousarray(valid))


def _turn(
    pixels: torch.Tensor, labels: NDArray[np.uint16], valid: NDArray[np.bool_], angle: float, size: int
) -> tuple[torch.Tensor, NDArray[np.uint16], NDArray[np.bool_]]:
    grown = pixels.shape[-1]
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    axis = np.arange(size) - (size - 1) / 2
    rows = cosine * axis[:, None] - sine * axis[None, :] + (grown - 1) / 2
    columns = sine * axis[:, None] + cosine * axis[None, :] + (grown - 1) / 2
    grid = torch.from_numpy(np.stack([columns, rows], -1) * 2 / (grown - 1) - 1).float()[None]
    turned = functional.grid_sample(pixels[None], grid, mode="bilinear", padding_mode="border", align_corners=True)[0]
    near = (np.clip(rows.round().astype(int), 0, grown - 1), np.clip(columns.round().astype(int), 0, grown - 1))
    return turned, labels[:, near[0], near[1]], valid[near]


def _choose(
    labels: NDArray[np.uint16],
    aimed: tuple[int, int],
    weights: NDArray[np.float64],
    rng: np.random.Generator,
    count: int,
) -> NDArray[np.bool_] | None:
    """Pick objects in (L, S, S) label maps: the one aimed at, more of its layer, some of another.

    Args:
        labels: the window's label maps.
        aimed: layer and number of the object that the window was chosen for.
        weights: (L,) of the layers.
        rng: random generator.
        count: how many.

    Returns:
        (count, S, S), or None where there is no object of a fitting size.
    """
    largest = _LARGEST_SHARE * labels.shape[1] * labels.shape[2]
    found: list[NDArray[np.bool_]] = []
    layer, target = aimed
    layers = [layer] * (count - count // 3) + [int(rng.choice(len(weights), p=weights / weights.sum()))] * (count // 3)
    taken: set[tuple[int, int]] = set()
    for place, chosen in enumerate(layers):
        areas = np.bincount(labels[chosen].ravel())
        areas[0] = 0
        fitting = np.flatnonzero((areas >= _SMALLEST_CELLS) & (areas <= largest))
        present = [int(number) for number in fitting if (chosen, int(number)) not in taken]
        if not present:
            continue
        chances = areas[present] ** 0.3
        pick = present[int(rng.choice(len(present), p=chances / chances.sum()))]
        if place == 0 and target in present:
            pick = target
        taken.add((chosen, pick))
        found.append(labels[chosen] == pick)
    if not found:
        return None
    while len(found) < count:  # the same object again is clicked elsewhere
        found.append(found[int(rng.integers(len(found)))])
    return np.stack(found)


def quarter_share(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the share of each mask in each 4 x 4 pixel cell: (M, S, S) bool to (M, S / 4, S / 4) float32."""
    count, height, width = masks.shape
    return masks.reshape(count, height // 4, 4, width // 4, 4).mean(axis=(2, 4), dtype=np.float32)


def first_click(mask: NDArray[np.bool_], share: NDArray[np.float32], rng: np.random.Generator) -> tuple[float, float]:
    """Return a click x, y (pixels) inside a mask: mostly at its thickest place, else anywhere in it.

    Args:
        mask: (S, S) bool, not empty.
        share: (S / 4, S / 4) its share per cell.
        rng: random generator.
    """
    if rng.random() < _CENTRED and share.max() >= 1.0:
        distance = ndimage.distance_transform_edt(np.pad(share > 0.5, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(int(np.argmax(distance + (share >= 1.0))), share.shape)
        return float(column * 4 + rng.uniform(0, 4)), float(row * 4 + rng.uniform(0, 4))
    inside = np.flatnonzero(mask)
    row, column = np.unravel_index(int(inside[int(rng.integers(len(inside)))]), mask.shape)
    return float(column) + 0.5, float(row) + 0.5


def noisy_box(mask: NDArray[np.bool_], rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Return a mask's bounding box x0, y0, x1, y1 with noise: half of them tight, half with 10 % (20 px at most)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    tight = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)
    if rng.random() < 0.5:
        sides = np.array([tight[2] - tight[0], tight[3] - tight[1]] * 2)
        noise = np.clip(rng.normal(0, 0.1, 4) * sides, -20, 20)
        moved = tight + noise
        tight = np.array([*np.minimum(moved[:2], tight[2:] - 2), *np.maximum(moved[2:], tight[:2] + 2)])
        tight = np.clip(tight, 0, mask.shape[0])
    return float(tight[0]), float(tight[1]), float(tight[2]), float(tight[3])
