"""Single keys over the map while something is being gone through, whatever map tool is active."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import QEvent, QObject, Qt
from qgis.PyQt.QtGui import QKeyEvent

_PLAIN = (Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.KeypadModifier)


class CanvasKeys(QObject):
    """Takes keys before the map and its tool see them; only while switched on."""

    def __init__(
        self,
        canvas: QgsMapCanvas,
        keys: Mapping[Qt.Key, Callable[[], object]],
        may_act: Callable[[Qt.Key], bool],
        parent: QObject | None = None,
    ) -> None:
        """Keep the keys; none is taken yet.

        Args:
            canvas: the map.
            keys: what each does.
            may_act: asked before a key is taken; False leaves it to the map tool.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._canvas = canvas
        self._keys = keys
        self._may_act = may_act
        self._on = False

    def set_on(self, on: bool) -> None:  # noqa: FBT001 - as Qt's setters
        """Take the keys, or leave them."""
        if on == self._on:
            return
        self._on = on
        if on:
            self._canvas.installEventFilter(self)
        else:
            self._canvas.removeEventFilter(self)

    def eventFilter(self, _watched: object, event: QEvent) -> bool:
        """Called by Qt for every event of the map."""
        if event.type() not in (QEvent.Type.KeyPress, QEvent.Type.ShortcutOverride):
            return False
        act = self._action(event)
        if act is None:
            return False
        event.accept()  # a shortcut of QGIS's with the same letter must wait
        if event.type() == QEvent.Type.KeyPress and not event.isAutoRepeat():
            act()
        return True

    def _action(self, event: QKeyEvent) -> Callable[[], object] | None:
        key = event.key()
        if event.modifiers() not in _PLAIN or key not in self._keys or not self._may_act(key):
            return None
        return self._keys[key]
