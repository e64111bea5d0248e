"""Fixtures of the tests that run in QGIS's Python: an application, a canvas, layers in other CRSs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import QSize

from samtune.plugin.session import Session


@pytest.fixture(scope="session")
def qgis_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QgsApplication]:
    """The running QGIS where the tests run inside one; otherwise an application of our own, with a throw-away profile."""
    running = QgsApplication.instance()
    if running is not None:
        yield running
        return
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    application = QgsApplication([], True, str(tmp_path_factory.mktemp("profile")))
    QgsApplication.initQgis()
    yield application
    QgsProject.instance().clear()
    QgsApplication.exitQgis()


@pytest.fixture
def project(qgis_app: QgsApplication) -> Iterator[QgsProject]:
    project = QgsProject.instance()
    project.clear()
    yield project
    project.clear()


@pytest.fixture
def canvas(qgis_app: QgsApplication) -> Iterator[QgsMapCanvas]:
    """A visible canvas of 400 x 400 pixels in EPSG:3857."""
    canvas = QgsMapCanvas()
    canvas.resize(QSize(400, 400))
    canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:3857"))
    canvas.show()
    yield canvas
    canvas.deleteLater()


@pytest.fixture
def session(qgis_app: QgsApplication) -> Session:
    return Session()


def write_raster(path: Path, *, bands: int = 3, data_type: str = "Byte", crs: str = "EPSG:32617") -> Path:
    """Write a small GeoTIFF with a gradient: 100 x 80 pixels of 2 units, upper left corner at 500000, 3300000."""
    from osgeo import gdal, osr

    gdal.UseExceptions()
    kind = {"Byte": gdal.GDT_Byte, "UInt16": gdal.GDT_UInt16}[data_type]
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), 100, 80, bands, kind)
    dataset.SetGeoTransform((500000.0, 2.0, 0.0, 3300000.0, 0.0, -2.0))
    if crs:
        reference = osr.SpatialReference()
        reference.SetFromUserInput(crs)
        dataset.SetProjection(reference.ExportToWkt())
    for band in range(1, bands + 1):
        row = bytes((column * 2 + band) % 256 for column in range(100))
        raster_band = dataset.GetRasterBand(band)
        raster_band.WriteRaster(0, 0, 100, 80, row * 80, 100, 80, gdal.GDT_Byte)
    dataset = None
    return path


@pytest.fixture
def raster_layer(project: QgsProject, tmp_path: Path) -> QgsRasterLayer:
    """An RGB layer in UTM zone 17N, in the project."""
    layer = QgsRasterLayer(str(write_raster(tmp_path / "scene.tif")), "scene")
    project.addMapLayer(layer)
    return layer


@pytest.fixture
def polygon_layer(project: QgsProject) -> QgsVectorLayer:
    """An empty memory layer of multipolygons in EPSG:4326 with every SamTune field, in the project."""
    fields = (
        "field=class:string&field=score:double&field=area:double&field=model:string&field=adapter:string"
        "&field=prompt:string&field=raster:string&field=bands:string&field=time:datetime&field=reviewed:bool"
    )
    layer = QgsVectorLayer(f"MultiPolygon?crs=EPSG:4326&{fields}", "objects", "memory")
    project.addMapLayer(layer)
    return layer


def zoom_to(canvas: QgsMapCanvas, rectangle: QgsRectangle) -> None:
    """Show a rectangle of the canvas's CRS."""
    canvas.setExtent(rectangle)
    canvas.refresh()
