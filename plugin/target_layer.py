"""Accepted outlines become features: one feature, one undo command, in the edit buffer of the layer the user chose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from qgis.core import (
    Qgis,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCsException,
    QgsDistanceArea,
    QgsFeature,
    QgsFieldConstraints,
    QgsGeometry,
    QgsProject,
    QgsSettings,
    QgsVectorDataProvider,
    QgsVectorLayer,
    QgsVectorLayerUtils,
    QgsWkbTypes,
)
from qgis.PyQt.QtCore import QCoreApplication, QDateTime

from ..engine.provenance import bands_text
from ..models.errors import OutputError
from .target_fields import CLASS, FieldPlan, add_fields, plan_fields
from .target_geometry import polygon_parts, transformed

translate = QCoreApplication.translate

AskConsent = Callable[[QgsVectorLayer, tuple[str, ...]], bool]
"""Asks whether fields of these names may be added to a layer."""


@dataclass(frozen=True)
class Accepted:
    """What is known of an accepted object.

    Attributes:
        geometry: polygon or multipolygon in ``crs``.
        crs: of the raster; may be invalid, the coordinates are then taken as the target's.
        score: IoU that the model predicts, 0 to 1.
        model: name of the base model.
        adapter: name of the adapter; empty for none.
        reviewed: somebody has looked at it.
        prompt: kind of prompt, such as ``point``.
        raster: name of the raster file.
        bands: band numbers shown to the model.
        class_value: class given by the user; empty for none.
    """

    geometry: QgsGeometry
    crs: QgsCoordinateReferenceSystem
    score: float
    model: str
    prompt: str
    raster: str
    bands: tuple[int, ...]
    class_value: str = ""
    adapter: str = ""
    reviewed: bool = True


@dataclass(frozen=True)
class Fitted:
    """An accepted object as a layer takes it.

    Attributes:
        geometry: of the layer's type, in its CRS.
        values: attribute name to value; None for what is unknown.
        dropped_parts: how many parts a layer of single polygons cannot take (the largest is kept).
    """

    geometry: QgsGeometry
    values: dict[str, object]
    dropped_parts: int = 0


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        feature_id: id in the edit buffer.
        dropped_parts: how many parts a layer of single polygons could not take (the largest was kept).
    """

    feature_id: int
    dropped_parts: int


class TargetWriter:
    """Writes accepted objects; remembers which layers the user does not want fields added to.

    Never commits: saving is the user's, as with any other edit in QGIS.
    """

    def __init__(self, project: QgsProject, ask: AskConsent) -> None:
        """Keep the project (for transformations and its ellipsoid) and how to ask for consent."""
        self._project = project
        self._ask = ask
        self._answers: dict[str, bool] = {}

    def write(self, layer: QgsVectorLayer, accepted: Accepted, class_field: str = "") -> Written:
        """Add one feature to a layer's edit buffer, as one undo command.

        Args:
            layer: polygon layer; editing is started where it is off.
            accepted: the object.
            class_field: name of the field that takes the class; empty for one called ``class``, if there is one.

        Raises:
            OutputError: the layer cannot take it. Fields, edit buffer and editing mode are as they were.
        """
        check_writable(layer)
        fitted = self.fit(layer, accepted)
        with_class = bool(accepted.class_value)
        missing = self.addable_fields(layer, class_field, with_class=with_class)
        with editing(layer), one_command(layer, translate("TargetWriter", "Add a SamTune polygon")):
            add_fields(layer, missing)
            plan = plan_fields(layer, class_field, with_class)
            feature = add_feature(layer, fitted.geometry, plan.attributes(fitted.values))
        layer.triggerRepaint()
        return Written(feature.id(), fitted.dropped_parts)

    def replace(self, layer: QgsVectorLayer, feature_id: int, accepted: Accepted) -> Written:
        """Give a feature another outline, and the attributes of that; its class stays. One undo command.

        Args:
            layer: polygon layer; editing is started where it is off.
            feature_id: of the feature.
            accepted: the object as it should be.

        Raises:
            OutputError: the layer cannot take it; nothing has changed.
        """
        check_changeable(layer)
        fitted = self.fit(layer, accepted)
        with editing(layer), one_command(layer, translate("TargetWriter", "Redo a SamTune polygon")):
            plan = plan_fields(layer, "", False)
            values = plan.attributes({name: value for name, value in fitted.values.items() if name != CLASS})
            if not layer.changeGeometry(feature_id, fitted.geometry):
                raise _not_changed(layer)
            if values and not layer.changeAttributeValues(feature_id, values):
                raise _not_changed(layer)
        layer.triggerRepaint()
        return Written(feature_id, fitted.dropped_parts)

    def fit(self, layer: QgsVectorLayer, accepted: Accepted) -> Fitted:
        """Bring an object to a layer's CRS and geometry type. The layer is only looked at.

        Raises:
            OutputError: it has no place there.
        """
        geometry, dropped = self._fit(layer, accepted)
        return Fitted(geometry, self._values(accepted, geometry, layer.crs()), dropped)

    def addable_fields(
        self, layer: QgsVectorLayer, class_field: str = "", *, with_class: bool = False
    ) -> tuple[str, ...]:
        """Return the names of SamTune's attributes that a layer lacks and that may be added; asks once per layer."""
        plan = plan_fields(layer, class_field, with_class)
        return plan.missing if self._may_add(layer, plan) else ()

    def _may_add(self, layer: QgsVectorLayer, plan: FieldPlan) -> bool:
        if not plan.missing or not layer.dataProvider().capabilities() & QgsVectorDataProvider.Capability.AddAttributes:
            return False
        if layer.id() not in self._answers:
            self._answers[layer.id()] = self._ask(layer, plan.missing)
        return self._answers[layer.id()]

    def _fit(self, layer: QgsVectorLayer, accepted: Accepted) -> tuple[QgsGeometry, int]:
        try:
            transform = QgsCoordinateTransform(accepted.crs, layer.crs(), self._project.transformContext())
            geometry = transformed(accepted.geometry, transform)
        except QgsCsException as error:
            raise OutputError(
                translate(
                    "TargetWriter",
                    "The outline has no coordinates in the CRS of “{layer}”. Choose a target layer with another CRS.",
                ).format(layer=layer.name()),
                str(error),
            ) from error
        parts = polygon_parts(geometry)
        if not parts:
            raise OutputError(
                translate("TargetWriter", "The outline is empty. Click again, or lower the simplification."),
                accepted.geometry.asWkt(3)[:500],
            )
        whole = QgsGeometry.collectGeometry(parts)
        dropped = 0
        if (
            not QgsWkbTypes.isMultiType(layer.wkbType())
            and QgsWkbTypes.isSingleType(layer.wkbType())
            and len(parts) > 1
        ):
            whole, dropped = max(parts, key=QgsGeometry.area), len(parts) - 1
        return _coerced(whole, layer), dropped

    def _values(
        self, accepted: Accepted, geometry: QgsGeometry, crs: QgsCoordinateReferenceSystem
    ) -> dict[str, object]:
        return {
            "class": accepted.class_value or None,
            "score": round(accepted.score, 4),
            "area": self._area(geometry, crs),
            "model": accepted.model,
            "adapter": accepted.adapter or None,
            "prompt": accepted.prompt,
            "raster": accepted.raster,
            "bands": bands_text(accepted.bands),
            "time": QDateTime.currentDateTimeUtc(),
            "reviewed": accepted.reviewed,
        }

    def _area(self, geometry: QgsGeometry, crs: QgsCoordinateReferenceSystem) -> float:
        measure = QgsDistanceArea()
        measure.setSourceCrs(crs, self._project.transformContext())
        ellipsoid = self._project.ellipsoid()
        if crs.isValid():
            measure.setEllipsoid(crs.ellipsoidAcronym() if ellipsoid in ("", "NONE") else ellipsoid)
        area = measure.measureArea(geometry)
        if not crs.isValid():
            return float(area)
        return round(float(measure.convertAreaMeasurement(area, Qgis.AreaUnit.SquareMeters)), 3)


def check_writable(layer: QgsVectorLayer) -> None:
    """Check that polygons can be added to a layer.

    Raises:
        OutputError: they cannot; the text says why and what to do.
    """
    if not layer.isValid() or layer.geometryType() != Qgis.GeometryType.Polygon:
        reason = translate("TargetWriter", "“{layer}” is no usable polygon layer.")
    elif layer.readOnly() or not layer.supportsEditing():
        reason = translate("TargetWriter", "“{layer}” is read-only.")
    elif not layer.dataProvider().capabilities() & QgsVectorDataProvider.Capability.AddFeatures:
        reason = translate("TargetWriter", "Features cannot be added to “{layer}”.")
    elif layer.isEditCommandActive():
        reason = translate("TargetWriter", "Another edit of “{layer}” is still open; finish it first.")
    else:
        return
    remedy = translate("TargetWriter", "Choose another target layer, or make a new GeoPackage.")
    raise OutputError(f"{reason.format(layer=layer.name())} {remedy}", layer.source())


def check_changeable(layer: QgsVectorLayer) -> None:
    """Check that a layer's features can be changed.

    Raises:
        OutputError: they cannot; the text says why and what to do.
    """
    check_writable(layer)
    wanted = QgsVectorDataProvider.Capability
    capabilities = layer.dataProvider().capabilities()
    if not (capabilities & wanted.ChangeGeometries and capabilities & wanted.ChangeAttributeValues):
        text = translate("TargetWriter", "Features of “{layer}” cannot be changed. Save it as a GeoPackage first.")
        raise OutputError(text.format(layer=layer.name()), layer.source())


def _not_changed(layer: QgsVectorLayer) -> OutputError:
    text = translate("TargetWriter", "The polygon of “{layer}” could not be changed. Perhaps it is gone.")
    return OutputError(text.format(layer=layer.name()), "; ".join(layer.dataProvider().errors()))


def begin_editing(layer: QgsVectorLayer) -> bool:
    """Start editing where it is off.

    Returns:
        Whether it was started.

    Raises:
        OutputError: it could not be.
    """
    # QGIS before 3.44 takes the extent from the saved features when it is first asked for, and keeps that: asked here,
    # "zoom to layer" finds what is about to be added.
    layer.extent()
    if layer.isEditable():
        return False
    if not layer.startEditing():
        raise OutputError(
            translate("TargetWriter", "Editing “{layer}” could not be started. Choose another target layer.").format(
                layer=layer.name()
            ),
            "; ".join(layer.dataProvider().errors()),
        )
    return True


@contextmanager
def editing(layer: QgsVectorLayer) -> Iterator[None]:
    """Start editing where it is off; stop again if nothing could be written."""
    started = begin_editing(layer)
    try:
        yield
    except BaseException:
        if started:
            layer.rollBack()
        raise


@contextmanager
def one_command(layer: QgsVectorLayer, text: str) -> Iterator[None]:
    """Make one undo command of what happens inside; nothing of it stays if anything at all goes wrong."""
    layer.beginEditCommand(text)
    try:
        yield
    except BaseException:
        layer.destroyEditCommand()
        raise
    layer.endEditCommand()


def add_feature(layer: QgsVectorLayer, geometry: QgsGeometry, attributes: dict[int, object]) -> QgsFeature:
    """Add a feature to a layer being edited, with its default values.

    Raises:
        OutputError: the layer does not take it.
    """
    feature = QgsVectorLayerUtils.createFeature(layer, geometry, attributes, layer.createExpressionContext())
    _check_constraints(layer, feature)
    if not layer.addFeature(feature):
        raise OutputError(
            translate(
                "TargetWriter",
                "“{layer}” did not take the polygon. Look at its constraints in the layer properties, "
                "or choose another target layer.",
            ).format(layer=layer.name()),
            "; ".join(layer.dataProvider().errors()),
        )
    return feature


def _coerced(geometry: QgsGeometry, layer: QgsVectorLayer) -> QgsGeometry:
    settings = QgsSettings()  # QGIS's own defaults for digitised vertices; PyQGIS has no named entry for them
    z = settings.value("digitizing/default-z-value", 0.0, float)
    m = settings.value("digitizing/default-m-value", 0.0, float)
    found = geometry.coerceToType(layer.wkbType(), z, m)
    if len(found) != 1:
        raise OutputError(
            translate("TargetWriter", "The outline does not fit the geometry type of “{layer}”.").format(
                layer=layer.name()
            ),
            QgsWkbTypes.displayString(layer.wkbType()),
        )
    return found[0]


def _check_constraints(layer: QgsVectorLayer, feature: QgsFeature) -> None:
    hard = QgsFieldConstraints.ConstraintStrength.ConstraintStrengthHard
    problems = []
    for index, field in enumerate(layer.fields()):
        if layer.fields().fieldOrigin(index) == Qgis.FieldOrigin.Provider and layer.dataProvider().defaultValueClause(
            layer.fields().fieldOriginIndex(index)
        ):
            continue  # the database fills this in
        good, reasons = QgsVectorLayerUtils.validateAttribute(layer, feature, index, hard)
        if not good:
            problems.append(f"{field.displayName()}: {', '.join(reasons)}")
    if problems:
        raise OutputError(
            translate(
                "TargetWriter",
                "“{layer}” asks for values that SamTune does not know ({problems}). Set default values in the layer "
                "properties, or choose another target layer.",
            ).format(layer=layer.name(), problems="; ".join(problems)),
        )
