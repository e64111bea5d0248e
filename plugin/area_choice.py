"""Where to work: what the map shows, the whole layer, or polygons; as requests have it, in the raster's CRS."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCsException,
    QgsFeatureRequest,
    QgsGeometry,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QCoreApplication

from ..models.errors import PromptError

translate = QCoreApplication.translate

MOST_POLYGONS = 2000
"""More polygons than that are no area but a layer of objects; uniting them would keep QGIS waiting."""

EDGE_POINTS = 16


class AreaKind(Enum):
    """How an area is chosen."""

    VIEW = "view"
    LAYER = "layer"
    POLYGONS = "polygons"


@dataclass(frozen=True)
class AreaChoice:
    """An area as the user chose it.

    Attributes:
        kind: how.
        polygons: for POLYGONS the layer; its selected features count, or all where none is selected.
    """

    kind: AreaKind
    polygons: QgsVectorLayer | None = None


@dataclass(frozen=True)
class View:
    """What a map shows: an extent in the map's CRS."""

    extent: QgsRectangle
    crs: QgsCoordinateReferenceSystem


def area_wkb(choice: AreaChoice, layer: QgsRasterLayer, view: View, project: QgsProject) -> str:
    """Return an area as requests have it.

    Args:
        choice: what the user chose.
        layer: the raster layer.
        view: what the map shows.
        project: for datum transformations.

    Returns:
        Hexadecimal WKB in the raster layer's CRS; empty for the whole layer.

    Raises:
        PromptError: there is no such area on the raster.
    """
    if choice.kind is AreaKind.LAYER:
        return ""
    if choice.kind is AreaKind.VIEW:
        edge = QgsGeometry.fromRect(view.extent).densifyByCount(EDGE_POINTS)
        area = _moved(edge, view.crs, layer, project)
    else:
        area = _polygons(choice.polygons, layer, project)
    shared = area.intersection(QgsGeometry.fromRect(layer.extent()))
    if shared.isEmpty() or shared.area() <= 0:
        text = translate("AreaChoice", "The area does not touch “{layer}”. Move the map to it, or choose another area.")
        raise PromptError(text.format(layer=layer.name()))
    return bytes(shared.asWkb()).hex()


def _polygons(source: QgsVectorLayer | None, layer: QgsRasterLayer, project: QgsProject) -> QgsGeometry:
    if source is None:
        raise PromptError(translate("AreaChoice", "Choose a polygon layer for the area."))
    chosen = source.selectedFeatureCount() or source.featureCount()
    if chosen > MOST_POLYGONS:
        text = translate(
            "AreaChoice", "“{layer}” has {count} polygons. Select those that are the area, {most} at most."
        )
        raise PromptError(text.format(layer=source.name(), count=chosen, most=MOST_POLYGONS))
    request = QgsFeatureRequest().setNoAttributes()
    features = source.getSelectedFeatures(request) if source.selectedFeatureCount() else source.getFeatures(request)
    found = [feature.geometry() for feature in features if feature.hasGeometry()]
    valid = [geometry if geometry.isGeosValid() else geometry.makeValid() for geometry in found]
    if not valid:
        raise PromptError(translate("AreaChoice", "“{layer}” has no polygons.").format(layer=source.name()))
    return _moved(QgsGeometry.unaryUnion(valid), source.crs(), layer, project)


def _moved(
    geometry: QgsGeometry, crs: QgsCoordinateReferenceSystem, layer: QgsRasterLayer, project: QgsProject
) -> QgsGeometry:
    moved = QgsGeometry(geometry)
    try:
        moved.transform(QgsCoordinateTransform(crs, layer.crs(), project.transformContext()))
    except QgsCsException as error:
        text = translate("AreaChoice", "The area has no coordinates in the CRS of “{layer}”. Choose another area.")
        raise PromptError(text.format(layer=layer.name()), str(error)) from error
    return moved if moved.isGeosValid() else moved.makeValid()
