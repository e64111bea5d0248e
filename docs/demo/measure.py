"""What is in the GeoPackage that the demonstration made, read anew from the file."""

from __future__ import annotations

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
