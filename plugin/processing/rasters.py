"""From a raster parameter to what the engine opens. Layers that only QGIS can read are written to a GeoTIFF first."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransformContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsRasterBlockFeedback,
    QgsRasterDataProvider,
    QgsRasterFileWriter,
    QgsRasterInterface,
    QgsRasterLayer,
    QgsRasterPipe,
)
from qgis.PyQt.QtCore import QCoreApplication

from ...models.errors import RasterError
from ..layers import source_uri, unusable_reason

translate = QCoreApplication.translate


@dataclass(frozen=True)
class RasterInput:
    """A raster layer, taken on the main thread, to be used in another one.

    Attributes:
        name: of the layer.
        uri: what the engine opens; empty when the layer must be exported first.
        crs: of the layer; may be invalid.
        bands: how many it has.
        provider: own copy of the layer's provider where it must be exported; else None.
    """

    name: str
    uri: str
    crs: QgsCoordinateReferenceSystem
    bands: int
    provider: QgsRasterDataProvider | None = None


def raster_input(layer: QgsRasterLayer) -> RasterInput:
    """Describe a layer; on the main thread.

    Raises:
        RasterError: neither the engine nor an export can read it.
    """
    reason = unusable_reason(layer)
    if not reason:
        return RasterInput(layer.name(), source_uri(layer), layer.crs(), layer.bandCount())
    provider = layer.dataProvider() if layer.isValid() else None
    if provider is None or not provider.capabilities() & QgsRasterInterface.Capability.Size:
        raise RasterError(reason)
    return RasterInput(layer.name(), "", layer.crs(), layer.bandCount(), provider.clone())


def exported(raster: RasterInput, folder: Path, feedback: QgsProcessingFeedback) -> RasterInput:
    """Return a raster that the engine can open.

    Args:
        raster: from :func:`raster_input`.
        folder: for the GeoTIFF, where one is needed.
        feedback: hears of the export; may cancel it.

    Raises:
        QgsProcessingException: it could not be written.
    """
    provider = raster.provider
    if provider is None:
        return raster
    feedback.pushInfo(
        translate("Rasters", "“{name}” can be read by QGIS only and is written to a temporary GeoTIFF first.").format(
            name=raster.name
        )
    )
    path = folder / f"raster-{hashlib.sha256(provider.dataSourceUri().encode()).hexdigest()[:12]}.tif"
    pipe = QgsRasterPipe()
    pipe.set(provider.clone())
    size, extent, crs = (provider.xSize(), provider.ySize()), provider.extent(), provider.crs()
    listener = QgsRasterBlockFeedback()
    feedback.canceled.connect(listener.cancel)
    writer = QgsRasterFileWriter(str(path))
    writer.setOutputFormat("GTiff")
    outcome = writer.writeRaster(pipe, *size, extent, crs, QgsCoordinateTransformContext(), listener)
    if outcome != QgsRasterFileWriter.WriterError.NoError or not path.is_file():
        raise QgsProcessingException(
            translate(
                "Rasters",
                "“{name}” could not be written to a temporary GeoTIFF. Save the area you need as a GeoTIFF (right "
                "click on the layer, Export, Save As…) and choose that.",
            ).format(name=raster.name)
        )
    return RasterInput(raster.name, str(path), raster.crs, raster.bands)
