"""A hand on mouse and keyboard for the demonstration, and waiting without blocking QGIS."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Protocol

from qgis.core import QgsCoordinateTransform, QgsPointXY, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QEventLoop, QPoint, Qt, QTimer
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QWidget
from qgis.utils import iface


class Hand(Protocol):
    """What a user does to widgets; positions are in the widget's own pixels."""

    def move(self, widget: QWidget, place: QPoint) -> None:
        """Move the pointer."""

    def click(self, widget: QWidget, place: QPoint, button: Qt.MouseButton = Qt.MouseButton.LeftButton) -> None:
        """Press and release a button."""

    def drag(self, widget: QWidget, start: QPoint, end: QPoint) -> None:
        """Move with the left button held."""

    def key(self, widget: QWidget, key: Qt.Key) -> None:
        """Press a key."""

    def type(self, widget: QWidget, text: str) -> None:
        """Replace the text of a line and press Return."""


class XHand:
    """Events of the X server by xdotool: Qt gets them as it gets those of a mouse."""

    def _do(self, *arguments: object) -> None:
        subprocess.run(["xdotool", *map(str, arguments)], check=True, timeout=20)
        settle(60)

    def _place(self, widget: QWidget, place: QPoint) -> tuple[int, int]:
        there, ratio = widget.mapToGlobal(place), widget.devicePixelRatioF()
        return round(there.x() * ratio), round(there.y() * ratio)

    def move(self, widget: QWidget, place: QPoint) -> None:
        """Move the pointer there in two steps, so that widgets see it come."""
        x, y = self._place(widget, place)
        self._do("mousemove", x - 3, y - 2)
        self._do("mousemove", x, y)

    def click(self, widget: QWidget, place: QPoint, button: Qt.MouseButton = Qt.MouseButton.LeftButton) -> None:
        """Press and release a button."""
        self.move(widget, place)
        self._do("click", 1 if button == Qt.MouseButton.LeftButton else 3)

    def drag(self, widget: QWidget, start: QPoint, end: QPoint) -> None:
        """Move with the left button held, in a few steps."""
        self.move(widget, start)
        self._do("mousedown", 1)
        x0, y0 = self._place(widget, start)
        x1, y1 = self._place(widget, end)
        for step in range(1, 9):
            self._do("mousemove", x0 + (x1 - x0) * step // 8, y0 + (y1 - y0) * step // 8)
        self._do("mouseup", 1)

    def key(self, widget: QWidget, key: Qt.Key) -> None:
        """Press Return."""
        widget.setFocus()
        self._do("key", {Qt.Key.Key_Return: "Return", Qt.Key.Key_Escape: "Escape"}[key])

    def type(self, widget: QWidget, text: str) -> None:
        """Replace the text of the line and press Return. Does not wait: a dialog's answer ends its event loop."""
        widget.setFocus()
        keys = ["xdotool", "key", "ctrl+a", "type", "--delay", "5", text]
        subprocess.Popen(["/bin/sh", "-c", '"$@"; sleep 0.3; xdotool key Return', "sh", *keys])


class QtHand:
    """Events made by Qt, for a display that a person is using."""

    def move(self, widget: QWidget, place: QPoint) -> None:
        """Tell the widget that the pointer moved."""
        QTest.mouseMove(widget, place)
        settle(60)

    def click(self, widget: QWidget, place: QPoint, button: Qt.MouseButton = Qt.MouseButton.LeftButton) -> None:
        """Press and release a button."""
        self.move(widget, place)
        QTest.mouseClick(widget, button, Qt.KeyboardModifier.NoModifier, place)
        settle(60)

    def drag(self, widget: QWidget, start: QPoint, end: QPoint) -> None:
        """Press, move, release."""
        QTest.mousePress(widget, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, start)
        QTest.mouseMove(widget, end)
        settle(60)
        QTest.mouseRelease(widget, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, end)

    def key(self, widget: QWidget, key: Qt.Key) -> None:
        """Press a key."""
        QTest.keyClick(widget, key)

    def type(self, widget: QWidget, text: str) -> None:
        """Replace the text of the line and press Return."""
        QTest.keyClick(widget, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
        QTest.keyClicks(widget, text)
        QTest.keyClick(widget, Qt.Key.Key_Return)


def hand_for_this_display() -> Hand:
    """Return the X server's hand on a virtual display, Qt's on a visible one."""
    virtual = os.environ.get("SAMTUNE_VISIBLE") != "1"
    return XHand() if virtual and shutil.which("xdotool") else QtHand()


def on_screen(layer: QgsRasterLayer, column: float, row: float) -> tuple[QWidget, QPoint]:
    """Return where a place of a raster is on the map canvas.

    Args:
        layer: an unrotated raster layer.
        column: pixels from the layer's left edge.
        row: pixels from its top edge.

    Returns:
        The canvas's viewport and the place in its pixels.
    """
    extent = layer.extent()
    x = extent.xMinimum() + column * layer.rasterUnitsPerPixelX()
    y = extent.yMaximum() - row * layer.rasterUnitsPerPixelY()
    canvas = iface.mapCanvas()
    project = QgsProject.instance()
    to_map = QgsCoordinateTransform(layer.crs(), canvas.mapSettings().destinationCrs(), project)
    place = canvas.getCoordinateTransform().transform(to_map.transform(QgsPointXY(x, y)))
    return canvas.viewport(), QPoint(round(place.x()), round(place.y()))


def settle(milliseconds: int) -> None:
    """Let QGIS work for a while."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def wait_for(condition: Callable[[], bool], seconds: float, what: str, why: Callable[[], str] = str) -> None:
    """Let QGIS work until a condition holds.

    Args:
        condition: looked at every 30 ms.
        seconds: the longest wait.
        what: is waited for, for the error.
        why: asked for more when it did not come.

    Raises:
        TimeoutError: it did not come.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s in vain for {what}. {why()}".strip())
        settle(30)
