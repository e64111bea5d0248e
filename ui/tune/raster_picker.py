"""Which raster layers to learn on, which of their bands, and a second raster."""

from __future__ import annotations

from qgis.core import Qgis, QgsMapLayer, QgsProject, QgsRasterLayer
from qgis.gui import QgsCheckableComboBox, QgsMapLayerComboBox, QgsRasterBandComboBox
from qgis.PyQt.QtCore import QEvent, QObject, Qt, QTimer
from qgis.PyQt.QtWidgets import QGroupBox, QHBoxLayout, QListWidgetItem, QVBoxLayout, QWidget

from ...plugin.layers import unusable_reason
from ...plugin.tune_draft import TuneDraft
from ..forms import add_row, compact
from .layer_list import LayerList


class RasterPicker(QGroupBox):
    """A view of the draft's rasters.

    Attributes:
        list: raster layers of the project; the checked ones are learnt on.
        band_combos: bands shown as red, green, blue.
        further_combo: bands given besides.
        second_combo: the second raster.
    """

    def __init__(self, draft: TuneDraft, project: QgsProject, parent: QWidget | None = None) -> None:
        """Build the widgets and listen to the draft and the project.

        Args:
            draft: the choices.
            project: whose layers are offered.
            parent: Qt parent.
        """
        super().__init__(parent)
        self.setTitle(self.tr("Imagery"))
        self._draft = draft
        self._project = project
        self._showing = False  # QSignalBlocker does not do: QGIS's combo boxes unblock their own signals
        self.list = LayerList(4, self)
        self.list.setToolTip(self.tr("Rasters that show your objects: one, or several of the same kind"))
        self.band_combos = [self._make_band(name) for name in (self.tr("red"), self.tr("green"), self.tr("blue"))]
        self.further_combo = QgsCheckableComboBox(self)
        self.further_combo.setDefaultText(self.tr("none"))
        self.further_combo.setToolTip(
            self.tr("Bands that the model is given besides the three; infrared, for instance")
        )
        self.second_combo = QgsMapLayerComboBox(self)
        self.second_combo.setFilters(Qgis.LayerFilter.RasterLayer)
        self.second_combo.setAllowEmptyLayer(True, self.tr("none"))
        self.second_combo.setToolTip(self.tr("Another raster of the same ground: height, radar, slope …"))
        self._lay_out()
        self.list.chosen.connect(lambda: draft.set_rasters(self.list.checked()))
        self.further_combo.checkedItemsChanged.connect(self._take_further)
        self.further_combo.view().installEventFilter(self)
        self.second_combo.layerChanged.connect(self._take_second)
        draft.inputs_changed.connect(self.refresh)
        project.layersAdded.connect(self.refresh)
        project.layersRemoved.connect(self.refresh)
        self.refresh()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Called by Qt: further bands are taken when their list is closed."""
        if event.type() == QEvent.Type.Hide:
            QTimer.singleShot(0, self._take_bands)
        return super().eventFilter(watched, event)

    def _make_band(self, colour: str) -> QgsRasterBandComboBox:
        combo = QgsRasterBandComboBox(self)
        combo.setToolTip(self.tr("Band shown to the model as {colour}").format(colour=colour))
        combo.bandChanged.connect(lambda _band: self._take_bands())
        return compact(combo, 3)

    def _lay_out(self) -> None:
        bands = QWidget(self)
        row = QHBoxLayout(bands)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        for combo in self.band_combos:
            row.addWidget(combo, 1)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(6, 4, 6, 6)
        rows.addWidget(self.list)
        add_row(rows, self.tr("&Bands"), bands)
        add_row(rows, self.tr("&Besides"), self.further_combo)
        add_row(rows, self.tr("&Second"), compact(self.second_combo))

    def refresh(self, *_details: object) -> None:
        """Show the draft, and the layers that there are."""
        self._showing = True
        layers = [layer for layer in self._project.mapLayers().values() if isinstance(layer, QgsRasterLayer)]
        self.list.show_layers(layers, self._draft.rasters, _fit)
        self._show_bands()
        second = self._draft.second_layer()
        self.second_combo.setExceptedLayerList(list(self._draft.raster_layers()))
        self.second_combo.setLayer(second)
        if second is None:
            self.second_combo.setCurrentIndex(0)
        self._showing = False

    def _show_bands(self) -> None:
        layer = next(iter(self._draft.raster_layers()), None)
        rgb = self._draft.rgb
        shown = rgb * 3 if len(rgb) == 1 else rgb
        for index, combo in enumerate(self.band_combos):
            if combo.layer() is not layer:
                combo.setLayer(layer)
            if layer is not None:
                combo.setBand(shown[index] if shown else min(index + 1, layer.bandCount()))
        names = [layer.bandName(band + 1) for band in range(layer.bandCount())] if layer is not None else []
        if names != [self.further_combo.itemText(index) for index in range(self.further_combo.count())]:
            self.further_combo.clear()
            for band, name in enumerate(names, 1):
                self.further_combo.addItemWithCheckState(name, Qt.CheckState.Unchecked, band)
        for index in range(len(names)):
            chosen = Qt.CheckState.Checked if index + 1 in self._draft.further else Qt.CheckState.Unchecked
            if self.further_combo.itemCheckState(index) != chosen:
                self.further_combo.setItemCheckState(index, chosen)

    def _take_further(self) -> None:
        if not self.further_combo.view().isVisible():  # what the wizard does at a change would close the list
            self._take_bands()

    def _take_bands(self) -> None:
        if self._showing:
            return
        rgb = tuple(combo.currentBand() for combo in self.band_combos)
        if any(band < 1 for band in rgb):
            rgb = ()
        elif len(set(rgb)) == 1:
            rgb = rgb[:1]
        self._draft.set_bands(rgb, tuple(int(band) for band in self.further_combo.checkedItemsData()))

    def _take_second(self, layer: QgsMapLayer | None) -> None:
        if not self._showing:
            self._draft.set_second(layer.id() if layer is not None else "")


def _fit(item: QListWidgetItem, layer: QgsMapLayer) -> None:
    """Say why a layer cannot be used, where it cannot."""
    reason = unusable_reason(layer)
    item.setFlags(Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
    if reason:
        item.setFlags(Qt.ItemFlag.NoItemFlags)
    item.setToolTip(reason or layer.source())
