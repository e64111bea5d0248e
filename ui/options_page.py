"""SamTune's page in QGIS's Options dialog."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qgis.gui import QgsFileWidget, QgsOptionsPageWidget, QgsOptionsWidgetFactory
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QWidget,
)

from ..plugin.settings import PluginSettings

PAGE_NAME = "samtune-options"
ICON = Path(__file__).parent / "icons" / "samtune.svg"


class OptionsPage(QgsOptionsPageWidget):
    """Shows and saves the settings that are not in the dock."""

    def __init__(self, settings: PluginSettings, applied: Callable[[], None], parent: QWidget | None = None) -> None:
        """Build the page with the values as they are.

        Args:
            settings: the plugin's settings.
            applied: called after the settings were saved.
            parent: Qt parent.
        """
        super().__init__(parent)
        self.setObjectName(PAGE_NAME)
        self._settings = settings
        self._applied = applied
        self.device = QComboBox(self)
        for name, text in (
            ("auto", self.tr("Automatic")),
            ("cpu", self.tr("Processor (CPU)")),
            ("cuda", self.tr("Graphics card (CUDA)")),
            ("mps", self.tr("Apple graphics (MPS)")),
        ):
            self.device.addItem(text, name)
        self.device.setCurrentIndex(max(0, self.device.findData(settings.device.value())))
        self.threads = QSpinBox(self)
        self.threads.setRange(0, 256)
        self.threads.setSpecialValueText(self.tr("All but one"))
        self.threads.setValue(settings.threads.value())
        self.interpreter = self._file(settings.engine_interpreter.value(), QgsFileWidget.StorageMode.GetFile)
        self.interpreter.lineEdit().setPlaceholderText(self.tr("Managed by the plugin"))
        self.set_up_button = QPushButton(self.tr("Set up…"), self)
        self.set_up_button.setToolTip(self.tr("Make the engine's Python environment, or make it anew"))
        self.set_up_button.clicked.connect(self._set_up)
        self.models_folder = self._file(settings.models_folder.value(), QgsFileWidget.StorageMode.GetDirectory)
        self.store_folder = self._file(settings.store_folder.value(), QgsFileWidget.StorageMode.GetDirectory)
        self.adapters_folder = self._file(settings.adapters_folder.value(), QgsFileWidget.StorageMode.GetDirectory)
        for widget in (self.models_folder, self.adapters_folder, self.store_folder):
            widget.lineEdit().setPlaceholderText(self.tr("Default folder"))
        self.store_cap = QDoubleSpinBox(self)
        self.store_cap.setRange(0.1, 10000.0)
        self.store_cap.setSuffix(" GiB")
        self.store_cap.setValue(settings.store_cap_gib.value())
        self.mirror = QLineEdit(settings.download_mirror.value(), self)
        self.mirror.setPlaceholderText(self.tr("Published address"))
        self.hover = QCheckBox(self.tr("Show the outline under the pointer before clicking"), self)
        self.hover.setChecked(settings.hover_preview.value())
        self._lay_out()

    def apply(self) -> None:
        """Save; called by QGIS when the user presses OK."""
        settings = self._settings
        settings.device.setValue(self.device.currentData())
        settings.threads.setValue(self.threads.value())
        settings.engine_interpreter.setValue(self.interpreter.filePath().strip())
        settings.models_folder.setValue(self.models_folder.filePath().strip())
        settings.adapters_folder.setValue(self.adapters_folder.filePath().strip())
        settings.store_folder.setValue(self.store_folder.filePath().strip())
        settings.store_cap_gib.setValue(self.store_cap.value())
        settings.download_mirror.setValue(self.mirror.text().strip())
        settings.hover_preview.setValue(self.hover.isChecked())
        self._applied()

    def _set_up(self) -> None:
        from ..plugin.engine_config import engine_location
        from .environment_dialog import EnvironmentDialog

        dialog = EnvironmentDialog(engine_location(self._settings), self)
        done = dialog.exec()
        dialog.deleteLater()
        if done:
            self._applied()

    def _file(self, path: str, mode: QgsFileWidget.StorageMode) -> QgsFileWidget:
        widget = QgsFileWidget(self)
        widget.setStorageMode(mode)
        widget.setFilePath(path)
        return widget

    def _lay_out(self) -> None:
        form = QFormLayout(self)
        form.addRow(self.tr("Computing device"), self.device)
        form.addRow(self.tr("CPU threads"), self.threads)
        form.addRow(self.tr("Python of the engine"), self.interpreter)
        form.addRow(self.tr("Engine environment"), self.set_up_button)
        form.addRow(self.tr("Folder of models"), self.models_folder)
        form.addRow(self.tr("Folder of adapters"), self.adapters_folder)
        form.addRow(self.tr("Mirror for downloads"), self.mirror)
        form.addRow(self.tr("Folder of encoded imagery"), self.store_folder)
        form.addRow(self.tr("…takes at most"), self.store_cap)
        form.addRow(self.hover)


class OptionsFactory(QgsOptionsWidgetFactory):
    """Tells QGIS about the page."""

    def __init__(self, settings: PluginSettings, applied: Callable[[], None]) -> None:
        """Keep what the page needs."""
        super().__init__("SamTune", QIcon(str(ICON)), PAGE_NAME)
        self._settings = settings
        self._applied = applied

    def icon(self) -> QIcon:
        """Return the page's icon."""
        return QIcon(str(ICON))

    def createWidget(self, parent: QWidget | None = None) -> OptionsPage:
        """Make the page; called by QGIS each time the dialog opens."""
        return OptionsPage(self._settings, self._applied, parent)
