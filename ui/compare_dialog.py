"""Two adapters side by side, measured on polygons of the user's: figures, a sentence, the largest differences."""

from __future__ import annotations

import base64

from qgis.core import Qgis
from qgis.gui import QgsFieldComboBox, QgsMapLayerComboBox
from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtGui import QPixmap
from qgis.PyQt.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QScrollArea,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ..engine.area_messages import CompareResult
from ..engine.tune_messages import FigureRow, Picture
from ..plugin.adapter_files import AdapterSummary
from ..plugin.adapter_shelf import AdapterShelf, Comparison
from ..plugin.session import Session
from .forms import SPACING, compact, text_label

MOST_ROWS = 8


class CompareDialog(QDialog):
    """Not modal.

    Attributes:
        first_combo: the model as it is, or an adapter.
        second_combo: likewise.
        label_combo: polygons to measure by.
        field_combo: their class; empty for all together.
        run_button: starts, or stops what is under way.
        sentence_label: what came of it.
        table: figures.
    """

    compare_wanted = pyqtSignal(object)
    cancel_wanted = pyqtSignal()

    def __init__(
        self,
        session: Session,
        shelf: AdapterShelf,
        chosen: tuple[AdapterSummary, ...],
        parent: QWidget | None = None,
    ) -> None:
        """Build the dialog.

        Args:
            session: the state.
            shelf: tells what came of it.
            chosen: one or two adapters to begin with.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._shelf = shelf
        self.setWindowTitle(self.tr("Compare adapters"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.first_combo, self.second_combo = self._adapter_combo(), self._adapter_combo()
        paths = [str(summary.path) for summary in chosen]
        first, second = ("", paths[0]) if len(paths) == 1 else (paths[0], paths[1])
        self.first_combo.setCurrentIndex(max(0, self.first_combo.findData(first)))
        self.second_combo.setCurrentIndex(max(0, self.second_combo.findData(second)))
        self.label_combo = compact(QgsMapLayerComboBox(self))
        self.label_combo.setFilters(Qgis.LayerFilter.PolygonLayer)
        if session.target is not None:
            self.label_combo.setLayer(session.target)
        self.field_combo = compact(QgsFieldComboBox(self))
        self.field_combo.setAllowEmptyFieldName(True)
        self.field_combo.setLayer(self.label_combo.currentLayer())
        self.run_button = QPushButton(self)
        self.sentence_label = text_label(self)
        self.table = self._make_table()
        self._pictures = QHBoxLayout()
        self._lay_out()
        self.label_combo.layerChanged.connect(self.field_combo.setLayer)
        self.run_button.clicked.connect(self._run)
        for combo in (self.first_combo, self.second_combo):
            combo.currentIndexChanged.connect(self.refresh)
        self.label_combo.layerChanged.connect(self.refresh)
        session.busy_changed.connect(self.refresh)
        session.raster_changed.connect(self.refresh)
        shelf.compared.connect(self.show_result)
        shelf.compare_failed.connect(self._show_failure)
        self.refresh()

    def refresh(self) -> None:
        """Enable what makes sense now."""
        busy = self._shelf.comparing
        reason = self._reason_against()
        self.run_button.setText(self.tr("Stop") if busy else self.tr("Compare"))
        self.run_button.setEnabled(busy or not reason)
        self.run_button.setToolTip(reason)
        if busy:
            doing = self._session.busy
            self.sentence_label.setText(doing.text if doing is not None else "")
        elif reason:
            self.sentence_label.setText(reason)
        elif self.table.isHidden():
            self.sentence_label.setText("")

    def show_result(self, result: CompareResult) -> None:
        """Show what came of a comparison."""
        lines = [result.sentence, *result.notes]
        self.sentence_label.setText("\n".join(line for line in lines if line))
        heads = [self.tr("On {count} polygons").format(count=result.objects)]
        heads += [self.first_combo.currentText(), self.second_combo.currentText(), self.tr("Difference")]
        self.table.setHorizontalHeaderLabels(heads)
        self.table.setRowCount(len(result.figures))
        for row, figure in enumerate(result.figures):
            for column, text in enumerate(self._row(figure)):
                self.table.setItem(row, column, QTableWidgetItem(text))
        self.table.resizeRowsToContents()
        rows = min(len(result.figures), MOST_ROWS)
        self.table.setMinimumHeight(self.table.verticalHeader().sectionSize(0) * (rows + 1) + 2 * SPACING)
        self.table.show()
        self._show_pictures(result.pictures)
        self.resize(max(self.width(), 760), max(self.height(), self.sizeHint().height()))

    def closeEvent(self, event: object) -> None:
        """Called by Qt: closing ends a comparison under way."""
        self.cancel_wanted.emit()
        super().closeEvent(event)

    def _run(self) -> None:
        if self._shelf.comparing:
            self.cancel_wanted.emit()
            self.sentence_label.setText(self.tr("Stopped."))
            return
        self.table.hide()
        self._show_pictures(())
        self.compare_wanted.emit(
            Comparison(
                self.first_combo.currentData(),
                self.second_combo.currentData(),
                self.label_combo.currentLayer(),
                self.field_combo.currentField(),
            )
        )
        self.refresh()

    def _show_failure(self, text: str) -> None:
        self.refresh()
        self.sentence_label.setText(text)

    def _reason_against(self) -> str:
        if self._session.raster is None:
            return self.tr("Choose a raster layer in the panel first; it is measured on that.")
        if self.label_combo.currentLayer() is None:
            return self.tr("Add a polygon layer to the project to measure by.")
        if self.first_combo.currentData() == self.second_combo.currentData():
            return self.tr("Choose two different ones.")
        return ""

    def _row(self, figure: FigureRow) -> tuple[str, ...]:
        title = f"{figure.title} ({figure.group})" if figure.group else figure.title
        before = "" if figure.before < 0 else f"{figure.before:.3f}"
        difference = "" if figure.before < 0 else f"{figure.after - figure.before:+.3f}"
        if figure.low or figure.high:
            difference += self.tr(" (95 %: {low:+.3f} to {high:+.3f})").format(low=figure.low, high=figure.high)
        return title, before, f"{figure.after:.3f}", difference

    def _show_pictures(self, pictures: tuple[Picture, ...]) -> None:
        while self._pictures.count():
            self._pictures.takeAt(0).widget().deleteLater()
        for picture in pictures:
            pixmap = QPixmap()
            pixmap.loadFromData(base64.b64decode(picture.png))
            box, image, text = QWidget(self), QLabel(self), QLabel(picture.title, self)
            image.setPixmap(pixmap)
            text.setTextFormat(Qt.TextFormat.PlainText)
            text.setWordWrap(True)
            layout = QVBoxLayout(box)
            layout.addWidget(image)
            layout.addWidget(text)
            self._pictures.addWidget(box)
        self._picture_area.setVisible(bool(pictures))

    def _adapter_combo(self) -> QComboBox:
        combo = compact(QComboBox(self), 12)
        combo.addItem(self.tr("The model as it is"), "")
        for summary in self._session.adapters.of_base(self._session.model):
            combo.addItem(summary.name, str(summary.path))
        return combo

    def _make_table(self) -> QTableWidget:
        table = QTableWidget(0, 4, self)
        table.setWordWrap(False)
        table.verticalHeader().hide()
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        table.horizontalHeader().setStretchLastSection(True)
        table.hide()
        return table

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.addRow(self.tr("&First"), self.first_combo)
        form.addRow(self.tr("&Second"), self.second_combo)
        form.addRow(self.tr("&Polygons to measure by"), self.label_combo)
        form.addRow(self.tr("C&lass"), self.field_combo)
        content = QWidget(self)
        content.setLayout(self._pictures)
        self._picture_area = QScrollArea(self)
        self._picture_area.setWidgetResizable(True)
        self._picture_area.setWidget(content)
        self._picture_area.setMinimumHeight(280)
        self._picture_area.hide()
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close, self)
        buttons.addButton(self.run_button, QDialogButtonBox.ButtonRole.ActionRole)
        buttons.rejected.connect(self.close)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.sentence_label)
        layout.addWidget(self.table, 2)
        layout.addWidget(self._picture_area)
        layout.addStretch(1)
        layout.addWidget(buttons)
        self.resize(640, 260)
