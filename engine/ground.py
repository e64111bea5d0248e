"""How long the units of a CRS are on the ground, with the CRS as WKT."""

from __future__ import annotations

import functools
import math

import numpy as np
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from .crops import RasterFrame
from .messages import OutlineOptions, RasterInfo

_STEEPEST = 1e-3
"""Smallest ratio of a degree of longitude to one of latitude that is reckoned with: at the poles it is 0."""


@functools.lru_cache(maxsize=32)
def _radians_per_unit(crs_wkt: str) -> float:
    """Return the size of an angular unit; 0 where the coordinates are no angles."""
    if not crs_wkt:
        return 0.0
    try:
        crs = CRS.from_wkt(crs_wkt)
    except CRSError:
        return 0.0
    return float(crs.axis_info[0].unit_conversion_factor) if crs.is_geographic and crs.axis_info else 0.0


def aspect(crs_wkt: str, y: float) -> float:
    """Return how long a unit of x is on the ground compared to one of y.

    Args:
        crs_wkt: WKT; empty for none.
        y: northing or latitude of the place.

    Returns:
        The cosine of the latitude in a geographic CRS (never 0), 1 in every other.
    """
    radians = _radians_per_unit(crs_wkt)
    return max(math.cos(y * radians), _STEEPEST) if radians else 1.0


def metres_per_unit(crs_wkt: str, x: float, y: float) -> float:
    """Return how many metres a unit of a CRS is at a place: the mean of both axes, such that areas come out right.

    Args:
        crs_wkt: WKT; empty for none.
        x: easting or longitude.
        y: northing or latitude.

    Returns:
        Metres on the ellipsoid; 1 without a CRS, and where the CRS has no place on Earth.
    """
    if not crs_wkt:
        return 1.0
    crs = CRS.from_wkt(crs_wkt)
    geod = crs.get_geod()
    if crs.geodetic_crs is None or geod is None:
        return 1.0
    step = 1e-4 if crs.is_geographic else 10.0
    try:
        to_degrees = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
        lon, lat = to_degrees.transform([x, x + step, x], [y, y, y + step])
    except ProjError:
        return 1.0
    if not all(math.isfinite(value) for value in (*lon, *lat)):
        return 1.0
    _, _, lengths = geod.inv(lon[:1] * 2, lat[:1] * 2, lon[1:], lat[1:])
    return math.sqrt(lengths[0] * lengths[1]) / step


def outline_options(info: RasterInfo, simplify: float, min_hole: float, min_part: float) -> OutlineOptions:
    """Turn metres into units of a raster's CRS, as long as they are at its middle; pixels where it has no CRS.

    Args:
        info: of the raster.
        simplify: tolerance, metres.
        min_hole: least area of a hole, square metres.
        min_part: least area of a part, square metres.
    """
    frame = RasterFrame(info.width, info.height, info.transform)
    ((x, y),) = frame.to_map(np.array([[info.width / 2.0, info.height / 2.0]]))
    unit = metres_per_unit(info.crs_wkt, float(x), float(y))
    return OutlineOptions(simplify / unit, min_hole / unit**2, min_part / unit**2)
