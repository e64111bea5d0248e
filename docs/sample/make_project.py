"""Write sample.qgs beside this file: `/usr/bin/python3 docs/sample/make_project.py` (no display needed).

The project's CRS is web mercator, while the rasters are in UTM: reprojection on the fly is what users
have, so it is what the demonstration shows.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import (
    Qgis,
    QgsApplication,
    QgsBookmark,
    QgsContrastEnhancement,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsMultiBandColorRenderer,
    QgsProject,
    QgsRasterLayer,
    QgsRasterMinMaxOrigin,
    QgsReferencedRectangle,
)

HERE = Path(__file__).resolve().parent
LAYERS = (
    ("Lakes and fields, Raleigh (Landsat 7)", "landsat_raleigh.tif", (4, 3, 2)),
    ("Trees, Ordway-Swisher (NEON)", "neon_osbs.tif", (1, 2, 3)),
)


def add_layer(project: QgsProject, title: str, name: str, bands: tuple[int, int, int]) -> QgsRasterLayer:
    """Add one raster, stretched between its 2nd and 98th percentiles."""
    layer = QgsRasterLayer(str(HERE / name), title)
    if not layer.isValid():
        raise SystemExit(f"{name} cannot be read")
    layer.setRenderer(QgsMultiBandColorRenderer(layer.dataProvider(), *bands))
    layer.setContrastEnhancement(
        QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum,
        QgsRasterMinMaxOrigin.Limits.CumulativeCut,
    )
    project.addMapLayer(layer)
    return layer


def main() -> None:
    """Make the project and write it."""
    application = QgsApplication([], GUIenabled=False)
    application.initQgis()
    project = QgsProject.instance()
    project.setFilePathStorage(Qgis.FilePathType.Relative)
    project.setTitle("SamTune sample")
    project.setCrs(QgsCoordinateReferenceSystem("EPSG:3857"))
    layers = [add_layer(project, *entry) for entry in reversed(LAYERS)]
    for layer in layers:
        to_project = QgsCoordinateTransform(layer.crs(), project.crs(), project)
        extent = QgsReferencedRectangle(to_project.transformBoundingBox(layer.extent()), project.crs())
        bookmark = QgsBookmark()
        bookmark.setName(layer.name())
        bookmark.setExtent(extent)
        project.bookmarkManager().addBookmark(bookmark)
        project.viewSettings().setDefaultViewExtent(extent)
    metadata = project.metadata()
    metadata.setAuthor("SamTune")
    project.setMetadata(metadata)
    (HERE / "sample.qgs").unlink(missing_ok=True)  # or QGIS keeps a copy of the old one
    written = HERE / "sample.qgs"
    project.write(str(written))
    # Not who made it, and no link to the (empty) style database that QGIS attaches.
    text = re.sub(r' saveUser(Full)?="[^"]*"', "", written.read_text(encoding="utf-8"))
    written.write_text(re.sub(r'projectStyleId="[^"]*"', 'projectStyleId=""', text), encoding="utf-8")
    # Nothing is attached but an empty style database, and the rasters' statistics are in the project.
    for leftover in ("sample_attachments.zip", *(f"{name}.aux.xml" for _, name, _ in LAYERS)):
        (HERE / leftover).unlink(missing_ok=True)
    application.exitQgis()


if __name__ == "__main__":
    main()
