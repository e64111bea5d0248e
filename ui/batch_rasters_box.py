"""Which rasters a batch job takes: layers of the project, files, and folders with a filter."""

from __future__ import annotations

from pathlib import Path

from qgis.core import QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QSignalBlocker, Qt, pyqtSignal
from qgis.PyQt.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QWidget,
)

from ..engine.batch_messages import BatchRasters
from ..plugin.layers import drawn_stretch, source_uri, unusable_reason
from ..plugin.session import Session, StretchMode
from .forms import column, wide_row

PATTERN = "*.tif;*.tiff;*.vrt;*.jp2;*.img"
URI = Qt.ItemDataRole.UserRole
SMALLEST_LIST = 130


class BatchRastersBox(QWidget):
    """Layers are listed as they come and go; those that the engine cannot read are greyed, with the reason.

    Attributes:
        list: the layers, files and folders.
        pattern_edit: which files of folders.
        bands_check: show the model what the panel shows it, for all rasters.
    """

    changed = pyqtSignal()

    def __init__(self, session: Session, project: QgsProject, parent: QWidget | None = None) -> None:
        """Build the widgets and list the project's layers; the panel's raster is checked.

        Args:
            session: its bands can be taken.
            project: whose layers are listed.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._project = project
        self.list = QTreeWidget(self)
        self.list.setColumnCount(2)
        self.list.setHeaderLabels([self.tr("Raster"), self.tr("Where")])
        self.list.setRootIsDecorated(False)
        self.list.setMinimumHeight(SMALLEST_LIST)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.files_button = QPushButton(self.tr("Add f&iles…"), self)
        self.folder_button = QPushButton(self.tr("Add f&older…"), self)
        self.remove_button = QPushButton(self.tr("&Remove"), self)
        self.remove_button.setToolTip(self.tr("Take the selected files and folders off the list"))
        self.pattern_edit = QLineEdit(PATTERN, self)
        self.pattern_edit.setToolTip(self.tr("Which files of folders, and of the folders in them, are taken"))
        self.bands_check = QCheckBox(self)
        self._lay_out()
        self.files_button.clicked.connect(self._choose_files)
        self.folder_button.clicked.connect(self._choose_folder)
        self.remove_button.clicked.connect(self._remove)
        self.list.itemChanged.connect(lambda _item, _column: self.changed.emit())
        self.list.itemSelectionChanged.connect(self._show_buttons)
        self.pattern_edit.textChanged.connect(lambda _text: self.changed.emit())
        self.bands_check.toggled.connect(lambda _on: self.changed.emit())
        project.layersAdded.connect(self._on_layers)
        project.layersRemoved.connect(self._on_layers)
        session.source_changed.connect(self._show_bands)
        session.layer_changed.connect(self._show_bands)
        self._on_layers()
        self._show_bands()
        self._show_buttons()

    def stop(self) -> None:
        """Stop listening to the project, which outlives this."""
        self._project.layersAdded.disconnect(self._on_layers)
        self._project.layersRemoved.disconnect(self._on_layers)

    def add_paths(self, paths: list[str]) -> None:
        """Add files or folders, checked."""
        known = {item.data(0, URI) for item in self._items()}
        with QSignalBlocker(self.list):
            for path in paths:
                if path and path not in known:
                    self._add(Path(path).name or path, path, where=str(Path(path).parent), own=True)
        self.changed.emit()

    def rasters(self) -> BatchRasters:
        """Return what is checked."""
        paths = tuple(str(item.data(0, URI)) for item in self._items() if self._is_checked(item))
        pattern = ",".join(part.strip() for part in self.pattern_edit.text().replace(",", ";").split(";"))
        session, layer = self._session, self._session.layer
        if not self.bands_check.isChecked() or layer is None:
            return BatchRasters(paths, pattern)
        stretch = drawn_stretch(layer, session.bands) if session.stretch is StretchMode.AS_DRAWN else ()
        return BatchRasters(paths, pattern, session.bands, stretch)

    def problem(self) -> str:
        """Say what is missing; empty when nothing is."""
        rasters = self.rasters()
        if not rasters.paths:
            return self.tr("Check a layer, or add files or a folder of rasters.")
        if not any(rasters.pattern.split(",")) and any(Path(path).is_dir() for path in rasters.paths):
            return self.tr("Say which files of folders are rasters, such as *.tif;*.vrt.")
        return ""

    # --- the list ---------------------------------------------------------------------------------------------------

    def _on_layers(self, _layers: object = None) -> None:
        """List the project's raster layers, the checks of those known as they were; files and folders stay."""
        before = {item.data(1, URI): self._is_checked(item) for item in self._items() if item.data(1, URI)}
        own = [item for item in self._items() if not item.data(1, URI)]
        with QSignalBlocker(self.list):
            for item in own:
                self.list.takeTopLevelItem(self.list.indexOfTopLevelItem(item))
            self.list.clear()
            layers = [layer for layer in self._project.mapLayers().values() if isinstance(layer, QgsRasterLayer)]
            for layer in sorted(layers, key=lambda layer: (bool(unusable_reason(layer)), layer.name().casefold())):
                self._add_layer(layer, checked=before.get(layer.id(), layer is self._session.layer))
            self.list.addTopLevelItems(own)
        self.list.resizeColumnToContents(0)  # the other one takes the rest, and is in the tooltip as well
        self.changed.emit()

    def _add_layer(self, layer: QgsRasterLayer, *, checked: bool) -> None:
        reason = unusable_reason(layer)
        item = self._add(layer.name(), "" if reason else source_uri(layer), checked=checked and not reason)
        item.setData(1, URI, layer.id())
        if reason:
            item.setText(1, reason)
            item.setToolTip(0, reason)
            item.setToolTip(1, reason)
            item.setFlags(Qt.ItemFlag.NoItemFlags)

    def _add(
        self, name: str, path: str, *, where: str = "", checked: bool = True, own: bool = False
    ) -> QTreeWidgetItem:
        item = QTreeWidgetItem([name, where or path])
        item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
        if own:
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsSelectable)
        item.setCheckState(0, Qt.CheckState.Checked if checked else Qt.CheckState.Unchecked)
        item.setData(0, URI, path)
        item.setToolTip(0, path)
        item.setToolTip(1, path)
        self.list.addTopLevelItem(item)
        return item

    def _items(self) -> list[QTreeWidgetItem]:
        return [self.list.topLevelItem(number) for number in range(self.list.topLevelItemCount())]

    def _is_checked(self, item: QTreeWidgetItem) -> bool:
        return bool(item.data(0, URI)) and item.checkState(0) == Qt.CheckState.Checked

    def _remove(self) -> None:
        with QSignalBlocker(self.list):
            for item in self.list.selectedItems():
                self.list.takeTopLevelItem(self.list.indexOfTopLevelItem(item))
        self._show_buttons()
        self.changed.emit()

    # --- the rest ---------------------------------------------------------------------------------------------------

    def _choose_files(self) -> None:
        paths, _filter = QFileDialog.getOpenFileNames(self, self.tr("Rasters of the batch job"))
        self.add_paths(paths)

    def _choose_folder(self) -> None:
        self.add_paths([QFileDialog.getExistingDirectory(self, self.tr("Folder of rasters"))])

    def _show_buttons(self) -> None:
        self.remove_button.setEnabled(bool(self.list.selectedItems()))

    def _show_bands(self) -> None:
        session = self._session
        known = session.layer is not None and bool(session.bands)
        bands = ", ".join(str(band) for band in session.bands)
        text = self.tr("Bands ({bands}) and stretch as in the panel, for all rasters")
        self.bands_check.setText(
            text.format(bands=bands) if known else self.tr("Bands and stretch as in the panel, for all rasters")
        )
        self.bands_check.setToolTip(self.tr("Otherwise each raster's own; with an adapter, the bands it was tuned on"))
        self.bands_check.setEnabled(known)
        if self.bands_check.isChecked():
            self.changed.emit()

    def _lay_out(self) -> None:
        rows = column(self)
        rows.addWidget(self.list, 1)
        buttons = QHBoxLayout()
        for button in (self.files_button, self.folder_button, self.remove_button):
            buttons.addWidget(button)
        buttons.addStretch(1)
        rows.addLayout(buttons)
        rows.addWidget(wide_row(self, self.tr("Files of &folders"), self.pattern_edit))
        rows.addWidget(wide_row(self, self.tr("Bands"), self.bands_check))
