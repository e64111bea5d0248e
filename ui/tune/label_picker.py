"""Which polygons to learn from: layers, and of each which features and what class."""

from __future__ import annotations

from qgis.core import QgsProject, QgsVectorLayer
from qgis.gui import QgsFieldComboBox, QgsFieldExpressionWidget
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QCheckBox, QGroupBox, QLineEdit, QPushButton, QVBoxLayout, QWidget

from ...plugin.tune_draft import LabelChoice, TuneDraft, first_choice, is_polygons
from ..forms import add_row, column, compact
from .layer_list import LayerList


class LabelPicker(QGroupBox):
    """A view of the draft's labels. Below the list is what is taken of the layer that is current in it.

    Attributes:
        list: polygon layers of the project; the checked ones are learnt from.
        selected_check: only the selected features.
        filter_edit: only those for which an expression is true.
        class_combo: field with the class; empty for one class.
        name_edit: name of the one class.
        draw_button: draw more with the click tool.

    Signals:
        draw_wanted: more is to be drawn into the layer of this id, empty for a new one.
    """

    draw_wanted = pyqtSignal(str)

    def __init__(self, draft: TuneDraft, project: QgsProject, parent: QWidget | None = None) -> None:
        """Build the widgets and listen to the draft and the project.

        Args:
            draft: the choices.
            project: whose layers are offered.
            parent: Qt parent.
        """
        super().__init__(parent)
        self.setTitle(self.tr("Your objects"))
        self._draft = draft
        self._project = project
        self._showing = False  # QSignalBlocker does not do: QGIS's combo boxes unblock their own signals
        self.list = LayerList(5, self)
        self.list.setToolTip(self.tr("Polygon layers that hold some of your objects; the settings below are of each"))
        self.selected_check = QCheckBox(self)
        self.filter_edit = QgsFieldExpressionWidget(self)
        self.filter_edit.setExpressionDialogTitle(self.tr("Polygons to learn from"))
        self.filter_edit.setToolTip(self.tr("Only polygons for which this expression is true; empty for all"))
        self.class_combo = QgsFieldComboBox(self)
        self.class_combo.setAllowEmptyFieldName(True)
        self.class_combo.setToolTip(self.tr("Field with the class of each polygon; empty: all are of one class"))
        self.name_edit = QLineEdit(self)
        self.name_edit.setPlaceholderText(self.tr("name of the class"))
        self.draw_button = QPushButton(self.tr("&Draw more with the click tool…"), self)
        self.draw_button.setToolTip(self.tr("Click objects on the map; each one that you keep is learnt from as well"))
        self._lay_out()
        self.list.chosen.connect(self._take_layers)
        self.list.currentItemChanged.connect(lambda _item, _before: self._show_current())
        self.selected_check.toggled.connect(lambda on: self._change(selected_only=on))
        self.filter_edit.fieldChanged.connect(lambda text, _valid=True: self._change(expression=str(text).strip()))
        self.class_combo.fieldChanged.connect(self._take_field)
        self.name_edit.textEdited.connect(lambda text: self._change(class_name=text))
        self.draw_button.clicked.connect(lambda: self.draw_wanted.emit(self.list.current()))
        draft.inputs_changed.connect(self.refresh)
        project.layersAdded.connect(self.refresh)
        project.layersRemoved.connect(self.refresh)
        self.refresh()

    def _lay_out(self) -> None:
        self._settings = QWidget(self)
        inner = column(self._settings)
        inner.addWidget(self.selected_check)
        add_row(inner, self.tr("&Filter"), self.filter_edit)
        add_row(inner, self.tr("&Class"), compact(self.class_combo), self.name_edit)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(6, 4, 6, 6)
        rows.addWidget(self.list)
        rows.addWidget(self._settings)
        rows.addWidget(self.draw_button)

    def refresh(self, *_details: object) -> None:
        """Show the draft, and the layers that there are."""
        self._showing = True
        layers = [layer for layer in self._project.mapLayers().values() if is_polygons(layer)]
        self.list.show_layers(layers, {choice.layer for choice in self._draft.labels})
        if self.list.currentItem() is None and self.list.count():
            self.list.setCurrentRow(0)
        self._show_current()
        self._showing = False

    def _current(self) -> tuple[LabelChoice | None, QgsVectorLayer | None]:
        name = self.list.current()
        choice = next((choice for choice in self._draft.labels if choice.layer == name), None)
        return choice, self._draft.polygon_layer(name)

    def _show_current(self) -> None:
        choice, layer = self._current()
        self._settings.setEnabled(choice is not None)
        shown = choice or LabelChoice("")
        count = layer.selectedFeatureCount() if layer is not None else 0
        self.selected_check.setText(self.tr("Only selected features ({n} are)").format(n=count))
        before, self._showing = self._showing, True
        self.selected_check.setChecked(shown.selected_only)
        if self.filter_edit.layer() is not layer:
            self.filter_edit.setLayer(layer)
        if self.filter_edit.currentText().strip() != shown.expression:
            self.filter_edit.setExpression(shown.expression)
        if self.class_combo.layer() is not layer:
            self.class_combo.setLayer(layer)
        self.class_combo.setField(shown.class_field)
        if self.name_edit.text() != shown.class_name:
            self.name_edit.setText(shown.class_name)
        self._showing = before
        self.name_edit.setVisible(not shown.class_field)

    def _take_layers(self) -> None:
        known = {choice.layer: choice for choice in self._draft.labels}
        layers = [self._draft.polygon_layer(name) for name in self.list.checked()]
        labels = [known.get(layer.id()) or first_choice(layer) for layer in layers if layer is not None]
        self._draft.set_labels(tuple(labels))

    def _take_field(self, name: str | None) -> None:
        self._change(class_field=name or "")

    def _change(self, **changes: object) -> None:
        choice, _layer = self._current()
        if choice is not None and not self._showing:
            self._draft.change_labels(choice.layer, **changes)
