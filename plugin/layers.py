"""From a QGIS raster layer to what the engine opens: URI, bands and stretch. Says which layers it cannot use."""

from __future__ import annotations

from qgis.core import (
    Qgis,
    QgsContrastEnhancement,
    QgsMultiBandColorRenderer,
    QgsPalettedRasterRenderer,
    QgsProviderRegistry,
    QgsRasterLayer,
    QgsRasterMinMaxOrigin,
    QgsRasterRenderer,
    QgsSingleBandGrayRenderer,
    QgsSingleBandPseudoColorRenderer,
)
from qgis.PyQt.QtCore import QCoreApplication

from ..engine.messages import RasterSpec
from ..models.errors import RasterError
from .session import StretchMode

translate = QCoreApplication.translate

Stretch = tuple[tuple[float, float], ...]


def unusable_reason(layer: QgsRasterLayer) -> str:
    """Say why a raster layer cannot be segmented, and what to do about it; empty when it can."""
    if not layer.isValid():
        return translate(
            "Layers", "“{name}” is broken: QGIS cannot read its source. Repair the source in the layer properties."
        ).format(name=layer.name())
    if layer.providerType() != "gdal":
        return translate(
            "Layers",
            "“{name}” comes from a service or a database, which SamTune cannot read yet. Save the area you need as a "
            "GeoTIFF (right click on the layer, Export, Save As…) and choose that.",
        ).format(name=layer.name())
    try:
        source_uri(layer)
    except RasterError as error:
        return error.user_text
    return ""


def source_uri(layer: QgsRasterLayer) -> str:
    """Return the path or GDAL URI behind a layer of the gdal provider.

    Raises:
        RasterError: another process could not open it (in memory, or behind credentials that QGIS keeps).
    """
    source = layer.dataProvider().dataSourceUri()
    parts = QgsProviderRegistry.instance().decodeUri("gdal", source)
    if "authcfg=" in source or parts.get("credentialOptions"):
        raise RasterError(
            translate(
                "Layers",
                "“{name}” needs a login that only QGIS has. Save the area you need as a GeoTIFF (right click on the "
                "layer, Export, Save As…) and choose that.",
            ).format(name=layer.name()),
            source.split("authcfg=")[0],
        )
    if source.startswith("/vsimem/"):
        raise RasterError(
            translate("Layers", "“{name}” exists only in QGIS's memory. Save it as a GeoTIFF and choose that.").format(
                name=layer.name()
            ),
            source,
        )
    if parts.get("openOptions"):
        return source.split("|option:")[0]
    return source


def raster_spec(layer: QgsRasterLayer, bands: tuple[int, ...], mode: StretchMode) -> RasterSpec:
    """Describe a layer for the engine.

    Args:
        layer: a usable layer, see :func:`unusable_reason`.
        bands: band numbers from 1, one or three; empty for the raster's defaults.
        mode: where the stretch comes from.

    Raises:
        RasterError: the layer cannot be used.
    """
    reason = unusable_reason(layer)
    if reason:
        raise RasterError(reason, layer.source())
    stretch = drawn_stretch(layer, bands) if mode is StretchMode.AS_DRAWN else ()
    return RasterSpec(source_uri(layer), bands, stretch)


def drawn_bands(layer: QgsRasterLayer) -> tuple[int, ...]:
    """Return the bands that the layer's style shows, as red, green, blue or as the one band; empty for a palette.

    A palette's values are class numbers, so the raster's own defaults (its colours) serve better than the numbers.
    """
    renderer = layer.renderer()
    count = layer.bandCount()
    if isinstance(renderer, QgsMultiBandColorRenderer):
        bands = (renderer.redBand(), renderer.greenBand(), renderer.blueBand())
        if all(1 <= band <= count for band in bands):
            return bands
        shown = [band for band in bands if 1 <= band <= count]
        return (shown[0],) if shown else ()
    if isinstance(renderer, QgsPalettedRasterRenderer):
        return ()
    if isinstance(renderer, (QgsSingleBandGrayRenderer, QgsSingleBandPseudoColorRenderer)):
        band = int(renderer.inputBand())
        return (band,) if 1 <= band <= count else ()
    return ()


def drawn_stretch(layer: QgsRasterLayer, bands: tuple[int, ...]) -> Stretch:
    """Return the stretch that the layer's style uses for these bands; empty where it has none that holds everywhere.

    A style that follows the canvas ("updated canvas") changes with every pan: neighbouring crops would disagree.
    Plain 8-bit layers without contrast enhancement are shown from 0 to 255.
    """
    renderer = layer.renderer()
    if renderer is None or not bands:
        return ()
    if renderer.minMaxOrigin().extent() == QgsRasterMinMaxOrigin.Extent.UpdatedCanvas:
        return ()
    known = _enhancements(renderer)
    found = [_limits(known.get(band), layer.dataProvider().dataType(band)) for band in bands]
    return tuple(limits for limits in found if limits is not None) if None not in found else ()


def _enhancements(renderer: QgsRasterRenderer) -> dict[int, QgsContrastEnhancement | None]:
    if isinstance(renderer, QgsMultiBandColorRenderer):
        return {
            renderer.redBand(): renderer.redContrastEnhancement(),
            renderer.greenBand(): renderer.greenContrastEnhancement(),
            renderer.blueBand(): renderer.blueContrastEnhancement(),
        }
    if isinstance(renderer, QgsSingleBandGrayRenderer):
        return {renderer.inputBand(): renderer.contrastEnhancement()}
    return {}


def _limits(enhancement: QgsContrastEnhancement | None, data_type: Qgis.DataType) -> tuple[float, float] | None:
    algorithm = QgsContrastEnhancement.ContrastEnhancementAlgorithm
    if enhancement is not None and enhancement.contrastEnhancementAlgorithm() in (
        algorithm.StretchToMinimumMaximum,
        algorithm.StretchAndClipToMinimumMaximum,
    ):
        low, high = enhancement.minimumValue(), enhancement.maximumValue()
        return (low, high) if high > low else None
    return (0.0, 255.0) if data_type == Qgis.DataType.Byte else None
