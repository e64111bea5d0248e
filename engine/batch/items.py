"""What a job is made of: rasters, units, and what a unit gives. Plain data that may travel between processes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..area_messages import MapClass
from ..batch_messages import BatchSpec
from ..messages import EngineSettings, RasterInfo


class RasterMark(StrEnum):
    """What the job file knows of a raster.

    NEW: not looked at yet. PLANNED: opened, and its units are in the file. BROKEN: it cannot be used, or reading it
    failed half-way; resuming tries it again.
    """

    NEW = "new"
    PLANNED = "planned"
    BROKEN = "broken"


@dataclass(frozen=True)
class Ground:
    """Polygons in a CRS.

    Attributes:
        wkb: of one geometry; empty for none.
        crs_wkt: of its coordinates; empty where unknown.
    """

    wkb: bytes = b""
    crs_wkt: str = ""


@dataclass(frozen=True)
class JobHeader:
    """What was decided when the job was made, and stays.

    Attributes:
        spec: as the user wanted it; paths are those of the machine where the job was made.
        version: of SamTune.
        created: UTC, ISO 8601.
        model_hash: SHA-256 of the base model's weights.
        adapter_hash: SHA-256 of the adapter's file; empty without one.
        adapter_name: as its card says; empty without one.
        crs_wkt: CRS of the output: that of the first usable raster; empty where that has none.
        fields: names and numpy types of the attributes that prompts carry over.
        prompts_crs: CRS of the prompts' coordinates.
        classes: of MAP: what its values mean.
    """

    spec: BatchSpec
    version: str
    created: str
    model_hash: str
    adapter_hash: str = ""
    adapter_name: str = ""
    crs_wkt: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    prompts_crs: str = ""
    classes: tuple[MapClass, ...] = ()


@dataclass(frozen=True)
class JobRaster:
    """A raster of a job.

    Attributes:
        number: from 1, in the order of the job.
        uri: as given when the job was made.
        inside: path from the folder that holds all of the job's rasters; empty for what is no local file.
        beside: path from the job file's folder; likewise.
        mark: what is known of it.
        problem: why it cannot be used; empty.
        fingerprint: of its content; see :mod:`.rasters`.
        info: as opened, bands and stretch filled in; None where it was not.
        level: at which it is worked on; of prompts the one that the user fixed, or None.
        tiles: in it.
        second: second raster that goes with it; empty for none.
    """

    number: int
    uri: str
    inside: str = ""
    beside: str = ""
    mark: RasterMark = RasterMark.NEW
    problem: str = ""
    fingerprint: str = ""
    info: RasterInfo | None = None
    level: int | None = None
    tiles: int = 0
    second: str = ""


@dataclass(frozen=True)
class Unit:
    """A part of a job that is done or not.

    Attributes:
        number: in the job file, from 1.
        raster: number of the raster.
        tiles: how much work it is: tiles, of prompts objects.
        block: of tiles: first and end row, first and end column of the raster's plan.
        features: of prompts: numbers of the features.
        coarser: how many levels above the raster's own.
    """

    number: int
    raster: int
    tiles: int
    block: tuple[int, int, int, int] = (0, 0, 0, 0)
    features: tuple[int, ...] = ()
    coarser: int = 0


@dataclass(frozen=True)
class Feature:
    """A prompt.

    Attributes:
        number: in its file, from 1.
        wkb: geometry in the prompts' CRS.
        values: its attributes, in the order of :attr:`JobHeader.fields`; None for NULL.
        label: its class.
    """

    number: int
    wkb: bytes
    values: tuple[object, ...] = ()
    label: str = ""


@dataclass(frozen=True)
class BatchObject:
    """An object that a unit found.

    Attributes:
        wkb: MultiPolygon in the raster's CRS.
        label: its class; may be empty.
        score: 0 to 1.
        prompt: kind of prompt, for the attribute.
        feature: of prompts: number of the feature; 0 for none.
        adapter: name of the adapter that took part.
    """

    wkb: bytes
    label: str
    score: float
    prompt: str
    feature: int = 0
    adapter: str = ""


@dataclass(frozen=True)
class MapBlock:
    """What a tile answered for a class map.

    Attributes:
        row: first row, and
        col: first column of the tile, raster pixels.
        shape: numbers of classes and of cells per side of the answer, and of pixels per side of the tile.
        data: see :mod:`.map_blocks`.
    """

    row: int
    col: int
    shape: tuple[int, int, int]
    data: bytes


@dataclass(frozen=True)
class Fragment:
    """What one tile shows of an object near the border of its unit, for the joining across units.

    Attributes:
        tile: number in the raster's plan.
        wkb: in pixels of the level.
        label: class.
        score: 0 to 1.
        extra: what the joining needs besides, JSON; see :mod:`.fragments`.
    """

    tile: int
    wkb: bytes
    label: str
    score: float
    extra: str = ""


@dataclass(frozen=True)
class UnitResult:
    """What a unit gives.

    Attributes:
        unit: its number.
        objects: found.
        fragments: of objects near the unit's border.
        blocks: of the class map.
        skipped: tiles without data.
        seconds: spent.
        notes: what went otherwise than wanted, as sentences.
        problem: why the raster cannot be gone on with; empty. Such a unit is not done.
    """

    unit: int
    objects: tuple[BatchObject, ...] = ()
    fragments: tuple[Fragment, ...] = ()
    blocks: tuple[MapBlock, ...] = ()
    skipped: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Prompts:
    """The prompts of a job, as read from their file."""

    fields: tuple[tuple[str, str], ...] = ()
    crs_wkt: str = ""
    features: tuple[Feature, ...] = ()


@dataclass(frozen=True)
class Machine:
    """Where the work is done: what differs between the machines that one job may visit.

    Attributes:
        models_dir: folder of weight files; empty for this user's.
        store_dir: folder of the embedding store; empty for this user's.
        device: as in the settings.
        threads: of the model; 0 for all cores but one.
        store_bytes: size cap of the embedding store on disk.
    """

    models_dir: str = ""
    store_dir: str = ""
    device: str = "auto"
    threads: int = 0
    store_bytes: int = EngineSettings.store_bytes
