"""To which area a batch job is limited, and which features of a layer it takes."""

from __future__ import annotations

from enum import Enum

from qgis.core import Qgis, QgsGeometry, QgsMapLayer, QgsPointXY, QgsProject, QgsVectorLayer
from qgis.gui import QgsMapCanvas, QgsMapLayerComboBox
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QCheckBox, QComboBox, QWidget

from ..plugin.feature_file import FeatureSnapshot, features_of, outline_of
from .forms import column, compact, wide_row


class FeaturesChooser(QWidget):
    """A layer, and whether only its selected features count.

    Attributes:
        layer_combo: the layer.
        selected_check: only the selected features.
    """

    changed = pyqtSignal()

    def __init__(
        self, label: str, empty: str, filters: Qgis.LayerFilter, project: QgsProject, parent: QWidget | None = None
    ) -> None:
        """Build the widgets.

        Args:
            label: of the row.
            empty: said while no layer is chosen.
            filters: which layers can be.
            project: whose layers.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._layer: QgsVectorLayer | None = None
        self._snapshot: FeatureSnapshot | None = None
        self.layer_combo = QgsMapLayerComboBox(self)
        self.layer_combo.setProject(project)
        self.layer_combo.setFilters(Qgis.LayerFilters(filters))
        self.layer_combo.setAllowEmptyLayer(True, empty)
        self.layer_combo.setCurrentIndex(0)
        self.selected_check = QCheckBox(self.tr("Only the selected features"), self)
        rows = column(self)
        rows.addWidget(wide_row(self, label, compact(self.layer_combo, 12)))
        rows.addWidget(wide_row(self, "", self.selected_check))
        self.layer_combo.layerChanged.connect(self._on_layer)
        self.selected_check.toggled.connect(lambda _on: self._renew())
        self._on_layer(self.layer_combo.currentLayer())

    @property
    def layer(self) -> QgsVectorLayer | None:
        """Return the layer chosen."""
        return self._layer

    def snapshot(self) -> FeatureSnapshot | None:
        """Return the features as they are now; the same object until they change. None without a layer."""
        if self._snapshot is None and self._layer is not None:
            self._snapshot = features_of(self._layer, selected=self.selected_check.isChecked())
        return self._snapshot

    def problem(self, nothing: str) -> str:
        """Say what is missing.

        Args:
            nothing: what to say when there is no layer.

        Returns:
            A sentence; empty when nothing is missing.
        """
        found = self.snapshot()
        if found is None:
            return nothing
        if found.count:
            return ""
        if self.selected_check.isChecked():
            return self.tr("Select features of “{name}”, or take all of them.").format(name=found.name)
        return self.tr("“{name}” has no features. Choose another layer.").format(name=found.name)

    def _signals(self, layer: QgsVectorLayer) -> tuple[object, ...]:
        return (layer.layerModified, layer.dataChanged, layer.subsetStringChanged, layer.afterRollBack)

    def _on_layer(self, layer: QgsMapLayer | None) -> None:
        if self._layer is not None:
            for signal in self._signals(self._layer):
                signal.disconnect(self._renew)
            self._layer.selectionChanged.disconnect(self._on_selection)
            self._layer.willBeDeleted.disconnect(self._on_deleted)
        self._layer = layer if isinstance(layer, QgsVectorLayer) else None
        if self._layer is not None:
            for signal in self._signals(self._layer):
                signal.connect(self._renew)
            self._layer.selectionChanged.connect(self._on_selection)
            self._layer.willBeDeleted.connect(self._on_deleted)
            self.selected_check.setChecked(self._layer.selectedFeatureCount() > 0)
        self._renew()

    def _on_selection(self, *_changes: object) -> None:
        if self.selected_check.isChecked():
            self._renew()

    def _on_deleted(self) -> None:
        self._layer = None  # its C++ side is being destroyed
        self._renew()

    def _renew(self, *_changes: object) -> None:
        self._snapshot = None
        self.selected_check.setEnabled(self._layer is not None)
        self.changed.emit()


class AreaKind(Enum):
    """How the area is chosen: WHOLE rasters, what the map shows (VIEW), POLYGONS of a layer."""

    WHOLE = "whole"
    VIEW = "view"
    POLYGONS = "polygons"


class BatchAreaBox(QWidget):
    """The whole rasters, what the map shows, or polygons.

    Attributes:
        kind_combo: which of them.
        polygons: the layer of polygons.
    """

    changed = pyqtSignal()

    def __init__(self, canvas: QgsMapCanvas, project: QgsProject, parent: QWidget | None = None) -> None:
        """Build the widgets.

        Args:
            canvas: the map.
            project: whose layers can be chosen.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._canvas = canvas
        self._view: FeatureSnapshot | None = None
        self.kind_combo = QComboBox(self)
        self.kind_combo.addItem(self.tr("The whole rasters"), AreaKind.WHOLE)
        self.kind_combo.addItem(self.tr("What the map shows"), AreaKind.VIEW)
        self.kind_combo.addItem(self.tr("Polygons of a layer"), AreaKind.POLYGONS)
        self.polygons = FeaturesChooser(
            self.tr("Pol&ygons"), self.tr("Choose a polygon layer"), Qgis.LayerFilter.PolygonLayer, project, self
        )
        rows = column(self)
        rows.addWidget(wide_row(self, self.tr("&Area"), self.kind_combo))
        rows.addWidget(self.polygons)
        self.kind_combo.currentIndexChanged.connect(self._on_kind)
        self.polygons.changed.connect(self._on_polygons)
        canvas.extentsChanged.connect(self._on_extent)
        self._on_kind()

    @property
    def kind(self) -> AreaKind:
        """Return how the area is chosen."""
        return AreaKind(self.kind_combo.currentData())

    def area(self) -> FeatureSnapshot | None:
        """Return the area; the same object until it changes. None for the whole rasters."""
        if self.kind is AreaKind.POLYGONS:
            return self.polygons.snapshot()
        if self.kind is AreaKind.VIEW and self._view is None:
            shown = self._canvas.mapSettings()
            polygon = QgsGeometry.fromPolygonXY([[QgsPointXY(corner) for corner in shown.visiblePolygon()]])
            self._view = outline_of(polygon, shown.destinationCrs(), self.tr("map"))
        return self._view if self.kind is AreaKind.VIEW else None

    def problem(self) -> str:
        """Say what is missing; empty when nothing is."""
        if self.kind is AreaKind.POLYGONS:
            return self.polygons.problem(self.tr("Choose the layer with the polygons of the area."))
        if self.kind is AreaKind.VIEW and self._canvas.extent().isEmpty():
            return self.tr("The map shows nothing yet. Zoom to the area.")
        return ""

    def stop(self) -> None:
        """Stop listening to the map, which outlives this."""
        self._canvas.extentsChanged.disconnect(self._on_extent)

    def _on_kind(self, _index: int = 0) -> None:
        self.polygons.setVisible(self.kind is AreaKind.POLYGONS)
        self.changed.emit()

    def _on_polygons(self) -> None:
        if self.kind is AreaKind.POLYGONS:
            self.changed.emit()

    def _on_extent(self) -> None:
        self._view = None
        if self.kind is AreaKind.VIEW:
            self.changed.emit()
