"""The questions that the plugin asks: may fields be added, may a model be downloaded, where does the new file go."""

from __future__ import annotations

from pathlib import Path

from qgis.core import QgsVectorLayer
from qgis.PyQt.QtCore import QObject
from qgis.PyQt.QtWidgets import QFileDialog, QMessageBox, QWidget

from ..engine.messages import ModelInfo
from ..plugin.settings import PluginSettings
from ..plugin.status import size_text


class Questions(QObject):
    """Asks the user. A closed window means no."""

    def __init__(self, window: QWidget, settings: PluginSettings, parent: QObject | None = None) -> None:
        """Keep the parent of the dialogs and the settings (for the folder last used)."""
        super().__init__(parent)
        self._window = window
        self._settings = settings

    def may_add_fields(self, layer: QgsVectorLayer, names: tuple[str, ...]) -> bool:
        """Ask whether fields may be added to an existing layer."""
        text = self.tr(
            "“{layer}” has no fields {names}.\n\nAdd them, so that every polygon says how it was made? They become "
            "part of the edit session, to be saved or discarded with your edits. "
            "Without them only existing fields are filled."
        ).format(layer=layer.name(), names=", ".join(names))
        return self._yes(self.tr("Add fields?"), text)

    def may_download(self, model: ModelInfo) -> bool:
        """Ask whether a model may be downloaded."""
        text = self.tr("Download {model} ({size}) from\n{url} ?\n\nLicence: {licence}").format(
            model=model.title, size=size_text(model.size_bytes), url=model.url, licence=model.licence
        )
        return self._yes(self.tr("Download a model?"), text)

    def geopackage_path(self) -> str:
        """Ask where a new GeoPackage goes; empty for a change of mind."""
        folder = self._settings.output_folder.value() or str(Path.home())
        path, _filter = QFileDialog.getSaveFileName(
            self._window,
            self.tr("New GeoPackage for the polygons"),
            str(Path(folder) / "objects.gpkg"),
            self.tr("GeoPackage (*.gpkg)"),
            options=QFileDialog.Option.DontConfirmOverwrite,
        )
        if path:
            self._settings.output_folder.setValue(str(Path(path).parent))
        return str(path)

    def _yes(self, title: str, text: str) -> bool:
        answer = QMessageBox.question(
            self._window, title, text, QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No
        )
        return bool(answer == QMessageBox.StandardButton.Yes)
