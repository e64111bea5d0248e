"""The rasters of a job: found in folders, found again after a move, and known by their content."""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from ...models.errors import RasterError
from ..batch_messages import BatchRasters
from ..messages import RasterInfo, RasterSpec
from ..raster_source import RasterSource
from .items import JobRaster

WHOLE_BYTES = 16 * 1024**2
"""Files up to this size are hashed as a whole; larger ones by pieces, spread evenly, and their ends."""

PIECES = 64
PIECE_BYTES = 64 * 1024
MOST_FILES = 256
"""A mosaic's first files that are hashed; of the others the sizes count."""


def expand(wanted: BatchRasters, beside: Path) -> list[JobRaster]:
    """List the rasters of a job.

    Args:
        wanted: files, URIs and folders.
        beside: folder of the job file.

    Returns:
        Each raster once, those of a folder sorted by name.

    Raises:
        RasterError: there is none.
    """
    uris = list(dict.fromkeys(uri for path in wanted.paths for uri in _of(path, wanted.pattern)))
    if not uris:
        raise RasterError(
            f"There is no raster named {wanted.pattern} in {', '.join(wanted.paths) or 'nothing'}. Check folder and "
            "filter."
        )
    local = [Path(uri) for uri in uris if _is_local(uri)]
    base = os.path.commonpath([path.parent for path in local]) if _one_drive(local) else ""
    rasters = []
    for number, uri in enumerate(uris, start=1):
        raster = JobRaster(number, uri, second=_second(wanted.second, uri))
        if _is_local(uri) and base:
            raster = replace(raster, inside=_relative(uri, base), beside=_relative(uri, str(beside.resolve())))
        rasters.append(raster)
    return rasters


def _of(path: str, pattern: str) -> Iterator[str]:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        yield str(folder.resolve()) if folder.exists() else path
        return
    patterns = [part.strip().lower() for part in pattern.split(",") if part.strip()]
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if any(fnmatch.fnmatchcase(name.lower(), part) for part in patterns):
                yield str((Path(parent) / name).resolve())


def _is_local(uri: str) -> bool:
    return Path(uri).is_absolute() and not uri.startswith("/vsi")


def _one_drive(paths: list[Path]) -> bool:
    return bool(paths) and len({path.drive for path in paths}) == 1


def _relative(path: str, start: str) -> str:
    if Path(path).drive != Path(start).drive:
        return ""
    return Path(os.path.relpath(path, start)).as_posix()


def _second(second: str, uri: str) -> str:
    """Return the second raster of a first one: the only one there is, or that of the same name in a folder."""
    if not second:
        return ""
    folder = Path(second).expanduser()
    if folder.is_dir():
        return str((folder / Path(uri).name).resolve())
    return str(folder.resolve()) if folder.exists() else second


def place_of(raster: JobRaster, job: Path, root: str = "") -> str:
    """Find a raster again: under a root, beside the job file, or where it was.

    Args:
        raster: of the job.
        job: path of the job file.
        root: folder that takes the place of the one that held all rasters; empty for none.

    Returns:
        Path or URI; where the file is nowhere, the one that it had.
    """
    places = []
    if root and raster.inside:
        places.append(Path(root).expanduser() / raster.inside)
    if raster.beside:
        places.append(job.resolve().parent / raster.beside)
    if raster.inside:
        places.append(Path(raster.uri))
    return next((str(place.resolve()) for place in places if place.exists()), raster.uri)


def look_at(uri: str, bands: tuple[int, ...], stretch: tuple[tuple[float, float], ...]) -> tuple[RasterInfo, str]:
    """Open a raster and say what it is.

    Args:
        uri: path or URI.
        bands: shown to the model; empty for its defaults.
        stretch: per band; empty for its own.

    Returns:
        Its facts, and the fingerprint of its content.

    Raises:
        RasterError: it cannot be used.
    """
    source = RasterSource(RasterSpec(uri, bands, stretch))
    try:
        return source.info, content_fingerprint(source.info, source.files)
    finally:
        source.close()


def content_fingerprint(info: RasterInfo, files: Iterable[Path]) -> str:
    """Hash what a raster holds, not where it lies or when it was written, so that a copy is the same raster.

    Args:
        info: of the raster.
        files: that it consists of.

    Returns:
        64 hexadecimal digits.
    """
    facts = (info.width, info.height, info.transform, info.dtype, info.crs_wkt, len(info.band_names))
    digest = hashlib.sha256(repr(facts).encode())
    for index, path in enumerate(files):
        if not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(str(size).encode())
        # of a mosaic the first file lists the others, with their paths, which may change
        if index < MOST_FILES and path.suffix.lower() != ".vrt":
            _hash_pieces(digest, path, size)
    return digest.hexdigest()


def _hash_pieces(digest: hashlib._Hash, path: Path, size: int) -> None:
    with path.open("rb") as stream:
        if size <= WHOLE_BYTES:
            digest.update(stream.read())
            return
        for piece in range(PIECES):
            stream.seek((size - PIECE_BYTES) * piece // (PIECES - 1))
            digest.update(stream.read(PIECE_BYTES))


def usable_together(info: RasterInfo, crs_wkt: str, *, first: bool) -> None:
    """Refuse a raster whose objects cannot go into one layer with those of the others.

    Args:
        info: of the raster.
        crs_wkt: of the layer, from the first usable raster.
        first: this is that one.

    Raises:
        RasterError: one of them has a CRS and the other has none.
    """
    if not first and bool(info.crs_wkt) != bool(crs_wkt):
        raise RasterError(
            "The raster has no CRS, while others of the job have one. Assign it one (Raster > Projections > Assign), "
            "then resume the job."
            if crs_wkt
            else "The raster has a CRS, while the first of the job has none. Process them in jobs of their own."
        )
