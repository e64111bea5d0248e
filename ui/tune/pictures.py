"""A row of pictures that came from the engine as PNG, each with a line of text below."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from qgis.PyQt.QtCore import QSize, Qt
from qgis.PyQt.QtGui import QIcon, QPixmap
from qgis.PyQt.QtWidgets import QAbstractItemView, QFrame, QListView, QListWidget, QListWidgetItem, QWidget

from ...engine.tune_messages import Picture


class PictureStrip(QListWidget):
    """Pictures side by side; scrolls where there is no room for all. Only what has changed is decoded."""

    def __init__(self, side: int, parent: QWidget | None = None) -> None:
        """Begin empty.

        Args:
            side: longest side of a picture as shown, pixels.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._shown: tuple[Picture, ...] = ()
        self._side = side
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(False)
        self.setMovement(QListView.Movement.Static)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setIconSize(QSize(side, side))
        self.setWordWrap(True)
        lines = 2 * self.fontMetrics().height()
        self.setGridSize(QSize(side + 12, side + lines + 8))
        self.setFixedHeight(side + lines + 14 + self.horizontalScrollBar().sizeHint().height())
        self.viewport().setAutoFillBackground(False)

    def show_pictures(self, pictures: Sequence[Picture]) -> None:
        """Show other pictures."""
        if tuple(pictures) == self._shown:
            return
        self._shown = tuple(pictures)
        self.clear()
        for picture in self._shown:
            item = QListWidgetItem(QIcon(_pixmap(picture, self._side)), picture.title)
            item.setToolTip(picture.title)
            item.setTextAlignment(Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop)
            self.addItem(item)


def _pixmap(picture: Picture, side: int) -> QPixmap:
    """Decode a picture; one that cannot be read is blank."""
    pixmap = QPixmap()
    try:
        raw = base64.b64decode(picture.png, validate=True)
    except binascii.Error:
        raw = b""
    if not pixmap.loadFromData(raw):
        pixmap = QPixmap(side, side)
        pixmap.fill(Qt.GlobalColor.lightGray)
    keep, smooth = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
    return pixmap.scaled(side, side, keep, smooth)
