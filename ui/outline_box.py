"""How much of the ground the model sees, and how the outline is cleaned; acts on the current outline at once."""

from __future__ import annotations

from qgis.core import QgsPointXY, QgsProject
from qgis.PyQt.QtCore import QSignalBlocker, Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QLabel, QSlider, QWidget

from ..plugin.map_frame import ground_text, metres_per_unit
from ..plugin.session import Session
from .forms import add_row, column, compact

SIMPLIFY_STEP = 0.25
SIMPLIFY_STEPS = 24
HOLE_STEP = 2.0
HOLE_STEPS = 32


class OutlineBox(QWidget):
    """Level, simplification and hole filling; lengths are shown on the ground.

    Attributes:
        level_combo: Auto, or a fixed level.
        simplify_slider: in quarters of a pixel of the model's input.
        hole_slider: side of the largest hole that is filled, in two such pixels.
    """

    level_chosen = pyqtSignal(object)
    options_chosen = pyqtSignal(float, float)

    def __init__(self, session: Session, project: QgsProject, parent: QWidget | None = None) -> None:
        """Build the widgets and listen to the session."""
        super().__init__(parent)
        self._session = session
        self._project = project
        self.level_combo = compact(QComboBox(self))
        self.level_combo.setToolTip(
            self.tr(
                "How large a pixel is that the model sees. Auto: as large as a pixel of the screen, so zooming decides."
            )
        )
        self.simplify_slider, self.simplify_label = self._make_slider(SIMPLIFY_STEPS)
        self.simplify_slider.setToolTip(self.tr("How far simplification may move the outline"))
        self.hole_slider, self.hole_label = self._make_slider(HOLE_STEPS)
        self.hole_slider.setToolTip(self.tr("Holes and loose parts smaller than this are removed"))
        rows = column(self)
        add_row(rows, self.tr("&Detail"), self.level_combo)
        add_row(rows, self.tr("&Simplify"), self.simplify_slider, self.simplify_label)
        add_row(rows, self.tr("&Holes"), self.hole_slider, self.hole_label)
        self.level_combo.activated.connect(lambda _index: self.level_chosen.emit(self.level_combo.currentData()))
        self.simplify_slider.valueChanged.connect(self._emit_options)
        self.hole_slider.valueChanged.connect(self._emit_options)
        for signal in (session.raster_changed, session.level_changed, session.crop_changed, session.options_changed):
            signal.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show what the session holds."""
        session = self._session
        self._show_levels()
        with QSignalBlocker(self.simplify_slider), QSignalBlocker(self.hole_slider):
            self.simplify_slider.setValue(round(session.simplify / SIMPLIFY_STEP))
            self.hole_slider.setValue(round(session.fill_holes / HOLE_STEP))
        pixel = session.model_pixel()
        known = pixel > 0
        self.simplify_label.setText(self._or_off(self._ground(session.simplify * pixel), session.simplify, known))
        self.hole_label.setText(self._or_off(self._area(session.fill_holes * pixel), session.fill_holes, known))

    def _make_slider(self, steps: int) -> tuple[QSlider, QLabel]:
        slider = QSlider(Qt.Orientation.Horizontal, self)
        slider.setRange(0, steps)
        slider.setPageStep(4)
        label = QLabel(self)
        label.setMinimumWidth(label.fontMetrics().horizontalAdvance("000.0 m²"))
        return slider, label

    def _show_levels(self) -> None:
        session = self._session
        raster = session.raster
        with QSignalBlocker(self.level_combo):
            self.level_combo.clear()
            self.level_combo.addItem(self._auto_text(), None)
            if raster is not None:
                for level in range(raster.min_level, raster.max_level + 1):
                    self.level_combo.addItem(self._level_text(level), level)
            index = 0 if session.fixed_level is None else self.level_combo.findData(session.fixed_level)
            self.level_combo.setCurrentIndex(max(0, index))

    def _level_text(self, level: int) -> str:
        return self.tr("{length} per pixel").format(length=self._ground(self._session.model_pixel(level)))

    def _auto_text(self) -> str:
        session = self._session
        if session.used_level is None or session.fixed_level is not None:
            return self.tr("Auto (as you zoom)")
        return self.tr("Auto: {text}").format(text=self._level_text(session.used_level))

    def _emit_options(self) -> None:
        self.options_chosen.emit(self.simplify_slider.value() * SIMPLIFY_STEP, self.hole_slider.value() * HOLE_STEP)

    def _or_off(self, text: str, value: float, known: bool) -> str:  # noqa: FBT001 - two facts
        if value <= 0:
            return self.tr("off")
        return text if known else ""

    def _centre(self) -> QgsPointXY:
        layer = self._session.layer
        return layer.extent().center() if layer is not None else QgsPointXY()

    def _ground(self, length: float) -> str:
        layer = self._session.layer
        if layer is None:
            return ""
        return ground_text(length, layer.crs(), self._centre(), self._project)

    def _area(self, side: float) -> str:
        layer = self._session.layer
        if layer is None:
            return ""
        if not layer.crs().isValid():
            return f"{side * side:.3g} px²"
        metres = side * metres_per_unit(layer.crs(), self._centre(), self._project)
        return area_text(metres * metres)


def area_text(square_metres: float) -> str:
    """Say an area for people."""
    if square_metres >= 1e6:
        return f"{square_metres / 1e6:.3g} km²"
    if square_metres >= 1e4:
        return f"{square_metres / 1e4:.3g} ha"
    return f"{square_metres:.2g} m²" if square_metres < 100 else f"{square_metres:.0f} m²"
