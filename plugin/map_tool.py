"""The map tool: clicks and boxes become prompts, the pointer's position asks for previews. Signals out only."""

from __future__ import annotations

from enum import Enum

from qgis.core import QgsPointXY
from qgis.gui import QgsMapCanvas, QgsMapMouseEvent, QgsMapTool
from qgis.PyQt.QtCore import QEvent, QPoint, QRect, Qt, pyqtSignal
from qgis.PyQt.QtGui import QKeyEvent
from qgis.PyQt.QtWidgets import QApplication

from .canvas_bands import CanvasBands


class ToolMode(Enum):
    """What the mouse is doing: nothing pressed, pressed without having moved yet, or drawing a box."""

    IDLE = "idle"
    PRESSED = "pressed"
    DRAGGING = "dragging"


class PromptTool(QgsMapTool):
    """Left click: belongs to the object. Right or Shift click: does not. Drag: a box. Keys go out as signals.

    All points are in the map's CRS, unsnapped: prompts point at pixels, not at vertices of layers. QGIS's Shift-drag
    zoom is not allowed, for it would swallow Shift clicks.
    """

    point_added = pyqtSignal(QgsPointXY, bool)
    box_drawn = pyqtSignal(tuple)
    hovered = pyqtSignal(QgsPointXY)
    pointer_left = pyqtSignal()
    accept_requested = pyqtSignal()
    undo_requested = pyqtSignal()
    clear_requested = pyqtSignal()

    def __init__(self, canvas: QgsMapCanvas, bands: CanvasBands) -> None:
        """Keep the bands; they are shown while the tool is active."""
        super().__init__(canvas)
        self._bands = bands
        self._mode = ToolMode.IDLE
        self._start = QgsPointXY()
        self.setCursor(Qt.CursorShape.CrossCursor)

    @property
    def mode(self) -> ToolMode:
        """Return what the mouse is doing."""
        return self._mode

    def activate(self) -> None:
        """Show the bands and listen for the pointer leaving the map."""
        self._mode = ToolMode.IDLE
        self.canvas().viewport().installEventFilter(self)
        self._bands.set_visible(True)
        super().activate()

    def deactivate(self) -> None:
        """Hide everything; nothing is forgotten."""
        self._mode = ToolMode.IDLE
        self.canvas().viewport().removeEventFilter(self)
        self._bands.set_visible(False)
        super().deactivate()

    def canvasPressEvent(self, event: QgsMapMouseEvent) -> None:
        """Begin a click or a box."""
        if event.button() == Qt.MouseButton.LeftButton:
            self._start = event.mapPoint()
            self._mode = ToolMode.PRESSED

    def canvasMoveEvent(self, event: QgsMapMouseEvent) -> None:
        """Draw the box, or tell where the pointer is."""
        point = event.mapPoint()
        if self._mode is ToolMode.PRESSED and self._moved_far(point):
            self._mode = ToolMode.DRAGGING
        if self._mode is ToolMode.DRAGGING:
            self._bands.show_drag(self._corners(point))
        elif self._mode is ToolMode.IDLE:
            self.hovered.emit(point)

    def canvasReleaseEvent(self, event: QgsMapMouseEvent) -> None:
        """Finish a click or a box."""
        point = event.mapPoint()
        if event.button() == Qt.MouseButton.RightButton and self._mode is ToolMode.IDLE:
            self.point_added.emit(point, False)
            return
        if event.button() != Qt.MouseButton.LeftButton:
            return
        mode, self._mode = self._mode, ToolMode.IDLE
        self._bands.show_drag(())
        if mode is ToolMode.DRAGGING or (mode is ToolMode.PRESSED and self._moved_far(point)):
            corners = self._corners(point)
            if corners:
                self.box_drawn.emit(corners)
        elif mode is ToolMode.PRESSED:
            shift = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
            self.point_added.emit(self._start, not shift)

    def canvasDoubleClickEvent(self, event: QgsMapMouseEvent) -> None:
        """Ignore: its two clicks have been taken, and its second press must not begin a box."""

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Enter accepts, Backspace takes back the last prompt, Esc gives up the box or the object."""
        key = event.key()
        if key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.accept_requested.emit()
        elif key == Qt.Key.Key_Backspace:
            self.undo_requested.emit()
            event.ignore()  # an accepted one makes QGIS delete the selected features of the active layer
            return
        elif key == Qt.Key.Key_Escape:
            if self._mode is ToolMode.IDLE:
                self.clear_requested.emit()
            self._mode = ToolMode.IDLE
            self._bands.show_drag(())
        else:
            super().keyPressEvent(event)
            return
        event.accept()

    def eventFilter(self, _watched: object, event: QEvent) -> bool:
        """Tell when the pointer leaves the map; the canvas does not pass that on to tools."""
        if event.type() == QEvent.Type.Leave:
            self.pointer_left.emit()
        return False

    def _moved_far(self, point: QgsPointXY) -> bool:
        moved = self.toCanvasCoordinates(point) - self.toCanvasCoordinates(self._start)
        return bool(moved.manhattanLength() >= QApplication.startDragDistance())

    def _corners(self, point: QgsPointXY) -> tuple[QgsPointXY, ...]:
        """Return the corners of the box from the start to a point, upright on the screen; none for a line."""
        box = QRect(self.toCanvasCoordinates(self._start), self.toCanvasCoordinates(point)).normalized()
        if box.width() < 2 or box.height() < 2:
            return ()
        corners = (box.topLeft(), box.topRight(), box.bottomRight(), box.bottomLeft())
        return tuple(self.toMapCoordinates(QPoint(corner)) for corner in corners)
