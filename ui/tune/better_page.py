"""Page 5: whether the adapter is better than the model as it was, and how that was found."""

from __future__ import annotations

from qgis.PyQt.QtCore import Qt, QUrl, pyqtSignal
from qgis.PyQt.QtGui import QColor, QDesktopServices, QGuiApplication
from qgis.PyQt.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
    QWizardPage,
)

from ...engine.tune_messages import FigureRow, Parting, TuneReport
from ...plugin.tune_controller import BETTER, TuneController
from ...plugin.tune_texts import change_text, figure_text, is_gain
from ..forms import text_label
from .learn_page import scrolled
from .pictures import PictureStrip

PICTURE_SIDE = 144
GENERAL = "general"
COLOURS = {BETTER: "#d4edda", "not better": "#fde7e9"}
UNKNOWN = "#fff3cd"
GAIN, LOSS = QColor(0, 120, 90), QColor(190, 60, 0)


class BetterPage(QWizardPage):
    """A view of the report.

    Attributes:
        banner: the verdict.
        table: figures before and after.
        strip: the largest gains and losses.
        anyway_check: use it although it is not shown to be better; never checked by itself.
        report_button: opens the HTML report.
        command_edit: command line that repeats the run.
        anew_button: to the choices.

    Signals:
        anew_wanted: the user wants back to the choices.
    """

    anew_wanted = pyqtSignal()

    def __init__(self, controller: TuneController, parent: QWidget | None = None) -> None:
        """Build the widgets."""
        super().__init__(parent)
        self._controller = controller
        self.setTitle(self.tr("Is it better?"))
        self.setSubTitle(self.tr("Measured on objects that it did not learn from."))
        self.banner, self.how_label, self.notes_label = text_label(self), text_label(self), text_label(self)
        self.table = QTreeWidget(self)
        self.table.setHeaderLabels(
            [self.tr("Figure"), self.tr("Before"), self.tr("After"), self.tr("Change (95 % interval)")]
        )
        self.table.setRootIsDecorated(False)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.table.header().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.header().setStretchLastSection(True)
        self.strip_label = QLabel(
            self.tr("The largest gains and losses. White: what you drew; orange: before; blue: after."), self
        )
        self.strip = PictureStrip(PICTURE_SIDE, self)
        self.anyway_check = QCheckBox(self.tr("Use it all the same"), self)
        self.report_button = QPushButton(self.tr("Open the full &report"), self)
        self.command_edit = QLineEdit(self)
        self.command_edit.setReadOnly(True)
        self.command_edit.setToolTip(self.tr("This command repeats the run without QGIS"))
        self.copy_button = QPushButton(self.tr("&Copy the command"), self)
        self.anew_button = QPushButton(self.tr("Change the settings"), self)
        self._lay_out()
        self.anyway_check.toggled.connect(controller.set_use_anyway)
        self.report_button.clicked.connect(self._open_report)
        self.copy_button.clicked.connect(lambda: QGuiApplication.clipboard().setText(self.command_edit.text()))
        self.anew_button.clicked.connect(self.anew_wanted)

    def _lay_out(self) -> None:
        font = self.banner.font()
        font.setBold(True)
        font.setPointSizeF(font.pointSizeF() * 1.1)
        self.banner.setFont(font)
        content = QWidget(self)
        rows = QVBoxLayout(content)
        rows.setContentsMargins(0, 0, 4, 0)
        for widget in (self.how_label, self.table, self.strip_label, self.strip, self.notes_label):
            rows.addWidget(widget)
        rows.addStretch(1)
        outer = QVBoxLayout(self)
        outer.addWidget(self.banner)
        outer.addWidget(self.anyway_check)
        outer.addWidget(scrolled(content, self), 1)
        buttons = QHBoxLayout()
        buttons.addWidget(self.report_button)
        buttons.addWidget(self.command_edit, 1)
        buttons.addWidget(self.copy_button)
        buttons.addWidget(self.anew_button)
        outer.addLayout(buttons)

    def initializePage(self) -> None:
        """Called by Qt when the page is reached."""
        report = self._controller.runner.report
        if report is None:
            return
        self.banner.setText(report.sentence)
        colour = COLOURS.get(report.verdict, UNKNOWN)
        self.banner.setStyleSheet(f"background: {colour}; color: #222; padding: 10px; border-radius: 4px;")
        self.anyway_check.setVisible(report.verdict != BETTER)
        self.anyway_check.setChecked(self._controller.use_anyway)
        self.how_label.setText(self._how(report))
        self._show_figures(report.figures)
        self.strip.show_pictures(report.pictures)
        for widget in (self.strip, self.strip_label):
            widget.setVisible(bool(report.pictures))
        self.notes_label.setText("\n".join([*([report.general] if report.general else []), *report.notes]))
        self.notes_label.setVisible(bool(report.general or report.notes))
        self.report_button.setEnabled(bool(report.report))
        self.command_edit.setText(report.command)
        self.command_edit.setCursorPosition(0)

    def _how(self, report: TuneReport) -> str:
        texts = {
            Parting.BLOCKS: self.tr(
                "{n} of the objects, in blocks of ground of their own, were kept out of the training."
            ),
            Parting.EACH_BLOCK: self.tr(
                "There were too few objects to hold some out for good: each block of ground was held out once, and "
                "the figures are of all {n} objects."
            ),
            Parting.NONE: self.tr("There were too few objects to measure anything. Try it on the map, or draw more."),
        }
        return texts[report.parting].format(n=report.held_out)

    def _show_figures(self, figures: tuple[FigureRow, ...]) -> None:
        self.table.clear()
        for group in dict.fromkeys(row.group for row in figures):
            if group:
                name = self.tr("Other imagery, to see that nothing was unlearnt") if group == GENERAL else group
                heading = QTreeWidgetItem([name])
                font = self.table.font()
                font.setBold(True)
                heading.setFont(0, font)
                self.table.addTopLevelItem(heading)
                heading.setFirstColumnSpanned(True)
            for row in figures:
                if row.group == group:
                    self.table.addTopLevelItem(_item(row))
        lines = min(9, self.table.topLevelItemCount())
        height = max(self.table.sizeHintForRow(0), self.fontMetrics().height() + 4)
        self.table.setFixedHeight(self.table.header().sizeHint().height() + lines * height + 6)
        self.table.setVisible(lines > 0)

    def _open_report(self) -> None:
        report = self._controller.runner.report
        if report is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(report.report))


def _item(row: FigureRow) -> QTreeWidgetItem:
    item = QTreeWidgetItem([row.title, figure_text(row.before), figure_text(row.after), change_text(row)])
    gain = is_gain(row)
    if gain is not None:
        item.setForeground(3, GAIN if gain else LOSS)
    for column in (1, 2):
        item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    return item
