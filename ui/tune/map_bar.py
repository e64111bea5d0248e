"""A small bar in place of the wizard while the user works on the map for it."""

from __future__ import annotations

from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtGui import QCloseEvent
from qgis.PyQt.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

MARGIN = 40


class MapBar(QWidget):
    """Says what to do on the map, and leads back.

    Attributes:
        label: what to do.
        back_button: back to the wizard.

    Signals:
        back_wanted: the user is done on the map.
    """

    back_wanted = pyqtSignal()

    def __init__(self, parent: QWidget) -> None:
        """Build the bar, hidden.

        Args:
            parent: QGIS's window, above which it stays.
        """
        super().__init__(parent, Qt.WindowType.Tool)
        self.setWindowTitle(self.tr("SamTune: teach it your objects"))
        self.label = QLabel(self)
        self.back_button = QPushButton(self.tr("&Back to the wizard"), self)
        row = QHBoxLayout(self)
        row.addWidget(self.label, 1)
        row.addWidget(self.back_button)
        self.back_button.clicked.connect(self.back_wanted)

    def show_over(self, widget: QWidget, text: str) -> None:
        """Show the bar at the upper edge of a widget.

        Args:
            widget: the map.
            text: what to do.
        """
        self.label.setText(text)
        self.adjustSize()
        corner = widget.mapToGlobal(widget.rect().topLeft())
        self.move(corner.x() + max(0, (widget.width() - self.width()) // 2), corner.y() + MARGIN)
        self.show()
        self.raise_()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Called by Qt: its cross leads back as well."""
        super().closeEvent(event)
        self.back_wanted.emit()
