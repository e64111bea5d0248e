"""The polygons that the user chose, written to a GeoPackage for the engine: as they are now, edits not yet saved too.

What to read is settled on the main thread, which costs next to nothing; reading and writing is a task.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCoordinateTransformContext,
    QgsCsException,
    QgsExpression,
    QgsFeature,
    QgsFeatureRequest,
    QgsFeedback,
    QgsGeometry,
    QgsProject,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QCoreApplication

from ..engine.tune_messages import LabelSource
from ..models.errors import OutputError, TuningError
from .feature_file import CLASS, LABELS, FeatureFile, FeatureSnapshot, class_text, features_of, label_file
from .tasks import BaseTask
from .tune_draft import ExtentChoice, ExtentKind, LabelChoice, TuneDraft

translate = QCoreApplication.translate


@dataclass(frozen=True)
class Part:
    """Polygons of one layer, ready to be read in a thread.

    Attributes:
        polygons: the features.
        field: index of the field with the class; negative where there is none.
        class_name: the class where there is no field.
    """

    polygons: FeatureSnapshot
    field: int = -1
    class_name: str = ""

    def class_of(self, feature: QgsFeature) -> str:
        """Return the class of one of the features; empty for none."""
        return self.class_name if self.field < 0 else class_text(feature, self.field)


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
    if choice.expression:
        problem = check_expression(choice.expression, layer)
        if problem:
            text = translate("TuneLabels", "The filter of “{layer}” is no usable expression: {problem}. Correct it.")
            raise TuningError(text.format(layer=layer.name(), problem=problem))
    polygons = features_of(layer, selected=choice.selected_only, expression=choice.expression)
    return Part(polygons, field, choice.class_name.strip() or layer.name())


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
        with self._file(plan.labels, target) as file:
            for part in plan.parts:
                for feature, geometry in self._read(part, target, feedback):
                    name = part.class_of(feature)
                    if name:
                        file.add_one(geometry, [name])
                        origins.append((part.polygons.layer, feature.id()))
                    else:
                        self._nameless += 1
        if not origins:
            raise TuningError(self.tr("None of the chosen polygons remain: look at selection, filter and class field."))
        source = LabelSource(str(plan.labels), LABELS, CLASS, "")
        return WrittenLabels(source, self._write_extent(feedback), tuple(origins), self._notes())

    def _write_extent(self, feedback: QgsFeedback) -> str:
        plan = self._plan
        if not plan.extent and not plan.drawn:
            return ""
        target = _crs(plan.extent[0], plan.fallback) if plan.extent else plan.drawn_crs
        with self._file(plan.extent_file, target) as file:
            for part in plan.extent:
                for _feature, geometry in self._read(part, target, feedback):
                    file.add_one(geometry, [part.class_name])
            for geometry in plan.drawn:
                file.add_one(geometry, [LABELS])
        return str(plan.extent_file)

    def _file(self, path: Path, crs: QgsCoordinateReferenceSystem) -> FeatureFile:
        def failed(details: str) -> OutputError:
            text = self.tr("The polygons cannot be written to {folder}. Is the disk full?")
            return OutputError(text.format(folder=path.parent), details)

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise failed(str(error)) from error
        return label_file(path, crs, failed, self._plan.context)

    def _read(
        self, part: Part, target: QgsCoordinateReferenceSystem, feedback: QgsFeedback
    ) -> Iterator[tuple[QgsFeature, QgsGeometry]]:
        transform = QgsCoordinateTransform(_crs(part, self._plan.fallback), target, self._plan.context)
        for feature in part.polygons.features(feedback):
            geometry = QgsGeometry(feature.geometry())
            try:
                geometry.transform(transform)
            except QgsCsException:
                self._unplaced += 1
                continue
            yield feature, geometry

    def _notes(self) -> tuple[str, ...]:
        notes = []
        if self._nameless:
            notes.append(self.tr("Left out for want of a class: {n} polygons.").format(n=self._nameless))
        if self._unplaced:
            text = self.tr("Left out for want of coordinates in the CRS of the others: {n} polygons.")
            notes.append(text.format(n=self._unplaced))
        return tuple(notes)


def _crs(part: Part, fallback: QgsCoordinateReferenceSystem) -> QgsCoordinateReferenceSystem:
    return part.polygons.crs if part.polygons.crs.isValid() else fallback
