"""Messages about whole areas: find all objects, map classes, say where to label next, compare adapters.

As :mod:`.messages`: plain dataclasses, standard library only, Python 3.9. Registered in :mod:`.wire`. Areas are
polygons in the raster's CRS as hexadecimal WKB; an empty one means the whole raster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .messages import OutlineOptions, RasterSpec
from .tune_messages import FigureRow, LabelSource, Picture


@dataclass(frozen=True)
class FindParams:
    """Find all objects in an area, with an adapter that has an instance head.

    Attributes:
        raster: and its bands.
        model: base model.
        adapter: path of the adapter's file.
        second: path of the second raster, for adapters that need one.
        area: where; empty for the whole raster.
        level: of detail; None: the one that the adapter was trained at.
        threshold: least score of an object, 0 to 1.
        outline: how outlines are smoothed.
        most: objects at most; more are cut off, the surest stay, and a note says so.
    """

    raster: RasterSpec
    model: str
    adapter: str
    second: str = ""
    area: str = ""
    level: Optional[int] = None
    threshold: float = 0.3
    outline: OutlineOptions = OutlineOptions()  # noqa: RUF009 - frozen
    most: int = 20000


@dataclass(frozen=True)
class FoundObject:
    """One object.

    Attributes:
        wkb: hexadecimal WKB of a valid MultiPolygon in the raster's CRS.
        label: its class.
        score: 0 to 1.
        area: square units of the raster's CRS.
    """

    wkb: str
    label: str
    score: float
    area: float


@dataclass(frozen=True)
class FindResult:
    """All objects found, the surest first. ``crops`` were looked at, ``skipped`` had no data."""

    objects: tuple[FoundObject, ...]
    adapter: str
    level: int
    crops: int
    skipped: int
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MapParams:
    """Make a class map of an area, with an adapter that has a semantic head.

    Attributes:
        raster: and its bands.
        model: base model.
        adapter: path of the adapter's file.
        output: GeoTIFF to write (cloud-optimised, palette, class names); must not exist.
        second: path of the second raster, for adapters that need one.
        area: where; empty for the whole raster. Beyond it the map has no data.
        level: of detail; None: the one that the adapter was trained at.
        confidence: second GeoTIFF to write, 0 to 100 % per pixel; empty for none.
    """

    raster: RasterSpec
    model: str
    adapter: str
    output: str
    second: str = ""
    area: str = ""
    level: Optional[int] = None
    confidence: str = ""


@dataclass(frozen=True)
class MapClass:
    """One class of a map: its value, name, colour (``#rrggbb``), and how many square CRS units it covers."""

    value: int
    name: str
    colour: str
    area: float


@dataclass(frozen=True)
class MapResult:
    """A class map that was written."""

    output: str
    confidence: str
    classes: tuple[MapClass, ...]
    level: int
    crops: int
    skipped: int
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SuggestParams:
    """Ask where labelling would teach the most.

    Attributes:
        raster: and its bands.
        model: base model.
        labels: what is labelled already; an empty path for nothing yet.
        area: where to look; empty for the whole raster.
        adapter: path of an adapter whose uncertainty counts; empty for the base's.
        second: path of the second raster, for adapters that need one.
        level: of detail; None: the adapter's, else that of the labelled objects, else the finest one at which
            ``crops`` cover the area.
        count: suggestions at most.
        crops: crops looked at at most; those whose embeddings are in the store come first.
    """

    raster: RasterSpec
    model: str
    labels: LabelSource
    area: str = ""
    adapter: str = ""
    second: str = ""
    level: Optional[int] = None
    count: int = 20
    crops: int = 64


@dataclass(frozen=True)
class Suggestion:
    """A place to label next.

    Attributes:
        x: easting of a click in it, raster CRS.
        y: northing.
        wkb: hexadecimal WKB MultiPolygon of what the model outlines there.
        rank: 0 to 1, how much it would teach: uncertainty and difference from what was labelled, together.
        uncertainty: 0 to 1.
        difference: 0 to 1.
        reason: a few words for the user.
    """

    x: float
    y: float
    wkb: str
    rank: float
    uncertainty: float
    difference: float
    reason: str


@dataclass(frozen=True)
class SuggestResult:
    """Places to label next, the most useful first."""

    suggestions: tuple[Suggestion, ...]
    level: int
    crops: int
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CompareParams:
    """Compare two adapters (an empty path: the model as it is) on labelled polygons of a raster.

    Attributes:
        raster: and its bands.
        model: base model.
        first: path of an adapter's file, or empty.
        second_adapter: likewise.
        labels: polygons to measure by.
        second: path of the second raster, for adapters that need one.
        most: objects measured at most, spread evenly.
        pictures: pictures of the largest differences.
    """

    raster: RasterSpec
    model: str
    first: str
    second_adapter: str
    labels: LabelSource
    second: str = ""
    most: int = 40
    pictures: int = 6


@dataclass(frozen=True)
class CompareResult:
    """Two adapters side by side: ``before`` of the figures is the first one, ``after`` the second."""

    figures: tuple[FigureRow, ...]
    sentence: str
    objects: int
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()
