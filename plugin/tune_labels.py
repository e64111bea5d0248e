"""The polygons that the user chose, written to a GeoPackage for the engine: as they are now, edits not yet saved too.

What to read is settled on the main thread, which costs next to nothing; reading and writing is a task.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qgis.core import (
    Qgis,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCoordinateTransformContext,
    QgsCsException,
    QgsExpression,
    QgsFeature,
    QgsFeatureRequest,
    QgsFeedback,
    QgsField,
    QgsFields,
    QgsGeometry,
    QgsProject,
    QgsVectorFileWriter,
    QgsVectorLayer,
    QgsVectorLayerFeatureSource,
)
from qgis.PyQt.QtCore import QCoreApplication, QMetaType

from ..engine.tune_messages import LabelSource
from ..models.errors import CancelledByUser, OutputError, TuningError
from .tasks import BaseTask
from .tune_draft import ExtentChoice, ExtentKind, LabelChoice, TuneDraft

translate = QCoreApplication.translate

CLASS = "class"
LAYER = "labels"


@dataclass(frozen=True)
class Part:
    """Polygons of one layer, ready to be read in a thread.

    Attributes:
        layer: its id.
        name: for the user.
        source: of the features, edits not yet saved included.
        request: which of them.
        only: ids of the features that count; None for all that the request gives.
        crs: of their geometries.
        field: index of the field with the class; negative where there is none.
        class_name: the class where there is no field.
    """

    layer: str
    name: str
    source: QgsVectorLayerFeatureSource
    request: QgsFeatureRequest
    only: frozenset[int] | None
    crs: QgsCoordinateReferenceSystem
    field: int = -1
    class_name: str = ""


@dataclass(frozen=True)
class Plan:
    """What is to be written where.

    Attributes:
        parts: the labelled polygons.
        labels: GeoPackage for them.
        extent: polygons within which everything is labelled, and
        drawn: rectangles that are such, as geometries; both empty where only the objects' surroundings are known.
        drawn_crs: of those.
        extent_file: GeoPackage for them.
        fallback: CRS of layers that have none: they share the raster's coordinates.
        context: datum transformations.
    """

    parts: tuple[Part, ...]
    labels: Path
    extent: tuple[Part, ...]
    drawn: tuple[QgsGeometry, ...]
    drawn_crs: QgsCoordinateReferenceSystem
    extent_file: Path
    fallback: QgsCoordinateReferenceSystem
    context: QgsCoordinateTransformContext


@dataclass(frozen=True)
class WrittenLabels:
    """What was written.

    Attributes:
        source: the polygons, as the engine reads them.
        extent: path of the extent's file; empty for none.
        origins: layer id and feature id of each polygon, in the file's order.
        notes: what was left out here, as sentences.
    """

    source: LabelSource
    extent: str
    origins: tuple[tuple[str, int], ...]
    notes: tuple[str, ...] = ()


def plan_labels(draft: TuneDraft, project: QgsProject, labels: Path, extent: Path) -> Plan:
    """Settle what to write; on the main thread, at once.

    Args:
        draft: the choices.
        project: gives the datum transformations.
        labels: file for the polygons.
        extent: file for the extent.

    Raises:
        TuningError: nothing is chosen, or an expression is wrong.
    """
    chosen = [(choice, draft.polygon_layer(choice.layer)) for choice in draft.labels]
    parts = tuple(_part(layer, choice) for choice, layer in chosen if layer is not None)
    if not parts:
        raise TuningError(
            translate(
                "TuneLabels", "Choose a polygon layer with some of your objects, or draw them with the click tool."
            )
        )
    rasters = draft.raster_layers()
    fallback = rasters[0].crs() if rasters else QgsCoordinateReferenceSystem()
    inside, drawn, crs = _extent(draft, draft.extent)
    return Plan(parts, labels, inside, drawn, crs, extent, fallback, project.transformContext())


def check_expression(expression: str, layer: QgsVectorLayer) -> str:
    """Say what is wrong with a filter expression; empty when nothing is."""
    parsed = QgsExpression(expression)
    context = layer.createExpressionContext()
    if parsed.hasParserError():
        return " ".join(str(parsed.parserErrorString()).split()).rstrip(".")
    unknown = [name for name in parsed.referencedColumns() if layer.fields().lookupField(name) < 0]
    unknown = [name for name in unknown if name != QgsFeatureRequest.ALL_ATTRIBUTES]
    if unknown:
        return translate("TuneLabels", "there is no field “{field}”").format(field="”, “".join(unknown))
    return "" if parsed.prepare(context) else str(parsed.evalErrorString())


def _part(layer: QgsVectorLayer, choice: LabelChoice) -> Part:
    field = layer.fields().lookupField(choice.class_field) if choice.class_field else -1
    if choice.class_field and field < 0:
        text = translate("TuneLabels", "“{layer}” has no field “{field}” any more. Choose another class field.")
        raise TuningError(text.format(layer=layer.name(), field=choice.class_field))
    request = QgsFeatureRequest()
    if choice.expression:
        problem = check_expression(choice.expression, layer)
        if problem:
            text = translate("TuneLabels", "The filter of “{layer}” is no usable expression: {problem}. Correct it.")
            raise TuningError(text.format(layer=layer.name(), problem=problem))
        request.setFilterExpression(choice.expression)
        request.setExpressionContext(layer.createExpressionContext())
    only = frozenset(layer.selectedFeatureIds()) if choice.selected_only else None
    if only is not None and not choice.expression:
        request.setFilterFids(list(only))
    name = choice.class_name.strip() or layer.name()
    return Part(layer.id(), layer.name(), QgsVectorLayerFeatureSource(layer), request, only, layer.crs(), field, name)


def _extent(
    draft: TuneDraft, choice: ExtentChoice
) -> tuple[tuple[Part, ...], tuple[QgsGeometry, ...], QgsCoordinateReferenceSystem]:
    nowhere = QgsCoordinateReferenceSystem()
    if choice.kind is ExtentKind.LAYER:
        layer = draft.polygon_layer(choice.layer)
        if layer is None:
            raise TuningError(
                translate("TuneLabels", "Choose the polygon layer within which you drew everything, or another extent.")
            )
        return (_part(layer, LabelChoice(layer.id())),), (), nowhere
    if choice.kind is ExtentKind.DRAWN:
        if not choice.drawn:
            raise TuningError(
                translate(
                    "TuneLabels", "Draw the rectangle within which you drew everything, or choose another extent."
                )
            )
        shapes = tuple(QgsGeometry.fromRect(rectangle).densifyByCount(8) for rectangle in choice.drawn)
        return (), shapes, QgsCoordinateReferenceSystem.fromWkt(choice.crs)
    return (), (), nowhere


class WriteLabelsTask(BaseTask):
    """Write the files of a plan. The result is :class:`WrittenLabels`."""

    def __init__(self, plan: Plan) -> None:
        """Describe the task.

        Args:
            plan: of :func:`plan_labels`.
        """
        super().__init__(translate("TuneLabels", "SamTune: read the labelled polygons"))
        self._plan = plan
        self._unplaced = self._nameless = 0

    def _run(self, feedback: QgsFeedback) -> object:
        plan, origins = self._plan, []
        target = _crs(plan.parts[0], plan.fallback)
        with _Writer(plan.labels, target, plan.context) as writer:
            for part in plan.parts:
                for feature, geometry in self._read(part, target, feedback):
                    name = part.class_name if part.field < 0 else _class_text(feature, part.field)
                    if name:
                        writer.add(geometry, name)
                        origins.append((part.layer, feature.id()))
                    else:
                        self._nameless += 1
        if not origins:
            raise TuningError(self.tr("None of the chosen polygons remain: look at selection, filter and class field."))
        source = LabelSource(str(plan.labels), LAYER, CLASS, "")
        return WrittenLabels(source, self._write_extent(feedback), tuple(origins), self._notes())

    def _write_extent(self, feedback: QgsFeedback) -> str:
        plan = self._plan
        if not plan.extent and not plan.drawn:
            return ""
        target = _crs(plan.extent[0], plan.fallback) if plan.extent else plan.drawn_crs
        with _Writer(plan.extent_file, target, plan.context) as writer:
            for part in plan.extent:
                for _feature, geometry in self._read(part, target, feedback):
                    writer.add(geometry, part.name)
            for geometry in plan.drawn:
                writer.add(geometry, LAYER)
        return str(plan.extent_file)

    def _read(
        self, part: Part, target: QgsCoordinateReferenceSystem, feedback: QgsFeedback
    ) -> list[tuple[QgsFeature, QgsGeometry]]:
        transform = QgsCoordinateTransform(_crs(part, self._plan.fallback), target, self._plan.context)
        found = []
        for feature in part.source.getFeatures(part.request):
            if feedback.isCanceled():
                raise CancelledByUser
            if part.only is not None and feature.id() not in part.only:
                continue
            geometry = QgsGeometry(feature.geometry())
            try:
                geometry.transform(transform)
            except QgsCsException:
                self._unplaced += 1
                continue
            found.append((feature, geometry))
        return found

    def _notes(self) -> tuple[str, ...]:
        notes = []
        if self._nameless:
            notes.append(self.tr("Left out for want of a class: {n} polygons.").format(n=self._nameless))
        if self._unplaced:
            text = self.tr("Left out for want of coordinates in the CRS of the others: {n} polygons.")
            notes.append(text.format(n=self._unplaced))
        return tuple(notes)


class _Writer:
    """A new GeoPackage with one layer of multipolygons that have a class."""

    def __init__(self, path: Path, crs: QgsCoordinateReferenceSystem, context: QgsCoordinateTransformContext) -> None:
        fields = QgsFields()
        fields.append(QgsField(CLASS, QMetaType.Type.QString))
        options = QgsVectorFileWriter.SaveVectorOptions()
        options.driverName = "GPKG"
        options.layerName = LAYER
        self._path = path
        self._fields = fields
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._failed(str(error)) from error
        kind = Qgis.WkbType.MultiPolygon
        self._writer = QgsVectorFileWriter.create(str(path), fields, kind, crs, context, options)
        self._check()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_details: object) -> None:
        del self._writer  # closes the file

    def add(self, geometry: QgsGeometry, name: str) -> None:
        """Write a polygon; what is none is written without geometry, so that it can be told of by its number."""
        feature = QgsFeature(self._fields)
        fitting = geometry.coerceToType(Qgis.WkbType.MultiPolygon) if not geometry.isEmpty() else []
        if len(fitting) == 1:
            feature.setGeometry(fitting[0])
        feature.setAttribute(0, name)
        if not self._writer.addFeature(feature):
            self._check()

    def _check(self) -> None:
        if self._writer.hasError() != QgsVectorFileWriter.WriterError.NoError:
            raise self._failed(self._writer.errorMessage())

    def _failed(self, details: str) -> OutputError:
        text = translate("TuneLabels", "The polygons cannot be written to {folder}. Is the disk full?")
        return OutputError(text.format(folder=self._path.parent), f"{self._path}: {details}")


def _crs(part: Part, fallback: QgsCoordinateReferenceSystem) -> QgsCoordinateReferenceSystem:
    return part.crs if part.crs.isValid() else fallback


def _class_text(feature: QgsFeature, field: int) -> str:
    value = feature.attribute(field)
    if value is None or str(value) in ("", "NULL"):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
