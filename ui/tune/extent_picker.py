"""Within what everything is labelled: what is known to be none of the objects."""

from __future__ import annotations

from dataclasses import replace

from qgis.core import Qgis, QgsMapLayer
from qgis.gui import QgsMapLayerComboBox
from qgis.PyQt.QtCore import QSignalBlocker, pyqtSignal
from qgis.PyQt.QtWidgets import QGroupBox, QHBoxLayout, QPushButton, QRadioButton, QVBoxLayout, QWidget

from ...plugin.tune_draft import ExtentChoice, ExtentKind, TuneDraft
from ..forms import compact


class ExtentPicker(QGroupBox):
    """A view of the draft's extent.

    Attributes:
        around_radio: only close around each object.
        layer_radio: in the polygons of a layer, chosen in ``layer_combo``.
        drawn_radio: in rectangles drawn on the map by ``draw_button``.

    Signals:
        draw_wanted: a rectangle is to be drawn.
    """

    draw_wanted = pyqtSignal()

    def __init__(self, draft: TuneDraft, parent: QWidget | None = None) -> None:
        """Build the widgets and listen to the draft."""
        super().__init__(parent)
        self.setTitle(self.tr("Where did you draw every one of them?"))
        self._draft = draft
        self.around_radio = QRadioButton(self.tr("Nowhere for certain: learn close around each object only"), self)
        self.layer_radio = QRadioButton(self.tr("Within the polygons of"), self)
        self.drawn_radio = QRadioButton(self)
        self.layer_combo = QgsMapLayerComboBox(self)
        self.layer_combo.setFilters(Qgis.LayerFilter.PolygonLayer)
        self.layer_combo.setAllowEmptyLayer(True, self.tr("choose a layer"))
        self.draw_button = QPushButton(self.tr("D&raw…"), self)
        self.clear_button = QPushButton(self.tr("Clear"), self)
        self.setToolTip(
            self.tr(
                "Where everything was drawn, the rest counts as background. Elsewhere nothing is taken for granted."
            )
        )
        rows = QVBoxLayout(self)
        rows.setContentsMargins(6, 4, 6, 6)
        rows.setSpacing(2)
        rows.addWidget(self.around_radio)
        self._add_row(rows, self.layer_radio, compact(self.layer_combo))
        self._add_row(rows, self.drawn_radio, self.draw_button, self.clear_button)
        self.around_radio.clicked.connect(lambda: self._take(ExtentKind.AROUND))
        self.layer_radio.clicked.connect(lambda: self._take(ExtentKind.LAYER))
        self.drawn_radio.clicked.connect(lambda: self._take(ExtentKind.DRAWN))
        self.layer_combo.layerChanged.connect(self._take_layer)
        self.draw_button.clicked.connect(self.draw_wanted)
        self.clear_button.clicked.connect(lambda: draft.set_extent(ExtentChoice()))
        draft.inputs_changed.connect(self.refresh)
        self.refresh()

    def _add_row(self, rows: QVBoxLayout, radio: QRadioButton, *widgets: QWidget) -> None:
        row = QHBoxLayout()
        row.addWidget(radio)
        for index, widget in enumerate(widgets):
            row.addWidget(widget, int(index == 0))
        rows.addLayout(row)

    def refresh(self) -> None:
        """Show the draft."""
        extent = self._draft.extent
        radios = {
            ExtentKind.AROUND: self.around_radio,
            ExtentKind.LAYER: self.layer_radio,
            ExtentKind.DRAWN: self.drawn_radio,
        }
        radios[extent.kind].setChecked(True)
        drawn = len(extent.drawn)
        text = self.tr("Within rectangles on the map ({n} drawn)") if drawn else self.tr("Within rectangles on the map")
        self.drawn_radio.setText(text.format(n=drawn))
        self.clear_button.setEnabled(bool(drawn))
        layer = self._draft.polygon_layer(extent.layer)
        with QSignalBlocker(self.layer_combo):
            self.layer_combo.setLayer(layer)
            if layer is None:
                self.layer_combo.setCurrentIndex(0)  # says what to do

    def _take(self, kind: ExtentKind) -> None:
        self._draft.set_extent(replace(self._draft.extent, kind=kind))

    def _take_layer(self, layer: QgsMapLayer | None) -> None:
        kind = ExtentKind.LAYER if layer is not None else ExtentKind.AROUND
        self._draft.set_extent(replace(self._draft.extent, kind=kind, layer=layer.id() if layer is not None else ""))
