"""What can be said of a raster before any pixel is read: place, files, fingerprint, what speaks against using it."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from ..models.errors import RasterError
from .crops import RasterFrame
from .raster_bands import BandChoice

GDAL_OPTIONS: dict[str, int] = {
    # rasterio takes bytes here, whatever GDAL does; the default, a share of the memory, is too much beside a model
    "GDAL_CACHEMAX": 256 * 1024**2,
    # without these a server that is silent would hang the engine
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_TIMEOUT": 30,
    "GDAL_HTTP_MAX_RETRY": 2,
}
"""Bytes, seconds and times."""

LARGE = 8192
"""Side in pixels from which missing overviews are worth a note."""


def layer_transform(dataset: DatasetReader) -> tuple[float, float, float, float, float, float]:
    """Return the transform under which QGIS shows a raster, in GDAL order.

    QGIS gives a raster without georeference the coordinates x = column, y = -row.

    Args:
        dataset: an open raster.

    Returns:
        (x0, dx/dcol, dx/drow, y0, dy/dcol, dy/drow).
    """
    if dataset.transform.is_identity:
        return (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    x0, a, b, y0, d, e = dataset.transform.to_gdal()
    return (x0, a, b, y0, d, e)


def refuse_unusable(dataset: DatasetReader) -> None:
    """Refuse rasters of which no picture can be made, or that cannot be placed.

    Args:
        dataset: an open raster.

    Raises:
        RasterError: with the way out in words.
    """
    if dataset.count == 0:
        inside = ", ".join(dataset.subdatasets[:3])
        raise RasterError(
            "This file holds no raster itself" + (" but several inside it: choose one of those." if inside else "."),
            inside,
        )
    if any(name.startswith("complex") for name in dataset.dtypes):
        raise RasterError(
            "The raster holds complex numbers, of which no picture can be made. Compute amplitude or phase first "
            "(Raster Calculator), then use that layer.",
            f"data types {sorted(set(dataset.dtypes))}",
        )
    if dataset.transform.is_identity and dataset.gcps[0]:
        raise RasterError(
            "The raster is located by ground control points only. Warp it first (Raster > Projections > Warp), "
            "then use the result."
        )


def notes(dataset: DatasetReader, choice: BandChoice) -> Iterator[str]:
    """Yield what the user should know about a raster, as sentences.

    Args:
        dataset: an open raster.
        choice: its bands.
    """
    yield from choice.notes
    if dataset.transform.is_identity:
        yield "The raster is not georeferenced: lengths and areas are in pixels."
    elif not dataset.crs:
        yield "The raster has no CRS: polygons get none either. Assign one in the layer's properties if you know it."
    if max(dataset.width, dataset.height) > LARGE and not dataset.overviews(choice.bands[0]):
        yield (
            "The raster is large and has no overviews (pyramids): coarse levels are slow. "
            "Build them with Raster > Miscellaneous > Build Overviews."
        )


def local_files(dataset: DatasetReader) -> tuple[Path, ...]:
    """List the files that a raster consists of: a mosaic's parts and external overviews, too.

    Statistics that QGIS leaves beside a raster (``.aux.xml``) are left out: they change nothing in it. For a file in an
    archive the archive is listed.

    Args:
        dataset: an open raster.

    Returns:
        Paths; of what lies on a server, as GDAL calls it.
    """
    return tuple(_on_disk(name) for name in dataset.files if not name.endswith(".aux.xml"))


def _on_disk(name: str) -> Path:
    inner = name
    while inner.startswith("/vsi") and inner.count("/") > 1:
        inner = inner.split("/", 2)[2]
    return next((path for path in (Path(inner), *Path(inner).parents) if path.is_file()), Path(name))


def stamps(files: tuple[Path, ...]) -> tuple[tuple[str, int, int], ...]:
    """Read what changes when a file does.

    Args:
        files: as :func:`local_files` gives them.

    Returns:
        Path, size in bytes and modification time in nanoseconds of each; -1 for both where there is no such local file.
    """
    found = []
    for path in files:
        try:
            status = path.stat()
            found.append((str(path), status.st_size, status.st_mtime_ns))
        except OSError:
            found.append((str(path), -1, -1))
    return tuple(found)


def fingerprint(dataset: DatasetReader, files: tuple[Path, ...], frame: RasterFrame) -> str:
    """Hash paths, sizes and times of every file of a raster, and its metadata; never its pixels.

    Args:
        dataset: an open raster.
        files: as :func:`local_files` gives them.
        frame: size and georeference.

    Returns:
        64 hexadecimal digits.
    """
    absolute = tuple(path.resolve() if path.exists() else path for path in files)
    facts = (
        # which of the rasters in a container; a plain path is among the files, and relative or absolute is all the same
        "" if Path(dataset.name).exists() else dataset.name,
        dataset.driver,
        stamps(absolute),
        (frame.width, frame.height, frame.transform),
        dataset.dtypes,
        dataset.nodatavals,
        dataset.crs.to_wkt() if dataset.crs else "",
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def changed(uri: str, files: tuple[Path, ...]) -> RasterError:
    """Make the error for a raster whose files are not those that were opened.

    Args:
        uri: path or URI.
        files: as :func:`local_files` gives them.

    Returns:
        The error, to be raised.
    """
    if any(size < 0 for _, size, _ in stamps(files[:1])):
        return RasterError(f"The raster file {Path(uri).name} is gone. Put it back or remove the layer.", uri)
    return RasterError(f"The raster file {Path(uri).name} changed while it was open. Try again.", uri)


@contextmanager
def gdal(uri: str, *, reading: bool = False) -> Iterator[None]:
    """Run GDAL calls with our settings; turn its errors into ours.

    Args:
        uri: of the raster, for the messages.
        reading: the raster was opened before.

    Raises:
        RasterError: GDAL failed.
    """
    try:
        with rasterio.Env(**GDAL_OPTIONS), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield
    except (RasterioError, OSError, ValueError) as error:  # ValueError: metadata that is no text
        name = Path(uri).name or uri
        details = f"{uri}: {error}" + (f" ({error.__cause__})" if error.__cause__ else "")
        if reading:
            text = f"The raster {name} cannot be read here: the file is damaged, or its server did not answer."
        elif "://" not in uri and not uri.startswith("/vsi") and ":" not in uri[2:] and not Path(uri).exists():
            text = f"There is no file {uri}. Check the path."
        else:
            text = f"{name} cannot be opened as a raster: the file is damaged, or of a kind that GDAL does not read."
        raise RasterError(text, details) from error
