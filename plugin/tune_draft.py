"""Everything that the user chooses in the fine-tune wizard, and signals about it. No widgets: pages are views of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from qgis.core import Qgis, QgsMapLayer, QgsProject, QgsRasterLayer, QgsRectangle, QgsVectorLayer
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ..engine.tune_messages import TuneTask

CLASS_FIELDS = ("class", "kind", "type", "label", "category")
"""Names of fields that hold the class more often than not, the likeliest first."""


class ExtentKind(Enum):
    """Within what everything is labelled: AROUND each object only, in the polygons of a LAYER, in DRAWN rectangles."""

    AROUND = "around"
    LAYER = "layer"
    DRAWN = "drawn"


@dataclass(frozen=True)
class LabelChoice:
    """Which polygons of a layer, and what class they are of.

    Attributes:
        layer: id of the layer.
        selected_only: only its selected features.
        expression: only features for which this QGIS expression is true; empty for all.
        class_field: field with the class; empty when all are of one class.
        class_name: name of that one class.
    """

    layer: str
    selected_only: bool = False
    expression: str = ""
    class_field: str = ""
    class_name: str = ""


@dataclass(frozen=True)
class ExtentChoice:
    """Within what everything is labelled.

    Attributes:
        kind: which of the following counts.
        layer: id of a polygon layer.
        drawn: rectangles, and
        crs: their CRS as WKT, that of the map when they were drawn.
    """

    kind: ExtentKind = ExtentKind.AROUND
    layer: str = ""
    drawn: tuple[QgsRectangle, ...] = ()
    crs: str = ""


@dataclass(frozen=True)
class MethodChoice:
    """How to learn; the fields of :class:`~samtune.engine.tune_messages.TuneParams` of the same names."""

    methods: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    steps: int = 0
    hold_out: float = 0.2
    seed: int = 0
    keep_general: bool = False
    previous: str = ""


class TuneDraft(QObject):
    """The choices. Layers are kept by their ids, so that one that is removed is never touched; it leaves the draft.

    Attributes:
        model: base model.
        rasters: ids of the raster layers.
        rgb: band numbers shown to the model; empty for the rasters' defaults.
        further: band numbers given besides.
        second: id of the layer of the second raster; empty for none.
        labels: the polygons.
        extent: within what everything is labelled.
        level: fixed level of detail; None: by each object's size.
        task: what the adapter is for.
        method: how to learn.

    Signals:
        inputs_changed: what is learnt from, polygons edited included: counts and estimates so far do not hold.
        method_changed: how it is learnt: the estimate does not hold.
    """

    inputs_changed = pyqtSignal()
    method_changed = pyqtSignal()

    def __init__(self, project: QgsProject, parent: QObject | None = None) -> None:
        """Start with nothing chosen.

        Args:
            project: where the layers are.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._project = project
        self.model = "tiny"
        self.rasters: tuple[str, ...] = ()
        self.rgb: tuple[int, ...] = ()
        self.further: tuple[int, ...] = ()
        self.second = ""
        self.labels: tuple[LabelChoice, ...] = ()
        self.extent = ExtentChoice()
        self.level: int | None = None
        self.task = TuneTask.PROMPTABLE
        self.method = MethodChoice()
        self._watched: set[str] = set()
        project.layersWillBeRemoved.connect(self._drop_layers)

    # --- the choices ------------------------------------------------------------------------------------------------

    def set_model(self, model: str) -> None:
        """Choose the base model."""
        if model != self.model:
            self.model = model
            self.inputs_changed.emit()

    def set_rasters(self, layers: tuple[str, ...]) -> None:
        """Choose raster layers by their ids; bands that they have not all got are given up."""
        if layers == self.rasters:
            return
        self.rasters = layers
        count = min((layer.bandCount() for layer in self.raster_layers()), default=0)
        if any(band > count for band in self.rgb):
            self.rgb = ()
        self.further = tuple(band for band in self.further if band <= count)
        self.inputs_changed.emit()

    def set_bands(self, rgb: tuple[int, ...], further: tuple[int, ...]) -> None:
        """Choose what the model is shown, and what it is given besides."""
        if (rgb, further) != (self.rgb, self.further):
            self.rgb, self.further = rgb, further
            self.inputs_changed.emit()

    def set_second(self, layer: str) -> None:
        """Choose a second raster by its layer's id; empty for none."""
        if layer != self.second:
            self.second = layer
            self.inputs_changed.emit()

    def set_labels(self, labels: tuple[LabelChoice, ...]) -> None:
        """Choose the polygons."""
        if labels != self.labels:
            self.labels = labels
            self._watch({choice.layer for choice in labels})
            self.inputs_changed.emit()

    def change_labels(self, layer: str, **changes: object) -> None:
        """Change what is taken of one layer.

        Args:
            layer: its id; it is chosen already.
            changes: fields of :class:`LabelChoice`.
        """
        self.set_labels(tuple(replace(c, **changes) if c.layer == layer else c for c in self.labels))

    def set_extent(self, extent: ExtentChoice) -> None:
        """Choose within what everything is labelled."""
        if extent != self.extent:
            self.extent = extent
            self.inputs_changed.emit()

    def set_level(self, level: int | None) -> None:
        """Fix the level of detail, or leave it to the objects' sizes with None."""
        if level != self.level:
            self.level = level
            self.inputs_changed.emit()

    def set_task(self, task: TuneTask) -> None:
        """Choose what the adapter is for. Methods chosen for another purpose are given up."""
        if task is not self.task:
            self.task = task
            self.method = replace(self.method, methods=(), steps=0)
            self.inputs_changed.emit()
            self.method_changed.emit()

    def set_method(self, method: MethodChoice) -> None:
        """Choose how to learn. The hold-out and its seed change the counts as well."""
        if method == self.method:
            return
        before, self.method = self.method, method
        if (before.hold_out, before.seed) != (method.hold_out, method.seed):
            self.inputs_changed.emit()
        self.method_changed.emit()

    # --- layers -----------------------------------------------------------------------------------------------------

    def raster_layers(self) -> list[QgsRasterLayer]:
        """Return the chosen raster layers that are there."""
        found = (self._project.mapLayer(layer) for layer in self.rasters)
        return [layer for layer in found if isinstance(layer, QgsRasterLayer)]

    def second_layer(self) -> QgsRasterLayer | None:
        """Return the layer of the second raster."""
        layer = self._project.mapLayer(self.second) if self.second else None
        return layer if isinstance(layer, QgsRasterLayer) else None

    def polygon_layer(self, layer: str) -> QgsVectorLayer | None:
        """Return a polygon layer by its id; None where there is none."""
        found = self._project.mapLayer(layer) if layer else None
        return found if isinstance(found, QgsVectorLayer) and is_polygons(found) else None

    def start_with(self, raster: QgsMapLayer | None, rgb: tuple[int, ...], target: QgsVectorLayer | None) -> None:
        """Choose what is likely meant, where nothing is chosen yet.

        Args:
            raster: layer that the panel works on.
            rgb: its bands shown there.
            target: layer that accepted polygons go to.
        """
        if not self.rasters and isinstance(raster, QgsRasterLayer):
            self.rgb = rgb
            self.set_rasters((raster.id(),))
        if not self.labels:
            tree = self._project.layerTreeRoot().layerOrder()
            likely = [layer for layer in [target, *tree] if layer is not None and is_polygons(layer)]
            best = next((layer for layer in likely if layer.featureCount() != 0), target)
            if best is not None:
                self.set_labels((first_choice(best),))

    def _watch(self, wanted: set[str]) -> None:
        for name in self._watched | wanted:
            layer = self._project.mapLayer(name)
            if isinstance(layer, QgsVectorLayer) and (name in wanted) != (name in self._watched):
                signals = (
                    *(layer.layerModified, layer.editingStopped, layer.dataChanged),
                    *(layer.selectionChanged, layer.subsetStringChanged),
                )
                for signal in signals:
                    signal.connect(self._on_edited) if name in wanted else signal.disconnect(self._on_edited)
        self._watched = wanted

    def _on_edited(self, *_details: object) -> None:
        self.inputs_changed.emit()

    def _drop_layers(self, gone: list[str]) -> None:
        self._watched -= set(gone)
        self.set_labels(tuple(choice for choice in self.labels if choice.layer not in gone))
        self.set_rasters(tuple(layer for layer in self.rasters if layer not in gone))
        if self.second in gone:
            self.set_second("")
        if self.extent.layer in gone:
            self.set_extent(replace(self.extent, kind=ExtentKind.AROUND, layer=""))

    def stop(self) -> None:
        """Listen no more; for unloading."""
        self._watch(set())
        self._project.layersWillBeRemoved.disconnect(self._drop_layers)


def is_polygons(layer: QgsMapLayer) -> bool:
    """Tell whether a layer holds polygons."""
    return isinstance(layer, QgsVectorLayer) and layer.isValid() and layer.geometryType() == Qgis.GeometryType.Polygon


def first_choice(layer: QgsVectorLayer) -> LabelChoice:
    """Return how a layer's polygons are likely meant: by a field with a telling name, else all of one class."""
    names = {name.lower(): name for name in layer.fields().names()}
    field = next((names[name] for name in CLASS_FIELDS if name in names), "")
    return LabelChoice(layer.id(), class_field=field, class_name=layer.name())
