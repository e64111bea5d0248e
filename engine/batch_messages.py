"""Messages about batch jobs: what one would take, doing or resuming it, and how it is doing.

As :mod:`.messages`: plain dataclasses, standard library only, Python 3.9. Registered in :mod:`.wire`. A job is one file
that holds what is to be done and everything that is done; cancelling ``batch/run`` leaves it ready to be resumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional


class BatchTask(str, Enum):
    """What is done with every raster.

    PROMPTS: each feature of a vector file becomes one object. AUTOMATIC: everything is outlined. FIND: all objects,
    with an adapter that has an instance head. MAP: a class map, with one that has a semantic head. EMBEDDINGS: the
    store is filled, so that clicks need not wait later.
    """

    PROMPTS = "prompts"
    AUTOMATIC = "automatic"
    FIND = "find"
    MAP = "map"
    EMBEDDINGS = "embeddings"


class BatchState(str, Enum):
    """Where a job or a raster of it is.

    A job is WAITING where it can be (re)started, RUNNING while a process works on it, WRITING while the outputs are
    made, FINISHED when they are. A raster is FAILED when it cannot be used; the job goes on without it.
    """

    WAITING = "waiting"
    RUNNING = "running"
    WRITING = "writing"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True)
class BatchRasters:
    """Which rasters.

    Attributes:
        paths: files, GDAL URIs, and folders, which are searched with all folders in them.
        pattern: file names taken from folders, such as ``*.tif``; several with commas between.
        bands: one or three band numbers shown to the model; empty for each raster's (or the adapter's) defaults.
        stretch: (low, high) per band in raster values; empty for each raster's own.
        second: second raster, for adapters that need one; or a folder of rasters named as the first ones.
    """

    paths: tuple[str, ...]
    pattern: str = "*.tif,*.tiff,*.vrt,*.jp2,*.img"
    bands: tuple[int, ...] = ()
    stretch: tuple[tuple[float, float], ...] = ()
    second: str = ""


@dataclass(frozen=True)
class VectorSource:
    """Features in a vector file, in any CRS. QGIS writes the features that the user chose to a GeoPackage first.

    Attributes:
        path: of the file; empty for none.
        layer: in it; empty for its only or first one.
    """

    path: str = ""
    layer: str = ""


@dataclass(frozen=True)
class BatchOutputs:
    """What is written in the end, from the job file.

    Attributes:
        vector: ``.gpkg``, ``.fgb`` or ``.parquet`` with all objects; of MAP polygons of the classes, empty for none.
        layer: its name in a GeoPackage.
        maps: of MAP: folder that gets one cloud-optimised GeoTIFF per raster.
        confidence: of MAP: also a GeoTIFF of 0 to 100 % per pixel for every raster.
        overwrite: existing files are replaced; otherwise they are an error before anything is done.
    """

    vector: str = ""
    layer: str = "segments"
    maps: str = ""
    confidence: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class BatchOptions:
    """How it is done.

    Attributes:
        level: of detail; None: by each object's size (PROMPTS), the adapter's (FIND, MAP), 0, and of AUTOMATIC finer
            where a raster is smaller than what the model sees at once.
        simplify: largest distance by which simplification may move outlines, metres, as below pixels without a CRS.
        min_hole: holes with less area are filled, square metres.
        min_part: parts, and objects, with less area are dropped, square metres.
        threshold: of FIND: least score of an object.
        points: of AUTOMATIC: points per side of the grid laid over each crop.
        iou: of AUTOMATIC: least IoU that the model predicts for a mask; 0 for what suits the model.
        stability: of AUTOMATIC: least share by which a mask stays the same when its threshold is moved; 0 likewise.
        levels: of AUTOMATIC: how many levels, each twice as coarse as the one before; large objects need more than one.
        tiles: tiles per side of a unit of work, of which the job file remembers whether it is done.
    """

    level: Optional[int] = None
    simplify: float = 0.0
    min_hole: float = 0.0
    min_part: float = 0.0
    threshold: float = 0.3
    points: int = 16
    iou: float = 0.0
    stability: float = 0.0
    levels: int = 1
    tiles: int = 4


@dataclass(frozen=True)
class BatchSpec:
    """A job as the user wants it.

    Attributes:
        task: what is done.
        rasters: with which ones.
        model: base model.
        adapter: path of an adapter's file; empty for the base alone.
        area: polygons to which the work is limited; no path: the whole rasters.
        prompts: of PROMPTS: points, boxes or polygons, each one object; attributes are carried over.
        class_field: attribute of the prompts with the class; empty for none.
        class_name: value of the attribute ``class`` where there is no field and no adapter that knows classes.
        outputs: what is written.
        options: how it is done.
    """

    task: BatchTask
    rasters: BatchRasters
    model: str = "tiny"
    adapter: str = ""
    area: VectorSource = VectorSource()
    prompts: VectorSource = VectorSource()
    class_field: str = ""
    class_name: str = ""
    outputs: BatchOutputs = BatchOutputs()
    options: BatchOptions = BatchOptions()


@dataclass(frozen=True)
class EstimateParams:
    """Ask what a job would take.

    Attributes:
        spec: as the user wants it.
        measure: time a few real tiles (some seconds); False: only count, at once.
    """

    spec: BatchSpec
    measure: bool = True


@dataclass(frozen=True)
class BatchEstimate:
    """What a job would take.

    Attributes:
        rasters: that can be used, and
        failed: that cannot, each as ``name: why``.
        units: of work, and
        tiles: in them (of PROMPTS: objects).
        seconds: of the whole job; negative where it was not measured.
        disk: bytes of job file and outputs, roughly, and of EMBEDDINGS in the store.
        disk_free: bytes free where the job file goes (of EMBEDDINGS: where the store is).
        device: in use.
        problem: why this job cannot be started, a sentence; empty when it can.
        notes: what the user should know, as sentences.
    """

    rasters: int
    failed: tuple[str, ...]
    units: int
    tiles: int
    seconds: float = -1.0
    disk: int = 0
    disk_free: int = 0
    device: str = ""
    problem: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchRunParams:
    """Do a job, or go on with one.

    Attributes:
        job: path of the job file, ``*.samjob``.
        spec: what is to be done; makes the file, which must not exist. None: resume the job in the file; of a finished
            one the outputs are made again.
        outputs: of resuming: write these instead of the ones that the job names; None to keep those.
        root: of resuming: folder where the rasters are now, if not where they were or beside the job file.
        scheduler: address of a Dask scheduler; empty: work in this process.
    """

    job: str
    spec: Optional[BatchSpec] = None
    outputs: Optional[BatchOutputs] = None
    root: str = ""
    scheduler: str = ""


@dataclass(frozen=True)
class RasterProgress:
    """One raster of a job.

    Attributes:
        name: of the raster, without its folder.
        state: where it is.
        tiles: in it (of PROMPTS: objects), and
        done: of them.
        skipped: of the done ones: had no data.
        objects: so far, before joining across units.
        problem: why it cannot be used, or what went wrong in part of it; empty.
        output: of MAP: path of its class map, once written.
    """

    name: str
    state: BatchState
    tiles: int = 0
    done: int = 0
    skipped: int = 0
    objects: int = 0
    problem: str = ""
    output: str = ""


@dataclass(frozen=True)
class BatchStatusParams:
    """Ask how the job in a file is doing; answered while the model is busy."""

    job: str


@dataclass(frozen=True)
class BatchStatus:
    """How a job is doing.

    Attributes:
        job: path of its file.
        task: what is done.
        state: where it is.
        units: of work, and
        units_done: of them.
        tiles: in all (of PROMPTS: objects), and
        done: of them.
        objects: so far; of a finished job those written.
        rate: tiles per second in this run; 0 where not known yet.
        seconds_left: negative where not known yet.
        rasters: each one, in order.
        outputs: paths written.
        notes: what the user should know, as sentences.
    """

    job: str
    task: BatchTask
    state: BatchState
    units: int = 0
    units_done: int = 0
    tiles: int = 0
    done: int = 0
    objects: int = 0
    rate: float = 0.0
    seconds_left: float = -1.0
    rasters: tuple[RasterProgress, ...] = ()
    outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchResult:
    """What came of a job.

    Attributes:
        status: as of ``batch/status``, with the outputs and every raster's state: the summary.
        seconds: of this run.
        command: command line that resumes it, or makes the outputs again.
    """

    status: BatchStatus
    seconds: float
    command: str
