"""Every message between QGIS and the engine, as plain dataclasses. Standard library only; both sides import it.

Keep it, like all that QGIS imports, to Python 3.9, which the QGIS 3.40 of some platforms brings.

The wire is JSON-RPC 2.0 with the framing (``Content-Length`` header) and the ``$/progress`` and ``$/cancelRequest``
notifications of the Language Server Protocol. Coordinates in messages are in the raster layer's own CRS (its columns
and rows with y pointing up where it has no CRS), never in pixels and never in the project's CRS.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

PROTOCOL_VERSION = 1
"""Raised whenever a message changes its meaning; both sides must agree."""

CANCELLED_CODE = -32800
"""JSON-RPC error code of a cancelled request, as in the Language Server Protocol."""

FAILED_CODE = -32000
"""JSON-RPC error code of every :class:`~samtune.models.errors.SamTuneError`; ``data`` is a :class:`Failure`."""


class DeadlineClass(Enum):
    """How long a request may take.

    INTERACTIVE requests have an absolute limit. LONG requests have none, but the engine must show signs of life.
    """

    INTERACTIVE = "interactive"
    LONG = "long"


class Method(str, Enum):
    """The names of requests and notifications."""

    INITIALIZE = "initialize"
    INFO = "info"
    MODELS = "models/list"
    DOWNLOAD = "models/download"
    IMPORT = "models/import"
    WARM_UP = "models/warmUp"
    OPEN = "raster/open"
    PREPARE = "crop/prepare"
    SEGMENT = "segment"
    CLEAR_STORE = "store/clear"
    CHECK_ADAPTER = "adapters/check"
    ADD_ADAPTER = "adapters/add"
    KEEP_ADAPTER = "adapters/keep"
    DESCRIBE_ADAPTER = "adapters/describe"
    COMPARE_ADAPTERS = "adapters/compare"
    TUNE_INSPECT = "tune/inspect"
    TUNE_PLAN = "tune/plan"
    TUNE_RUN = "tune/run"
    TUNE_WATCH = "tune/watch"
    TUNE_CONTROL = "tune/control"
    FIND = "area/find"
    MAP = "area/map"
    SUGGEST = "area/suggest"
    BATCH_ESTIMATE = "batch/estimate"
    BATCH_RUN = "batch/run"
    BATCH_STATUS = "batch/status"
    CHANGE = "change/detect"
    CANCEL = "$/cancelRequest"
    PROGRESS = "$/progress"
    HEARTBEAT = "$/heartbeat"


class Empty(Enum):
    """Why a segmentation has no outline.

    NONE: it has one. NOTHING: the model finds no object at the prompts. COLD: the crop's embedding is not in the store
    and the request said ``cached_only``.
    """

    NONE = "none"
    NOTHING = "nothing"
    COLD = "cold"


@dataclass(frozen=True)
class EngineSettings:
    """What QGIS (or the command line) decides for an engine. Empty strings and zeros mean the engine's own defaults.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        threads: CPU threads for the model; 0 leaves one core to the rest of the machine, where it does not give way.
        store_dir: folder of the embedding store's disk tier.
        store_bytes: size cap of the disk tier.
        models_dir: folder of downloaded and imported weight files.
        background: this engine does long work beside another one that answers clicks: it gives way to all else.
    """

    device: str = "auto"
    threads: int = 0
    store_dir: str = ""
    store_bytes: int = 4 * 1024**3
    models_dir: str = ""
    background: bool = False


@dataclass(frozen=True)
class InitializeParams:
    """First request on every connection."""

    protocol: int
    client: str
    settings: EngineSettings


@dataclass(frozen=True)
class EngineInfo:
    """Answer to ``initialize`` and ``info``.

    Attributes:
        device: device in use, as torch names it.
        device_reason: why this device, in a sentence for the user.
        versions: package name to version.
        store_bytes: size of the disk tier now.
        log_file: where the engine writes its log; empty when it logs to stderr only.
        warnings: what does not work as it should, as sentences for the user (the store's folder cannot be used...).
    """

    protocol: int
    version: str
    python: str
    pid: int
    device: str
    device_reason: str
    threads: int
    versions: dict[str, str]
    models_dir: str
    store_dir: str
    store_bytes: int
    log_file: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelInfo:
    """One base model of the registry.

    Attributes:
        present: whether its weight file is on this machine.
        size_bytes: of the weight file as published.
        input_size: side of the square the model sees, pixels.
        description: one sentence for the user: when to choose it.
    """

    name: str
    title: str
    description: str
    present: bool
    size_bytes: int
    input_size: int
    licence: str
    url: str = ""
    path: str = ""


@dataclass(frozen=True)
class ModelList:
    """Answer to ``models/list``."""

    models: tuple[ModelInfo, ...]


@dataclass(frozen=True)
class DownloadParams:
    """Fetch a published weight file.

    Attributes:
        mirror: base URL used in place of the published one; empty for the published one.
        proxy: proxy URL, with user and password where needed; empty for none.
    """

    model: str
    mirror: str = ""
    proxy: str = ""


@dataclass(frozen=True)
class ImportParams:
    """Take a weight file that the user already has ("load from file")."""

    model: str
    path: str


@dataclass(frozen=True)
class WarmUpParams:
    """Load a model and run it once, so that the first click does not pay for it."""

    model: str


@dataclass(frozen=True)
class RasterSpec:
    """A raster and how it is turned into what the model sees.

    Attributes:
        uri: path or GDAL URI.
        bands: one or three band numbers, counted from 1, shown to the model as RGB; empty for the raster's defaults.
        stretch: (low, high) per band in raster values; empty for robust percentiles of the whole layer.
    """

    uri: str
    bands: tuple[int, ...] = ()
    stretch: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class RasterInfo:
    """Answer to ``raster/open``: the raster as found, and the spec with its defaults filled in.

    Attributes:
        spec: bands and stretch are complete; use it in later requests, so that the embedding store hits.
        fingerprint: changes when the file changes.
        crs_wkt: empty when the raster has no CRS.
        transform: GDAL order (x0, dx/dcol, dx/drow, y0, dy/dcol, dy/drow), pixel corner to raster CRS.
        pixel_size: side of the square of a pixel's area, raster CRS units.
        max_level: coarsest useful level; one crop then covers the raster.
        notes: things the user should know, as sentences (no CRS, no overviews, palette...).
    """

    spec: RasterSpec
    fingerprint: str
    width: int
    height: int
    band_names: tuple[str, ...]
    dtype: str
    crs_wkt: str
    transform: tuple[float, float, float, float, float, float]
    pixel_size: float
    min_level: int
    max_level: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """One point.

    Attributes:
        x: easting in the raster's CRS.
        y: northing in the raster's CRS.
        positive: True for "this belongs to the object", False for "this does not".
    """

    x: float
    y: float
    positive: bool = True


@dataclass(frozen=True)
class OutlineOptions:
    """How logits become a polygon. Lengths in raster CRS units, areas in their square.

    Where the CRS is geographic, a length is the side of a square of that many square degrees, in every direction.

    Attributes:
        simplify: largest distance by which simplification may move the outline; 0 keeps every vertex.
        min_hole: holes with less area are filled, unless a negative click lies in them.
        min_part: parts with less area are dropped, unless a positive click lies in them or the object would vanish.
    """

    simplify: float = 0.0
    min_hole: float = 0.0
    min_part: float = 0.0


@dataclass(frozen=True)
class SegmentParams:
    """Segment one object.

    The request is stateless: it holds all prompts in the order they were given. The engine remembers the logits of each
    prefix, so a correction costs one decoder run and an undo none.

    Attributes:
        level: crop level; one pixel of the model's input is ``2 ** level`` raster pixels wide.
        points: in the order given.
        box: corners of a box drawn on the map, any number of points, in the raster's CRS; empty for no box. It is one
            prompt, given before the points.
        cached_only: answer :attr:`Empty.COLD` rather than encode (hover).
        adapter: path of the file of an adapter tuned on the model; empty for the model as it is.
        second: path or GDAL URI of the second raster, for adapters that were tuned with one; empty for none.
    """

    raster: RasterSpec
    model: str
    level: int
    points: tuple[Prompt, ...] = ()
    box: tuple[tuple[float, float], ...] = ()
    outline: OutlineOptions = OutlineOptions()
    cached_only: bool = False
    adapter: str = ""
    second: str = ""


@dataclass(frozen=True)
class SegmentResult:
    """One object's outline, or why there is none.

    Attributes:
        empty: why there is no outline.
        wkb: hexadecimal WKB of a valid MultiPolygon in the raster's CRS; empty string when there is none.
        score: IoU that the model predicts for its mask, 0 to 1.
        area: of the polygon, square raster CRS units.
        touches_edge: the object reaches the border of the crop (not of the raster): a coarser level would show more.
        level: the level used.
        crop: four corners of the crop in the raster's CRS.
        source: where the embedding came from: ``memory``, ``disk`` or ``encoder``; empty when COLD.
        seconds: time spent per step, for the diagnostics and the benchmarks.
        message: one sentence for the user when there is no outline.
        adapter: name of the adapter that took part, for the attribute; empty for none.
        notes: what speaks against using this adapter here (other bands, another ground resolution), as sentences.
    """

    empty: Empty
    wkb: str
    score: float
    area: float
    touches_edge: bool
    level: int
    crop: tuple[tuple[float, float], ...]
    source: str
    seconds: dict[str, float]
    message: str = ""
    adapter: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PrepareParams:
    """Encode the crop around a place, so that hovering and clicking there is fast.

    Attributes:
        thumbnail: side in pixels of the picture to send back; 0 for none.
        cached_only: do not encode; only answer with the crop and its thumbnail.
        adapter: path of the file of an adapter tuned on the model; empty for the model as it is.
        second: path or GDAL URI of the second raster, for adapters that were tuned with one; empty for none.
    """

    raster: RasterSpec
    model: str
    level: int
    x: float
    y: float
    thumbnail: int = 0
    cached_only: bool = False
    adapter: str = ""
    second: str = ""


@dataclass(frozen=True)
class PrepareResult:
    """The crop around a place.

    Attributes:
        crop: four corners in the raster's CRS.
        ready: the embedding is now in the store.
        thumbnail_png: base64 PNG of exactly what the model sees; empty when none was asked for.
        notes: what speaks against using this adapter here, as sentences.
    """

    level: int
    crop: tuple[tuple[float, float], ...]
    ready: bool
    source: str
    seconds: dict[str, float]
    thumbnail_png: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckAdapterParams:
    """Ask whether an adapter can be used on a raster, with :class:`SegmentParams`'s fields; loads it for that."""

    path: str
    model: str
    raster: RasterSpec
    level: int
    second: str = ""


@dataclass(frozen=True)
class AddAdapterParams:
    """Copy an adapter file into a folder of adapters, if it is one that fits the model."""

    path: str
    model: str
    folder: str


@dataclass(frozen=True)
class AdapterReport:
    """An adapter that can be used: its name and file, and what speaks against using it here, as sentences."""

    name: str
    path: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """Payload of ``$/progress``.

    Attributes:
        request: id of the request that it belongs to.
        fraction: 0 to 1, or negative when unknown.
        message: what is being done, for the user.
    """

    request: int
    fraction: float
    message: str


@dataclass(frozen=True)
class CancelParams:
    """Payload of ``$/cancelRequest``."""

    id: int


@dataclass(frozen=True)
class Heartbeat:
    """Payload of ``$/heartbeat``: the engine lives.

    Attributes:
        busy: id of the request being worked on, or 0.
        rss_bytes: memory in use by the engine process.
    """

    busy: int
    rss_bytes: int


@dataclass(frozen=True)
class Failure:
    """``data`` of a JSON-RPC error: a SamTune error by its class name, with its details."""

    kind: str
    details: str = ""


@dataclass(frozen=True)
class NoParams:
    """Parameters of a request that has none."""


@dataclass(frozen=True)
class Done:
    """Answer of a request that has nothing to tell."""

    message: str = ""
