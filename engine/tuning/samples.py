"""Crops to learn from or to measure on: which objects each shows, and what is known of each of its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine
from shapely import STRtree
from shapely.geometry.base import BaseGeometry

from ...models.heads.contract import IGNORE
from ...models.peft.contract import TuningError
from ..crops import Crop
from ..progress import Check, never_stops
from .dataset import LEAST_SHARE, Dataset, grid_crops
from .keep import Keep
from .objects import Mask, burn
from .reading import CropInputs, GroundReader
from .split import Split
from .symmetry import lay

FEWEST_PIXELS = 16
"""An object of fewer input pixels, one cell of the answers, is no target in a crop."""

_KEPT_BYTES = 512 * 1024**2


@dataclass(frozen=True)
class CropSample:
    """A crop and who is in it.

    Attributes:
        raster: index of the raster.
        crop: of it.
        targets: indices of the objects that are targets in it.
        shown: indices of all objects of this side of the split that reach into it.
    """

    raster: int
    crop: Crop
    targets: tuple[int, ...]
    shown: tuple[int, ...]


@dataclass(frozen=True)
class CropLabels:
    """What is known of a crop.

    Attributes:
        masks: (M, S, S) bool, of the targets.
        known: (S, S) bool: where it is known what is there, and there is data. Nothing else counts in any loss.
        classes: (S, S) int16: 0 known to be none of the objects, 1 + index of the class, or ``IGNORE``.
        partial: (S, S) bool: objects of which too little is in the crop to be targets.
        labels: (M,) int64, index of each target's class.
    """

    masks: Mask
    known: Mask
    classes: NDArray[np.int16]
    partial: Mask
    labels: NDArray[np.int64]

    def laid(self, way: int) -> CropLabels:
        """Return them as they are when the crop is laid another way, see :mod:`.symmetry`."""
        if way == 0:
            return self
        return CropLabels(
            lay(self.masks, way, (1, 2)),
            lay(self.known, way, (0, 1)),
            lay(self.classes, way, (0, 1)),
            lay(self.partial, way, (0, 1)),
            self.labels,
        )


class Samples:
    """One side of the split, as crops.

    Attributes:
        items: the crops.
    """

    def __init__(
        self,
        dataset: Dataset,
        parted: Split,
        reader: GroundReader,
        *,
        held_out: bool,
        maps: bool,
        check: Check = never_stops,
    ) -> None:
        """Lay crops around the objects.

        Args:
            dataset: the ground.
            parted: who is on which side.
            reader: the rasters.
            held_out: take the side that is measured on.
            maps: crops of one level that show all known ground (class maps, instances), rather than each object's own.
            check: called for every object and crop; may raise to stop.
        """
        self.dataset, self._reader = dataset, reader
        self._members = parted.held_out if held_out else parted.train
        others = parted.train if held_out else parted.held_out
        self._trees = [_Tree(dataset, raster, self._members) for raster in range(len(dataset.frames))]
        self._foreign = [_Tree(dataset, raster, others) for raster in range(len(dataset.frames))]
        # Whatever they are, they are none of the prompted objects; but they may be of the classes that a map shows.
        self._left_out = [STRtree(shapes) for shapes in dataset.left_out] if maps else []
        self._allowed = [self._ground(raster, parted, held_out=held_out) for raster in range(len(dataset.frames))]
        self.items = self._maps(check) if maps else self._own(check)
        self._labels: Keep[CropLabels] = Keep(_label_bytes, _KEPT_BYTES)
        self._inputs: Keep[CropInputs] = Keep(_input_bytes, _KEPT_BYTES)

    def inputs(self, item: CropSample, check: Check) -> CropInputs:
        """Return what a crop looks like."""
        key = (item.raster, item.crop)
        return self._inputs.get(key, lambda: self._reader.read(item.raster, item.crop, check))

    def labels(self, item: CropSample, check: Check) -> CropLabels:
        """Return what is known of a crop."""
        return self._labels.get(item, lambda: self._painted(item, self.inputs(item, check).valid, check))

    def refuse_nothing(self, check: Check) -> None:
        """Refuse crops in which nothing can be seen.

        Raises:
            TuningError: the raster has no data in any of them.
        """
        for item in self.items:
            check()
            if self.inputs(item, check).valid.any():
                return
        if not self.items:
            return  # which is said elsewhere
        raise TuningError(
            "The raster has no data where the labelled objects are. Choose another raster, or objects within its data."
        )

    def most_kept(self) -> int:
        """Return how many bytes of crops and labels a run keeps at hand, judged by the first crop."""
        if not self.items:
            return 0
        item = self.items[0]
        each = _label_bytes(self.labels(item, never_stops)), _input_bytes(self.inputs(item, never_stops))
        return sum(min(size * len(self.items), _KEPT_BYTES) for size in each)

    def _own(self, check: Check) -> tuple[CropSample, ...]:
        crops = dict.fromkeys(self.dataset.place(number) for number in self._members)
        found = (self._sample(raster, crop, check) for raster, crop in crops)
        return tuple(item for item in found if item.targets)

    def _maps(self, check: Check) -> tuple[CropSample, ...]:
        level = self.dataset.common_level()
        found: list[CropSample] = []
        for raster in range(len(self.dataset.frames)):
            here = [number for number in self._members if self.dataset.objects[number].raster == raster]
            crops = grid_crops(self.dataset, raster, level, here, check)
            found.extend(self._sample(raster, crop, check) for crop in crops)
        return tuple(item for item in found if item.shown)

    def _sample(self, raster: int, crop: Crop, check: Check) -> CropSample:
        check()
        shown = self._trees[raster].within(_window(crop))
        area = crop.scale**2
        targets = []
        for number in shown:
            item = self.dataset.objects[number]
            share = item.share_in(crop)
            if share >= LEAST_SHARE and share * item.geometry.area / area >= FEWEST_PIXELS:
                targets.append(number)
        return CropSample(raster, crop, tuple(targets), shown)

    def _ground(self, raster: int, parted: Split, *, held_out: bool) -> BaseGeometry:
        """Return the ground of a raster, in pixels, that this side may know."""
        dataset = self.dataset
        if dataset.extents:
            known = dataset.extents[raster]
        else:
            zones = [dataset.known_by(i) for i in self._members if dataset.objects[i].raster == raster]
            known = shapely.union_all(zones)
        forbidden = dataset.to_raster(parted.forbidden, raster)
        if forbidden.is_empty:
            return known
        return shapely.intersection(known, forbidden) if held_out else shapely.difference(known, forbidden)

    def _painted(self, item: CropSample, valid: Mask, check: Check) -> CropLabels:
        objects = self.dataset.objects
        crop = item.crop
        masks = []
        for number in item.targets:
            check()
            masks.append(burn([objects[number].geometry], crop))
        own = burn([objects[number].geometry for number in item.shown], crop)
        foreign = [objects[number].geometry for number in self._foreign[item.raster].within(_window(crop))]
        foreign.extend(self._without_say(item.raster, crop))
        # What is drawn is known, also where it reaches over the known ground; other side's objects never are.
        known = ((burn([self._allowed[item.raster]], crop) & ~burn(foreign, crop)) | own) & valid
        places = {name: index for index, name in enumerate(self.dataset.classes)}
        numbered = [(objects[number].geometry, places[objects[number].label] + 1) for number in item.shown]
        classes = np.where(known, _burnt_classes(numbered, crop), IGNORE)
        cut = [objects[number].geometry for number in item.shown if number not in item.targets]
        labels = np.array([places[objects[number].label] for number in item.targets], np.int64)
        stacked = np.stack(masks) if masks else np.zeros((0, crop.size, crop.size), np.bool_)
        return CropLabels(stacked & valid, known, classes.astype(np.int16), burn(cut, crop), labels)

    def _without_say(self, raster: int, crop: Crop) -> list[BaseGeometry]:
        """Return the labelled polygons in a crop that are no objects: what they are is known, but not taught."""
        if not self._left_out:
            return []
        tree = self._left_out[raster]
        return [tree.geometries[place] for place in tree.query(_window(crop), predicate="intersects")]


class _Tree:
    """The objects of one side on one raster, by place."""

    def __init__(self, dataset: Dataset, raster: int, members: Sequence[int]) -> None:
        self._numbers = [number for number in members if dataset.objects[number].raster == raster]
        self._tree = STRtree([dataset.objects[number].geometry for number in self._numbers])

    def within(self, window: BaseGeometry) -> tuple[int, ...]:
        """Return the objects that reach into a window, in the order of the file."""
        found = self._tree.query(window, predicate="intersects")
        return tuple(self._numbers[int(place)] for place in sorted(found.tolist()))


def _window(crop: Crop) -> BaseGeometry:
    return shapely.box(crop.col, crop.row, crop.col + crop.side, crop.row + crop.side)


def _burnt_classes(numbered: Sequence[tuple[BaseGeometry, int]], crop: Crop) -> NDArray[np.int16]:
    """Return (S, S) class numbers, 0 where there is no object; later polygons lie on top."""
    if not numbered:
        return np.zeros((crop.size, crop.size), np.int16)
    grid = Affine(crop.scale, 0.0, crop.col, 0.0, crop.scale, crop.row)
    return np.asarray(rasterize(numbered, (crop.size, crop.size), transform=grid, dtype="int16"), np.int16)


def _label_bytes(labels: CropLabels) -> int:
    return labels.masks.nbytes + labels.known.nbytes + labels.classes.nbytes + labels.partial.nbytes


def _input_bytes(inputs: CropInputs) -> int:
    arrays = (inputs.image, inputs.valid, inputs.bands, inputs.second, inputs.second_valid)
    return sum(array.nbytes for array in arrays if array is not None)
