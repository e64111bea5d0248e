"""The adapters of the folder with their cards, and what can be done with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qgis.core import QgsProject
from qgis.PyQt.QtCore import QItemSelectionModel, QSignalBlocker, Qt, pyqtSignal
from qgis.PyQt.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSplitter,
    QTableWidget,
    QTableWidgetItem,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from ..models.errors import TuningError
from ..plugin.adapter_card_text import against_layer, card_page, facts
from ..plugin.adapter_files import AdapterSummary, read_card, user_note
from ..plugin.session import Session
from .rename_dialog import RenameDialog


class AdapterManager(QDialog):
    """Not modal; shows the session's adapters of all models and sends signals.

    Attributes:
        table: one row for each adapter.
        page: the card of the row chosen.
        activate_button: use it.
        undo_button: brings back what was deleted last.
    """

    activate_wanted = pyqtSignal(object)
    import_wanted = pyqtSignal(str)
    describe_wanted = pyqtSignal(object, str, str)
    export_wanted = pyqtSignal(object, str)
    delete_wanted = pyqtSignal(object)
    undo_wanted = pyqtSignal()
    compare_wanted = pyqtSignal(tuple)
    list_wanted = pyqtSignal()

    def __init__(
        self, session: Session, project: QgsProject, can_undo: Callable[[], bool], parent: QWidget | None = None
    ) -> None:
        """Build the dialog.

        Args:
            session: the state to show.
            project: for lengths on the ground.
            can_undo: whether something deleted can come back.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._project = project
        self._can_undo = can_undo
        self.setWindowTitle(self.tr("SamTune adapters"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.table = self._make_table()
        self.page = QTextBrowser(self)
        self.page.setOpenLinks(False)
        self.empty_label = QLabel(self.tr("There are no adapters yet. Tune one, or import a file."), self)
        self.activate_button = self._button(self.tr("&Use"), self.tr("Use it in the panel"), self._activate)
        self.rename_button = self._button(self.tr("&Rename…"), self.tr("Change its name and notes"), self._rename)
        self.import_button = self._button(self.tr("&Import…"), self.tr("Add an adapter from a file"), self._import)
        self.export_button = self._button(self.tr("&Export…"), self.tr("Copy it to a file"), self._export)
        self.compare_button = self._button(
            self.tr("&Compare…"), self.tr("Measure it against another one, on polygons of yours"), self._compare
        )
        self.delete_button = self._button(self.tr("&Delete"), self.tr("Move it to the trash"), self._delete)
        self.undo_button = self._button(
            self.tr("U&ndo delete"), self.tr("Bring back what was deleted last"), self.undo_wanted.emit
        )
        self._lay_out()
        for signal in (session.adapters.listed, session.adapters.changed, session.model_changed):
            signal.connect(self.refresh)
        session.layer_changed.connect(self._show_card)
        session.adapters.fit_changed.connect(self._show_card)
        self.table.itemSelectionChanged.connect(self._show_card)
        self.table.itemDoubleClicked.connect(lambda _item: self._activate())
        self.refresh()

    @property
    def chosen(self) -> tuple[AdapterSummary, ...]:
        """Return the adapters of the rows selected, from above."""
        rows = sorted({index.row() for index in self.table.selectionModel().selectedRows()})
        return tuple(self.table.item(row, 0).data(Qt.ItemDataRole.UserRole) for row in rows)

    def refresh(self) -> None:
        """Show what the session knows; the selection stays."""
        before = {summary.path for summary in self.chosen}
        state = self._session.adapters
        with QSignalBlocker(self.table):
            self.table.setRowCount(len(state.known))
            for row, summary in enumerate(state.known):
                self._fill(row, summary, in_use=summary == state.chosen)
        self.table.resizeColumnsToContents()
        wanted = before or ({state.chosen.path} if state.chosen is not None else set())
        with QSignalBlocker(self.table.selectionModel()):
            self.table.clearSelection()
        for row, summary in enumerate(state.known):
            if summary.path in wanted:
                self._select_row(row)
        self.empty_label.setVisible(not state.known)
        self._show_card()

    def _select_row(self, row: int) -> None:
        flags = QItemSelectionModel.SelectionFlag.Select | QItemSelectionModel.SelectionFlag.Rows
        self.table.selectionModel().select(self.table.model().index(row, 0), flags)

    def _fill(self, row: int, summary: AdapterSummary, *, in_use: bool) -> None:
        for column, text in enumerate(facts(summary)):
            item = QTableWidgetItem(text)
            item.setData(Qt.ItemDataRole.UserRole, summary)
            font = item.font()
            font.setBold(in_use)
            item.setFont(font)
            self.table.setItem(row, column, item)

    def _show_card(self) -> None:
        chosen = self.chosen
        one = chosen[0] if len(chosen) == 1 else None
        there = {model.name for model in self._session.models if model.present} | {self._session.model}
        usable = one is not None and one.base in there
        self.activate_button.setEnabled(usable and one != self._session.adapters.chosen)
        for button in (self.rename_button, self.export_button, self.delete_button):
            button.setEnabled(one is not None)
        self.compare_button.setEnabled(len(chosen) in {1, 2})
        self.undo_button.setEnabled(self._can_undo())
        if one is None:
            self.page.setPlainText(self.tr("Choose an adapter to see its card, or two to compare them."))
            return
        warnings = against_layer(one, self._session, self._project)
        if one == self._session.adapters.chosen:
            warnings = tuple(dict.fromkeys([*warnings, *self._session.adapters.notes]))
        try:
            self.page.setHtml(card_page(one, read_card(one.path), warnings))
        except TuningError as error:
            self.page.setPlainText(error.user_text)

    # --- what the buttons do ----------------------------------------------------------------------------------------

    def _activate(self) -> None:
        if self.activate_button.isEnabled():
            self.activate_wanted.emit(self.chosen[0])

    def _rename(self) -> None:
        (one,) = self.chosen
        try:
            note = user_note(read_card(one.path))
        except TuningError as error:
            self.page.setPlainText(error.user_text)
            return
        dialog = RenameDialog(one.name, note, self)
        if dialog.exec():
            self.describe_wanted.emit(one, dialog.name, dialog.notes)
        dialog.deleteLater()

    def _import(self) -> None:
        path, _chosen = QFileDialog.getOpenFileName(
            self, self.tr("Add an adapter"), "", self.tr("Adapters (*.safetensors)")
        )
        if path:
            self.import_wanted.emit(path)

    def _export(self) -> None:
        (one,) = self.chosen
        path, _chosen = QFileDialog.getSaveFileName(
            self,
            self.tr("Copy the adapter to"),
            str(Path.home() / one.path.name),
            self.tr("Adapters (*.safetensors)"),
            options=QFileDialog.Option.DontConfirmOverwrite,  # nothing is overwritten
        )
        if path:
            self.export_wanted.emit(one, path)

    def _compare(self) -> None:
        self.compare_wanted.emit(self.chosen)

    def _delete(self) -> None:
        (one,) = self.chosen
        self.delete_wanted.emit(one)

    # --- building ---------------------------------------------------------------------------------------------------

    def _make_table(self) -> QTableWidget:
        heads = (
            self.tr("Name"),
            self.tr("Base"),
            self.tr("For"),
            self.tr("Classes"),
            self.tr("Objects"),
            self.tr("Score"),
            self.tr("Ground"),
            self.tr("Size"),
            self.tr("Date"),
        )
        table = QTableWidget(0, len(heads), self)
        table.setHorizontalHeaderLabels(heads)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.verticalHeader().hide()
        table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        table.horizontalHeader().setStretchLastSection(True)
        table.setAlternatingRowColors(True)
        return table

    def _button(self, text: str, tooltip: str, slot: Callable[[], None]) -> QPushButton:
        button = QPushButton(text, self)
        button.setToolTip(tooltip)
        button.setAutoDefault(False)
        button.clicked.connect(lambda _checked: slot())
        return button

    def _lay_out(self) -> None:
        splitter = QSplitter(Qt.Orientation.Vertical, self)
        splitter.addWidget(self.table)
        splitter.addWidget(self.page)
        splitter.setStretchFactor(0, 2)
        splitter.setStretchFactor(1, 3)
        row = QHBoxLayout()
        for button in (
            self.activate_button,
            self.rename_button,
            self.compare_button,
            self.import_button,
            self.export_button,
            self.delete_button,
            self.undo_button,
        ):
            row.addWidget(button)
        row.addStretch(1)
        close = QDialogButtonBox(QDialogButtonBox.StandardButton.Close, self)
        close.rejected.connect(self.close)
        row.addWidget(close)
        layout = QVBoxLayout(self)
        layout.addWidget(self.empty_label)
        layout.addWidget(splitter, 1)
        layout.addLayout(row)
        self.resize(860, 600)
