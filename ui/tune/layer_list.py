"""Layers of the project with a box to check at each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from qgis.core import QgsMapLayer
from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QListWidget, QListWidgetItem, QWidget

ID = Qt.ItemDataRole.UserRole


class LayerList(QListWidget):
    """Shows layers, those chosen first when they are listed, and which of them are chosen.

    Signals:
        chosen: the user has checked or unchecked one.
    """

    chosen = pyqtSignal()

    def __init__(self, lines: int, parent: QWidget | None = None) -> None:
        """Begin without layers.

        Args:
            lines: height.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._offered: frozenset[tuple[str, str]] = frozenset()
        self._showing = False
        self.setFixedHeight(self.fontMetrics().height() * lines)
        self.itemChanged.connect(self._on_changed)

    def show_layers(
        self,
        layers: Sequence[QgsMapLayer],
        chosen: Collection[str],
        fit: Callable[[QListWidgetItem, QgsMapLayer], None] | None = None,
    ) -> None:
        """Show layers; the list stays in its order, and the current one current, while there are the same.

        Args:
            layers: those that there are.
            chosen: identifiers of those to be checked.
            fit: completes the line of a layer.
        """
        self._showing = True
        offered = frozenset((layer.id(), layer.name()) for layer in layers)
        if offered != self._offered:
            self._offered = offered
            self._list(sorted(layers, key=lambda layer: (layer.id() not in chosen, layer.name())), fit)
        for item in self._items():
            item.setCheckState(Qt.CheckState.Checked if item.data(ID) in chosen else Qt.CheckState.Unchecked)
        self._showing = False

    def checked(self) -> tuple[str, ...]:
        """Return the identifiers of the layers that are checked."""
        return tuple(str(item.data(ID)) for item in self._items() if item.checkState() == Qt.CheckState.Checked)

    def current(self) -> str:
        """Return the identifier of the current layer; empty for none."""
        item = self.currentItem()
        return str(item.data(ID)) if item is not None else ""

    def _items(self) -> list[QListWidgetItem]:
        return [self.item(index) for index in range(self.count())]

    def _list(self, layers: list[QgsMapLayer], fit: Callable[[QListWidgetItem, QgsMapLayer], None] | None) -> None:
        current = self.current()
        self.clear()
        for layer in layers:
            item = QListWidgetItem(layer.name(), self)
            item.setData(ID, layer.id())
            if fit is not None:
                fit(item, layer)
            if layer.id() == current:
                self.setCurrentItem(item)

    def _on_changed(self, _item: QListWidgetItem) -> None:
        if not self._showing:
            self.chosen.emit()
