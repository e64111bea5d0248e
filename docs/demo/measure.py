"""What is in the GeoPackage that the demonstration made, read anew from the file."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from qgis.core import QgsDistanceArea, QgsProject, QgsVectorLayer


def measure(path: Path) -> list[dict[str, object]]:
    """Return one entry per polygon, in the order of their making.

    Args:
        path: a GeoPackage with one layer named like the file.
    """
    layer = QgsVectorLayer(f"{path}|layername={path.stem}", "written", "ogr")
    if not layer.isValid():
        return []
    ground = QgsDistanceArea()
    ground.setSourceCrs(layer.crs(), QgsProject.instance().transformContext())
    ground.setEllipsoid("EPSG:7030")
    found = []
    for feature in layer.getFeatures():
        geometry = feature.geometry()
        found.append(
            {
                "prompt": feature["prompt"],
                "raster": feature["raster"],
                "model": feature["model"],
                "score": round(float(feature["score"]), 3),
                "area_m2": round(ground.measureArea(geometry), 2),
                "vertices": sum(1 for _ in geometry.vertices()),
                "valid": geometry.isGeosValid(),
                "crs": layer.crs().authid(),
            }
        )
    return found


def make_whole(path: Path) -> None:
    """Bring all changes into the file itself. QGIS keeps connections open for a while, and with them SQLite's journal.

    Args:
        path: a GeoPackage that nobody writes to any more; need not exist.
    """
    if path.is_file():
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
