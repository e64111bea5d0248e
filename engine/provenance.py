"""What a polygon's attributes say about how it was made. Standard library only; QGIS and the command line share it.

Keep it, like all that QGIS imports, to Python 3.9.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from urllib.parse import unquote


class FieldType(Enum):
    """What a field holds, for each side to put into its own types."""

    TEXT = "text"
    NUMBER = "number"
    TIME = "time"
    FLAG = "flag"


CLASS = "class"

FIELDS: dict[str, FieldType] = {
    CLASS: FieldType.TEXT,
    "score": FieldType.NUMBER,
    "area": FieldType.NUMBER,
    "model": FieldType.TEXT,
    "adapter": FieldType.TEXT,
    "prompt": FieldType.TEXT,
    "raster": FieldType.TEXT,
    "bands": FieldType.TEXT,
    "time": FieldType.TIME,
    "reviewed": FieldType.FLAG,
}
"""The attributes in their order: names of at most ten letters, as Shapefiles need. ``area`` is in m², ``time`` is UTC;
what is unknown (no class, no adapter) is NULL."""

HIDDEN = "***"

_FILE_DRIVERS = frozenset(
    {"BAG", "DERIVED_SUBDATASET", "GPKG", "GTIFF_DIR", "HDF4", "HDF4_EOS", "HDF4_SDS", "HDF5", "JP2", "NETCDF"}
    | {"NITF_IM", "SENTINEL2_L1B", "SENTINEL2_L1C", "SENTINEL2_L1C_TILE", "SENTINEL2_L2A", "ZARR"}
)
"""Drivers whose prefixed names are made of a file and what in it; those of others may hold logins."""

_DRIVER = re.compile(r"([A-Za-z][A-Za-z0-9_]+):(?!//)")  # one letter is a Windows drive
_PARTS = re.compile(r'"([^"]*)"|([A-Za-z]:[\\/][^:"]*)|([^:"]+)')
_REMOTE = re.compile(r"^/vsi|://", re.IGNORECASE)
_LOGIN = re.compile(r"(?<=://)[^/\s@]+(?:@[^/\s@]+)*@")
_QUERY = re.compile(r"((?:://|/vsi)[^\s?\"'<>]*)\?[^\s\"'<>]+", re.IGNORECASE)
_SECRET = re.compile(
    r"\b(password|passwd|pwd|secret|token|access_token|signature|sig|api_?key)(\s*=\s*)('[^']*'|\"[^\"]*\"|[^\s&;,'\"]+)",
    re.IGNORECASE,
)


def prompt_kind(*, points: bool, box: bool) -> str:
    """Return the kind of prompt: ``point``, ``box`` or ``box+point``; empty without any.

    Args:
        points: there are points.
        box: there is a box.
    """
    return "+".join([*(["box"] if box else []), *(["point"] if points else [])])


def bands_text(bands: Iterable[int]) -> str:
    """Return the numbers of the bands that the model saw, for example ``4,3,2``.

    Args:
        bands: counted from 1, in the order red, green, blue.
    """
    return ",".join(str(band) for band in bands)


def raster_name(uri: str) -> str:
    """Return the part of a path or GDAL URI that names the raster.

    Attributes travel with the data, so folders of this machine, logins and signatures of web addresses are left out.

    Args:
        uri: path, URL or GDAL URI.

    Returns:
        ``scene.tif``; ``NETCDF:scene.nc:band`` for a part of a file; the driver's name for databases and services.
    """
    text = uri.strip()
    if text.startswith(("<", "{")):  # a dataset described in place of a name
        found = re.match(r"<\s*(\w+)", text)
        return found.group(1) if found else "JSON"
    driver = _DRIVER.match(text)
    if driver is not None:
        name = driver.group(1)
        if name.upper() not in _FILE_DRIVERS:
            return name
        parts = ["".join(groups) for groups in _PARTS.findall(text[driver.end() :])]
        return ":".join([name, *(found for found in map(_last_part, parts) if found)])
    if re.match(r"\w+=", text):  # a data source of a QGIS provider: keys and values, perhaps a password
        return "service"
    return _last_part(text)


def _last_part(path: str) -> str:
    text = path.split("|", 1)[0]
    if _REMOTE.search(text):
        text = re.split(r"[?#]", _LOGIN.sub("", unquote(text)), maxsplit=1)[0]
    return text.replace("\\", "/").rstrip("/").rpartition("/")[2].strip("\"'{} ")


def without_secrets(text: str) -> str:
    """Hide logins and signatures in a text that is shown, logged or copied.

    Args:
        text: may hold URLs and connection strings anywhere.

    Returns:
        The text with user names, passwords and queries of URLs, and values of ``password=`` and the like, replaced.
    """
    hidden = _QUERY.sub(rf"\1?{HIDDEN}", _LOGIN.sub(f"{HIDDEN}@", text))
    return _SECRET.sub(rf"\1\2{HIDDEN}", hidden)
