"""The labelled ground of a run: every usable object on every raster, and which ground is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from shapely.geometry.base import BaseGeometry

from ...models.peft.contract import TuningError
from ..crops import Crop, RasterFrame, crop_at
from ..progress import Check, never_stops
from .objects import GroundObject, on_raster, to_pixels
from .reading import GroundReader
from .settings import Task, TuneSettings
from .vectors import Shape, read_extent, read_shapes

LEAST_SHARE = 0.3
"""An object of which less than this lies in a crop, or on the raster, is no target there."""

LEAST_OF_MAP = 1
"""Raster pixels of a polygon that shows a map's class: a few show what it looks like, if not what shape it has."""

MAP_SHARE = 0.15
"""An object of the usual size takes half of this to all of it of the side of a map's crop: 38 to 77 pixels of 512."""


@dataclass(frozen=True)
class Dataset:
    """Labelled ground.

    Attributes:
        objects: the usable ones, raster after raster.
        classes: their names, in alphabetic order.
        frames: size and georeference of each raster.
        crs: of each raster, WKT; empty where it has none.
        extents: per raster the polygons within which everything is labelled, in its pixels; empty without an extent.
        size: side of the model's input.
        level: fixed level, or None.
        notes: what was repaired or left out, as sentences.
        left_out: per raster the labelled polygons that are no objects, in its pixels: too small, or mostly beyond the
            raster. They are no background either. Empty for none.
        repaired: numbers of label features that were invalid, from 1, and
        useless: of those that have no object on any raster.
        around: without an extent, what lies close around an object is known to be none of them.
    """

    objects: tuple[GroundObject, ...]
    classes: tuple[str, ...]
    frames: tuple[RasterFrame, ...]
    crs: tuple[str, ...]
    extents: tuple[BaseGeometry, ...]
    size: int
    level: int | None
    notes: tuple[str, ...]
    left_out: tuple[tuple[BaseGeometry, ...], ...] = ()
    repaired: tuple[int, ...] = ()
    useless: tuple[int, ...] = ()
    around: bool = True

    def known_by(self, number: int) -> BaseGeometry:
        """Return the ground of which an object's outline tells, in pixels of its raster."""
        found = self.objects[number]
        return found.zone if self.around else found.geometry

    def place(self, number: int) -> tuple[int, Crop]:
        """Return raster and crop in which an object is shown, as the plugin would choose it."""
        found = self.objects[number]
        frame = self.frames[found.raster]
        level = found.level(frame, self.size, self.level)
        column, row = found.anchor
        inside = (min(max(column, 0.0), frame.width - 1e-6), min(max(row, 0.0), frame.height - 1e-6))
        return found.raster, crop_at(frame, self.size, level, inside)

    def anchors(self) -> NDArray[np.float64]:
        """Return (N, 2) places of the objects in the first raster's CRS."""
        places = np.zeros((len(self.objects), 2))
        for index, item in enumerate(self.objects):
            places[index] = self.frames[item.raster].to_map(np.array([item.anchor]))[0]
        for raster, crs in enumerate(self.crs):
            rows = [index for index, item in enumerate(self.objects) if item.raster == raster]
            if crs and self.crs[0] and crs != self.crs[0] and rows:
                mover = Transformer.from_crs(CRS.from_wkt(crs), CRS.from_wkt(self.crs[0]), always_xy=True)
                places[rows] = np.column_stack(mover.transform(places[rows, 0], places[rows, 1]))
        return places

    def to_raster(self, geometry: BaseGeometry, raster: int) -> BaseGeometry:
        """Bring a geometry from the first raster's CRS into a raster's pixels."""
        if self.crs[raster] and self.crs[0] and self.crs[raster] != self.crs[0]:
            mover = Transformer.from_crs(CRS.from_wkt(self.crs[0]), CRS.from_wkt(self.crs[raster]), always_xy=True)
            moved = shapely.segmentize(geometry, max(geometry.length / 32, 1e-9))
            geometry = shapely.transform(moved, lambda xy: np.column_stack(mover.transform(xy[:, 0], xy[:, 1])))
        return to_pixels(geometry, self.frames[raster])

    def common_level(self) -> int:
        """Return the level for maps of whole areas: the fixed one, else that at which most objects have their size.

        A click's crop shows one object as large as it can; a map's shows many, and the ground between them, or nothing
        would be learnt of what is none, and an area would take sixteen times as many crops.
        """
        levels = [item.level(self.frames[item.raster], self.size, self.level, MAP_SHARE) for item in self.objects]
        return int(np.median(levels))


def load_dataset(settings: TuneSettings, reader: GroundReader, size: int, check: Check = never_stops) -> Dataset:
    """Read the labels of a run.

    Args:
        settings: the run.
        reader: its rasters.
        size: side of the model's input, pixels.
        check: called for every feature; may raise to stop.

    Raises:
        TuningError: the labels cannot be read, or none of them lies on a raster.
    """
    cover = settings.task is Task.SEMANTIC
    least = min(settings.least, LEAST_OF_MAP) if cover else settings.least
    objects: list[GroundObject] = []
    notes: list[str] = []
    extents: list[BaseGeometry] = []
    left_out: list[tuple[BaseGeometry, ...]] = []
    for raster, source in enumerate(reader.sources):
        frame, wkt = source.frame, source.info.crs_wkt
        found = read_shapes(settings.labels, wkt, check)
        notes.extend(note for note in found.notes if note not in notes)
        usable, useless = _on_raster(found.items, raster, frame, least, check)
        objects.extend(usable)
        left_out.append(useless)
        extents.extend(_extent(settings, frame, wkt, check))
    _refuse_none(objects, least)
    lost = {item.row for item in found.items} - {item.row for item in objects}
    classes = tuple(sorted({item.label for item in objects}))
    return Dataset(
        tuple(objects),
        classes,
        tuple(source.frame for source in reader.sources),
        tuple(source.info.crs_wkt for source in reader.sources),
        tuple(extents),
        size,
        settings.level,
        (*notes, *_lost(len(lost), least)),
        tuple(left_out),
        found.repaired,
        tuple(sorted(lost | set(found.dropped))),
        # Land cover is drawn as samples: beside a sample of forest there is more forest.
        around=not cover or len(classes) == 1,
    )


def _on_raster(
    shapes: Sequence[Shape], raster: int, frame: RasterFrame, least: int, check: Check
) -> tuple[list[GroundObject], tuple[BaseGeometry, ...]]:
    """Return the objects on a raster, and the labelled polygons there that are none."""
    objects: list[GroundObject] = []
    rest: list[BaseGeometry] = []
    for item in shapes:
        check()
        usable, useless = _pieces(to_pixels(item.geometry, frame), frame, least)
        objects.extend(GroundObject(raster, item.label, piece, item.row, item.part) for piece in usable)
        rest.extend(useless)
    return objects, tuple(rest)


def _refuse_none(objects: Sequence[GroundObject], least: int) -> None:
    if not objects:
        raise TuningError(
            "None of the labelled polygons lies on the raster, or all are smaller than "
            f"{least} pixels. Check the layer and its CRS, or choose a finer raster."
        )


def _lost(count: int, least: int) -> tuple[str, ...]:
    text = f"{count} of the labelled polygons were left out: they lie beyond the raster, or are smaller than "
    return (f"{text}{least} of its pixels.",) if count else ()


def _pieces(whole: BaseGeometry, frame: RasterFrame, least: int) -> tuple[list[BaseGeometry], list[BaseGeometry]]:
    """Return the pieces of a polygon on a raster that are objects, and those that are not."""
    cut = on_raster(whole, frame)
    pieces = [part for part in shapely.get_parts(cut) if part.geom_type == "Polygon" and part.area > 0]
    enough = least if cut.area >= LEAST_SHARE * whole.area else np.inf
    return [piece for piece in pieces if piece.area >= enough], [piece for piece in pieces if piece.area < enough]


def _extent(settings: TuneSettings, frame: RasterFrame, wkt: str, check: Check) -> Sequence[BaseGeometry]:
    if settings.extent is None:
        return ()
    return (to_pixels(read_extent(settings.extent, wkt, check), frame),)


def grid_crops(dataset: Dataset, raster: int, level: int, members: Sequence[int], check: Check) -> list[Crop]:
    """Return the crops of a level that together show all known ground of a raster, each at most once.

    Args:
        dataset: the ground.
        raster: which.
        level: of the crops.
        members: the objects whose surroundings are known where there is no extent.
        check: called for every crop; may raise to stop.
    """
    frame, size = dataset.frames[raster], dataset.size
    areas = [dataset.extents[raster]] if dataset.extents else [dataset.known_by(i) for i in members]
    found: dict[Crop, None] = {}
    for area in areas:
        if area.is_empty:
            continue
        left, top, right, bottom = area.bounds
        step = max(size * 2.0**level / 2, 1.0)
        for row in np.arange(max(top, 0.0), min(bottom, frame.height), step):
            for column in np.arange(max(left, 0.0), min(right, frame.width), step):
                check()
                crop = crop_at(frame, size, level, (float(column), float(row)))
                window = shapely.box(crop.col, crop.row, crop.col + crop.side, crop.row + crop.side)
                if area.intersects(window):
                    found[crop] = None
    return list(found)
