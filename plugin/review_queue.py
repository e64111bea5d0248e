"""Which polygons of a layer nobody has looked at, the unsure ones first; follows the layer's edits."""

from __future__ import annotations

import bisect

from qgis.core import QgsFeature, QgsFeatureRequest, QgsVectorLayer
from qgis.PyQt.QtCore import QObject, QTimer, QVariant, pyqtSignal

from .slices import Slices, Steps

REVIEWED = "reviewed"
SCORE = "score"

Key = tuple[float, float, int]


def doubt_key(score: float | None, feature_id: int) -> Key:
    """Return what features are sorted by: scores nearest one half first, of those the lower first; unknown ones lead.

    Args:
        score: 0 to 1; None where it is not known.
        feature_id: keeps the order the same every time.
    """
    if score is None:
        return (-1.0, 0.0, feature_id)
    return (round(abs(score - 0.5), 4), score, feature_id)


class ReviewQueue(QObject):
    """The features still to be reviewed, and the one that is looked at.

    It never writes to the layer. Whatever changes there, by whomever, by undo and redo, saving or a filter, is
    followed. What had left the queue and comes back (an undo) becomes the current one.

    Signals:
        changed: another current feature, or another number of them.
        ended: the layer is going.
    """

    changed = pyqtSignal()
    ended = pyqtSignal()

    def __init__(self, layer: QgsVectorLayer, parent: QObject | None = None) -> None:
        """Begin to read a layer; :attr:`changed` tells when that is done.

        Args:
            layer: has a field ``reviewed``.
            parent: Qt parent.
        """
        super().__init__(parent)
        self.layer: QgsVectorLayer | None = layer
        self._keys: list[Key] = []
        self._of: dict[int, Key] = {}
        self._gone: dict[int, Key] = {}
        self._current: int | None = None
        self._slices = Slices(self)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self._read)
        self._links = (
            (layer.featureAdded, self._on_added),
            (layer.featureDeleted, self._on_deleted),
            (layer.attributeValueChanged, self._on_value),
            (layer.geometryChanged, self._on_geometry),
            (layer.afterCommitChanges, self._later.start),
            (layer.afterRollBack, self._later.start),
            (layer.subsetStringChanged, self._later.start),
            (layer.updatedFields, self._later.start),
            (layer.dataSourceChanged, self._later.start),
            (layer.willBeDeleted, self._on_layer_going),
        )
        for signal, slot in self._links:
            signal.connect(slot)
        self._read()

    @property
    def reading(self) -> bool:
        """Return whether the layer is still being read."""
        return self._slices.running or self._later.isActive()

    @property
    def total(self) -> int:
        """Return how many features are to be reviewed."""
        return len(self._keys)

    @property
    def position(self) -> int:
        """Return the current one's place, from 1; 0 where there is none."""
        key = self._of.get(self._current) if self._current is not None else None
        return bisect.bisect_left(self._keys, key) + 1 if key is not None else 0

    @property
    def current(self) -> int | None:
        """Return the id of the current feature."""
        return self._current

    def feature(self) -> QgsFeature | None:
        """Return the current feature; None where there is none."""
        if self.layer is None or self._current is None:
            return None
        found = self.layer.getFeature(self._current)
        return found if found.isValid() else None

    def next(self) -> None:
        """Go to the next one, from the last to the first."""
        if self._keys:
            self._set_current(self._keys[self.position % len(self._keys)][2])

    def previous(self) -> None:
        """Go to the one before, from the first to the last."""
        if self._keys:
            self._set_current(self._keys[self.position - 2][2])

    def close(self) -> None:
        """Follow the layer no longer."""
        self._slices.stop()
        self._later.stop()
        if self.layer is not None:
            for signal, slot in self._links:
                signal.disconnect(slot)
            self.layer = None

    # --- reading ----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        layer = self.layer
        if layer is None:
            return
        fields = layer.fields()
        self._flag, self._score = fields.lookupField(REVIEWED), fields.lookupField(SCORE)
        self._found: dict[int, Key] = {}
        self._slices.run(self._steps(layer), self._take_over, lambda _error: None)

    def _steps(self, layer: QgsVectorLayer) -> Steps:
        if self._flag < 0:
            return
        wanted = [index for index in (self._flag, self._score) if index >= 0]
        request = QgsFeatureRequest().setFlags(QgsFeatureRequest.Flag.NoGeometry).setSubsetOfAttributes(wanted)
        for feature in layer.getFeatures(request):
            self._consider(feature, self._found)
            yield

    def _take_over(self) -> None:
        self._of = self._found
        self._keys = sorted(self._of.values())
        if self._current not in self._of:
            self._current = self._keys[0][2] if self._keys else None
        self.changed.emit()

    def _consider(self, feature: QgsFeature, found: dict[int, Key]) -> None:
        if not _is_true(feature.attribute(self._flag)):
            score = _number(feature.attribute(self._score)) if self._score >= 0 else None
            found[feature.id()] = doubt_key(score, feature.id())

    # --- following --------------------------------------------------------------------------------------------------

    def _on_added(self, feature_id: int) -> None:
        self._look_again(feature_id)

    def _on_value(self, feature_id: int, index: int, _value: object) -> None:
        if index == self._flag:  # another score moves nothing while the user goes through the list
            self._look_again(feature_id)

    def _on_geometry(self, feature_id: int, _geometry: object) -> None:
        if feature_id == self._current:
            self.changed.emit()

    def _on_deleted(self, feature_id: int) -> None:
        self._remove(feature_id)

    def _look_again(self, feature_id: int) -> None:
        if self._slices.running:  # what is being read would not know of it
            self._later.start()
            return
        if self.layer is None or self._flag < 0:
            return
        feature = self.layer.getFeature(feature_id)
        found: dict[int, Key] = {}
        if feature.isValid():
            self._consider(feature, found)
        if feature_id not in found:
            self._remove(feature_id)
            return
        if feature_id in self._of:
            return
        key = self._gone.get(feature_id, found[feature_id])
        self._of[feature_id] = key
        bisect.insort(self._keys, key)
        if self._current is None or feature_id in self._gone:
            self._current = feature_id
        self._gone.pop(feature_id, None)
        self.changed.emit()

    def _remove(self, feature_id: int) -> None:
        if self._slices.running:
            self._later.start()
            return
        if feature_id not in self._of:
            return
        key = self._gone[feature_id] = self._of.pop(feature_id)
        place = bisect.bisect_left(self._keys, key)
        del self._keys[place]
        if feature_id == self._current:
            self._current = self._keys[place % len(self._keys)][2] if self._keys else None
        self.changed.emit()

    def _set_current(self, feature_id: int) -> None:
        self._current = feature_id
        self.changed.emit()

    def _on_layer_going(self) -> None:
        self.close()
        self._keys, self._of, self._current = [], {}, None
        self.ended.emit()


def _is_true(value: object) -> bool:
    """Return whether a flag is set; shapefiles have numbers, CSV files texts in its place."""
    if isinstance(value, str):
        return value.strip().lower() in {"1", "t", "true", "yes"}
    return bool(value) if not _is_null(value) else False


def _number(value: object) -> float | None:
    if _is_null(value):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _is_null(value: object) -> bool:
    return value is None or (isinstance(value, QVariant) and value.isNull())
