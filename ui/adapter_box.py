"""Which adapter, what it learned, and whether it suits the raster."""

from __future__ import annotations

from qgis.core import Qgis
from qgis.gui import QgsMapLayerComboBox
from qgis.PyQt.QtCore import QSignalBlocker, Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QFileDialog, QMenu, QToolButton, QWidget

from ..plugin.adapter_texts import headline, tooltip
from ..plugin.session import Session
from .forms import add_row, column, compact, text_label


class LiveCombo(QComboBox):
    """Tells when its list is about to be seen, so that it can be brought up to date."""

    about_to_show = pyqtSignal()

    def showPopup(self) -> None:
        """Called by Qt when the list is opened."""
        self.about_to_show.emit()
        super().showPopup()


class AdapterBox(QWidget):
    """Shows the adapters of the session's model.

    Attributes:
        adapter_combo: None and the adapters; those that are not for clicks serve for whole areas.
        teach_button: opens the fine-tune wizard.
        more_button: add from a file, show the folder, manage them.
        info_label: the essentials of the one in use.
        second_combo: the layer of the second raster; only there for adapters that need one.
        warning_label: what speaks against using it here.
    """

    adapter_chosen = pyqtSignal(str)
    add_wanted = pyqtSignal(str)
    folder_wanted = pyqtSignal()
    manage_wanted = pyqtSignal()
    list_wanted = pyqtSignal()
    second_chosen = pyqtSignal(object)
    teach_wanted = pyqtSignal()

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        """Build the widgets and listen to the session."""
        super().__init__(parent)
        self._session = session
        self.adapter_combo = compact(LiveCombo(self), 8)
        self.teach_button = QToolButton(self)
        self.teach_button.setText(self.tr("&Teach…"))
        self.teach_button.setToolTip(self.tr("Teach the model your objects from polygons, and see whether it helped"))
        self.more_button = QToolButton(self)
        self.more_button.setText("…")
        self.more_button.setToolTip(self.tr("Add an adapter from a file, show the folder of adapters, or manage them"))
        self.more_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self.more_button)
        self.add_action = menu.addAction(self.tr("Add from file…"))
        self.folder_action = menu.addAction(self.tr("Show the folder"))
        self.manage_action = menu.addAction(self.tr("Manage adapters…"))
        self.more_button.setMenu(menu)
        self.info_label, self.warning_label = text_label(self), text_label(self)
        self.second_combo = QgsMapLayerComboBox(self)
        self.second_combo.setFilters(Qgis.LayerFilter.RasterLayer)
        self.second_combo.setAllowEmptyLayer(True, self.tr("Choose the second raster"))
        self.second_combo.setToolTip(self.tr("The second raster of the same ground that this adapter needs"))
        self._info_row, self._second_row = QWidget(self), QWidget(self)
        add_row(column(self._info_row), "", self.info_label)
        add_row(column(self._second_row), self.tr("Secon&d"), compact(self.second_combo))
        rows = column(self)
        add_row(rows, self.tr("Ada&pter"), self.adapter_combo, self.teach_button, self.more_button)
        rows.addWidget(self._info_row)
        rows.addWidget(self._second_row)
        rows.addWidget(self.warning_label)
        self.adapter_combo.activated.connect(lambda _index: self.adapter_chosen.emit(self.adapter_combo.currentData()))
        self.adapter_combo.about_to_show.connect(self.list_wanted)
        self.teach_button.clicked.connect(self.teach_wanted)
        self.add_action.triggered.connect(self._choose_file)
        self.folder_action.triggered.connect(self.folder_wanted)
        self.manage_action.triggered.connect(self.manage_wanted)
        self.second_combo.layerChanged.connect(self.second_chosen.emit)
        session.adapters.listed.connect(self._show_adapters)
        session.adapters.changed.connect(self._show_adapters)
        session.adapters.fit_changed.connect(self._show_fit)
        session.model_changed.connect(self._show_adapters)
        self._show_adapters()
        self._show_fit()

    def _show_adapters(self) -> None:
        state = self._session.adapters
        combo = self.adapter_combo
        with QSignalBlocker(combo):
            combo.clear()
            combo.addItem(self.tr("None"), "")
            combo.setItemData(0, self.tr("The model as it is"), Qt.ItemDataRole.ToolTipRole)
            for summary in state.of_base(self._session.model):
                combo.addItem(summary.name, str(summary.path))
                combo.setItemData(combo.count() - 1, tooltip(summary), Qt.ItemDataRole.ToolTipRole)
            combo.setCurrentIndex(max(0, combo.findData(state.file)))
        self._show_chosen()

    def _show_chosen(self) -> None:
        state = self._session.adapters
        chosen = state.chosen
        text = headline(chosen) if chosen is not None else ""
        shown = tooltip(chosen) if chosen is not None else self.tr("What the model has learned besides; None: nothing")
        self.info_label.setText(text)
        self._info_row.setVisible(bool(text))
        for widget in (self.info_label, self.adapter_combo):
            widget.setToolTip(shown)
        with QSignalBlocker(self.second_combo):
            self.second_combo.setLayer(state.second)
            if state.second is None:
                self.second_combo.setCurrentIndex(0)  # says what to do
        self._second_row.setVisible(chosen is not None and bool(chosen.second))

    def _show_fit(self) -> None:
        state = self._session.adapters
        lines = [state.problem] if state.problem else list(state.notes)
        self.warning_label.setText("\n".join(f"⚠ {line}" for line in lines))
        self.warning_label.setVisible(bool(lines))

    def _choose_file(self) -> None:
        path, _chosen = QFileDialog.getOpenFileName(
            self, self.tr("Add an adapter"), "", self.tr("Adapters (*.safetensors)")
        )
        if path:
            self.add_wanted.emit(path)
