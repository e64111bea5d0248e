"""Which raster layer, which bands, which stretch, and a picture of exactly what the model sees."""

from __future__ import annotations

from qgis.core import Qgis, QgsRasterLayer
from qgis.gui import QgsCollapsibleGroupBox, QgsMapLayerComboBox, QgsRasterBandComboBox
from qgis.PyQt.QtCore import QSignalBlocker, Qt, pyqtSignal
from qgis.PyQt.QtGui import QPixmap
from qgis.PyQt.QtWidgets import QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from ..plugin.session import Session, StretchMode
from .forms import add_row, column, compact

THUMBNAIL_SIDE = 144


class RasterBox(QWidget):
    """Shows the session's raster; what the user chooses goes out as signals.

    Attributes:
        layer_combo: the raster layer.
        source_group: bands, stretch and thumbnail; collapsed at first.
        thumbnail: the picture.
    """

    layer_chosen = pyqtSignal(object)
    source_chosen = pyqtSignal(tuple, object)
    thumbnail_wanted = pyqtSignal(bool)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        """Build the widgets and listen to the session."""
        super().__init__(parent)
        self._session = session
        self.layer_combo = QgsMapLayerComboBox(self)
        self.layer_combo.setFilters(Qgis.LayerFilter.RasterLayer)
        self.layer_combo.setAllowEmptyLayer(True, self.tr("Choose a raster layer"))
        compact(self.layer_combo)
        self.layer_combo.setToolTip(self.tr("The raster layer whose objects you want"))
        self.source_group = QgsCollapsibleGroupBox(self.tr("What the model sees"), self)
        self.source_group.setObjectName("samtune_source_group")
        self.source_group.setCollapsed(True)
        self._band_combos = [
            self._make_band_combo(name) for name in (self.tr("red"), self.tr("green"), self.tr("blue"))
        ]
        self.stretch_combo = compact(QComboBox(self))
        self.stretch_combo.addItem(self.tr("Stretch as drawn"), StretchMode.AS_DRAWN)
        self.stretch_combo.addItem(self.tr("Stretch 2–98 % of the layer"), StretchMode.ROBUST)
        self.stretch_combo.setToolTip(
            self.tr("How band values become brightness: as in the layer's style, or by percentiles of the whole layer")
        )
        self.thumbnail = QLabel(self)
        self.thumbnail.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.thumbnail.setWordWrap(True)
        self.thumbnail.setMinimumHeight(THUMBNAIL_SIDE)
        self.thumbnail.setToolTip(self.tr("Exactly what the model was given, with these bands and this stretch"))
        self._lay_out()
        self.layer_combo.layerChanged.connect(self.layer_chosen.emit)
        self.stretch_combo.currentIndexChanged.connect(self._emit_source)
        self.source_group.collapsedStateChanged.connect(lambda collapsed: self.thumbnail_wanted.emit(not collapsed))
        session.layer_changed.connect(self._show_layer)
        session.source_changed.connect(self._show_source)
        session.thumbnail_changed.connect(self._show_thumbnail)
        self._show_layer()
        self._show_thumbnail()

    def _make_band_combo(self, colour: str) -> QgsRasterBandComboBox:
        combo = QgsRasterBandComboBox(self)
        combo.setToolTip(self.tr("Band shown to the model as {colour}").format(colour=colour))
        compact(combo, 3)
        combo.bandChanged.connect(self._emit_source)
        return combo

    def _lay_out(self) -> None:
        bands = QHBoxLayout()
        bands.setSpacing(2)
        for combo in self._band_combos:
            bands.addWidget(combo, 1)
        inner = QVBoxLayout(self.source_group)
        inner.setContentsMargins(4, 4, 4, 4)
        inner.addLayout(bands)
        inner.addWidget(self.stretch_combo)
        inner.addWidget(self.thumbnail)
        outer = column(self)
        add_row(outer, self.tr("&Raster"), self.layer_combo)
        outer.addWidget(self.source_group)

    def _emit_source(self) -> None:
        bands = tuple(combo.currentBand() for combo in self._band_combos)
        if any(band < 1 for band in bands):
            bands = ()
        elif len(set(bands)) == 1:
            bands = bands[:1]
        self.source_chosen.emit(bands, self.stretch_combo.currentData())

    def _show_layer(self) -> None:
        layer = self._session.layer
        with QSignalBlocker(self.layer_combo):
            self.layer_combo.setLayer(layer)
        usable = isinstance(layer, QgsRasterLayer) and not self._session.layer_problem
        for combo in self._band_combos:
            with QSignalBlocker(combo):
                combo.setLayer(layer if usable else None)
        self.source_group.setEnabled(usable)
        self._show_source()

    def _show_source(self) -> None:
        bands = self._session.bands
        shown = bands * 3 if len(bands) == 1 else bands
        for combo, band in zip(self._band_combos, shown):
            with QSignalBlocker(combo):
                combo.setBand(band)
        with QSignalBlocker(self.stretch_combo):
            self.stretch_combo.setCurrentIndex(self.stretch_combo.findData(self._session.stretch))

    def _show_thumbnail(self) -> None:
        picture = QPixmap()
        if self._session.thumbnail and picture.loadFromData(self._session.thumbnail):
            self.thumbnail.setPixmap(
                picture.scaled(
                    THUMBNAIL_SIDE,
                    THUMBNAIL_SIDE,
                    Qt.AspectRatioMode.KeepAspectRatio,
                    Qt.TransformationMode.SmoothTransformation,
                )
            )
        else:
            self.thumbnail.setText(self.tr("Rest the pointer on the raster to see what the model sees."))
