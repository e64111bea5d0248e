"""Where accepted polygons go, and which class they get."""

from __future__ import annotations

from qgis.core import Qgis, QgsVectorLayer
from qgis.gui import QgsFieldComboBox, QgsMapLayerComboBox
from qgis.PyQt.QtCore import QSignalBlocker, pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QPushButton, QWidget

from ..plugin.session import Session
from .forms import add_row, column, compact


class TargetBox(QWidget):
    """Target layer, class field and class.

    Attributes:
        layer_combo: polygon layers of the project.
        new_button: asks for a new GeoPackage.
        field_combo: field of the layer that takes the class.
        class_combo: the class; remembers those used.
    """

    target_chosen = pyqtSignal(object, str)
    class_chosen = pyqtSignal(str)
    new_wanted = pyqtSignal()

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        """Build the widgets and listen to the session."""
        super().__init__(parent)
        self._session = session
        self.layer_combo = QgsMapLayerComboBox(self)
        writable_polygons = Qgis.LayerFilter.PolygonLayer | Qgis.LayerFilter.WritableLayer
        self.layer_combo.setFilters(Qgis.LayerFilters(writable_polygons))
        self.layer_combo.setAllowEmptyLayer(True, self.tr("New GeoPackage"))
        self.layer_combo.setToolTip(self.tr("The polygon layer that takes accepted outlines; it may have any CRS"))
        self.new_button = QPushButton(self.tr("&New…"), self)
        self.new_button.setToolTip(self.tr("Make a new GeoPackage for the polygons"))
        self.field_combo = QgsFieldComboBox(self)
        self.field_combo.setAllowEmptyFieldName(True)
        self.field_combo.setToolTip(self.tr("The field that takes the class"))
        self.class_combo = QComboBox(self)
        self.class_combo.setEditable(True)
        self.class_combo.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.class_combo.lineEdit().setPlaceholderText(self.tr("class (optional)"))
        self.class_combo.setToolTip(self.tr("Class of the next polygon, such as “roof”"))
        rows = column(self)
        add_row(rows, self.tr("&Into"), compact(self.layer_combo), self.new_button)
        add_row(rows, self.tr("&Class"), compact(self.class_combo, 4), compact(self.field_combo, 3))
        self.layer_combo.layerChanged.connect(self._on_layer)
        self.field_combo.fieldChanged.connect(lambda name: self.target_chosen.emit(session.target, name))
        self.class_combo.editTextChanged.connect(self.class_chosen.emit)
        self.new_button.clicked.connect(self.new_wanted)
        session.target_changed.connect(self.refresh)
        self.refresh()

    def remember_class(self) -> None:
        """Offer the current class again later."""
        value = self._session.class_value
        if value and self.class_combo.findText(value) < 0:
            with QSignalBlocker(self.class_combo):
                self.class_combo.insertItem(0, value)
                self.class_combo.setEditText(value)

    def refresh(self) -> None:
        """Show what the session holds."""
        session = self._session
        with QSignalBlocker(self.layer_combo):
            self.layer_combo.setLayer(session.target)
        with QSignalBlocker(self.field_combo):
            self.field_combo.setLayer(session.target)
            self.field_combo.setField(session.class_field)
        self.field_combo.setEnabled(session.target is not None)
        if self.class_combo.currentText() != session.class_value:
            with QSignalBlocker(self.class_combo):
                self.class_combo.setEditText(session.class_value)

    def _on_layer(self, layer: QgsVectorLayer | None) -> None:
        field = ""
        if layer is not None:
            field = next((name for name in layer.fields().names() if name.lower() == "class"), "")
        self.target_chosen.emit(layer, field)
