"""Which adapters there are, which one is in use, and how it suits the raster. A part of the session."""

from __future__ import annotations

from qgis.core import QgsRasterLayer
from qgis.PyQt.QtCore import QObject, pyqtSignal

from .adapter_files import AdapterSummary


class AdapterState(QObject):
    """Setters emit a signal only when something changed.

    Attributes:
        known: all adapters of the folder.
        chosen: the one in use; None for the model as it is.
        second: the layer of the second raster, for adapters that need one.
        second_uri: what the engine opens for that.
        problem: why the chosen one cannot be used here, for the user; empty when it can.
        notes: what speaks against using it here, as sentences.

    Signals:
        listed: there are others.
        changed: another one is in use, or another second raster: answers so far are not its.
        fit_changed: what is known of how it suits the raster.
        doubted: the engine could not use its file; perhaps that is gone.
    """

    listed = pyqtSignal()
    changed = pyqtSignal()
    fit_changed = pyqtSignal()
    doubted = pyqtSignal()

    def __init__(self, parent: QObject | None = None) -> None:
        """Start without any."""
        super().__init__(parent)
        self.known: tuple[AdapterSummary, ...] = ()
        self.chosen: AdapterSummary | None = None
        self.second: QgsRasterLayer | None = None
        self.second_uri = ""
        self.problem = ""
        self.notes: tuple[str, ...] = ()

    def of_base(self, base: str) -> tuple[AdapterSummary, ...]:
        """Return the adapters that were tuned on a model, by its name."""
        return tuple(summary for summary in self.known if summary.base == base)

    def find(self, base: str, file_name: str) -> AdapterSummary | None:
        """Return the adapter of a model, by the name of its file."""
        return next((summary for summary in self.of_base(base) if summary.path.name == file_name), None)

    @property
    def path(self) -> str:
        """Return the path of the adapter that answers clicks, as requests have it; empty for the model as it is."""
        return self.file if self.chosen is not None and self.chosen.answers_clicks else ""

    @property
    def file(self) -> str:
        """Return the path of the adapter in use, whatever it is for; empty for none."""
        return str(self.chosen.path) if self.chosen is not None else ""

    @property
    def second_path(self) -> str:
        """Return the second raster, as clicks have it; empty where what answers them needs none."""
        return self.second_file if self.path else ""

    @property
    def second_file(self) -> str:
        """Return the second raster of the adapter in use, whatever that is for; empty where it needs none."""
        return self.second_uri if self.chosen is not None and self.chosen.second else ""

    def set_known(self, known: tuple[AdapterSummary, ...]) -> None:
        """Keep what is in the folder."""
        if known != self.known:
            self.known = known
            self.listed.emit()

    def choose(self, summary: AdapterSummary | None) -> None:
        """Use another adapter, or none."""
        if summary != self.chosen:
            self.chosen = summary
            self.set_fit("", ())
            self.changed.emit()

    def leave(self, base: str) -> None:
        """Stop using an adapter that was tuned on another model than this."""
        if self.chosen is not None and self.chosen.base != base:
            self.choose(None)

    def set_second(self, layer: QgsRasterLayer | None, uri: str = "") -> None:
        """Use another second raster, or none.

        Args:
            layer: the layer.
            uri: what the engine opens for it.
        """
        if layer is self.second and uri == self.second_uri:
            return
        if layer is not self.second:
            if self.second is not None:
                self.second.willBeDeleted.disconnect(self._forget_second)
            if layer is not None:
                layer.willBeDeleted.connect(self._forget_second)
        self.second, self.second_uri = layer, uri
        self.changed.emit()

    def set_fit(self, problem: str, notes: tuple[str, ...]) -> None:
        """Keep how the adapter in use suits the raster."""
        if (problem, notes) != (self.problem, self.notes):
            self.problem, self.notes = problem, notes
            self.fit_changed.emit()

    def set_notes(self, notes: tuple[str, ...]) -> None:
        """Keep what the engine said with an answer: that depends on the level."""
        if self.path and not self.problem:
            self.set_fit("", notes)

    def _forget_second(self) -> None:
        self.second, self.second_uri = None, ""  # its C++ side is being destroyed
        self.changed.emit()
