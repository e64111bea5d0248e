"""The ground that a raster shows."""

from __future__ import annotations

import shapely
from shapely.geometry.base import BaseGeometry

from ..batch.features import moved
from ..crops import RasterFrame
from ..messages import RasterInfo


def ground_of(info: RasterInfo, crs_wkt: str) -> BaseGeometry:
    """Return the outline of a raster in a CRS.

    Args:
        info: the raster.
        crs_wkt: WKT; empty where unknown.
    """
    frame = RasterFrame(info.width, info.height, info.transform)
    edge = shapely.segmentize(shapely.box(0, 0, info.width, info.height), max(info.width, info.height) / 16)
    return moved(shapely.transform(edge, frame.to_map), info.crs_wkt, crs_wkt)
