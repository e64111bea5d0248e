"""What a batch job would take, and why it cannot be started."""

from __future__ import annotations

from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QFrame, QGridLayout, QLabel, QWidget

from ..engine.batch_messages import BatchEstimate, BatchTask
from ..plugin.batch_texts import estimate_lines
from .forms import column

MOST_FAILED = 4


class BatchEstimateBox(QFrame):
    """A few figures side by side, and sentences below them.

    Attributes:
        text_label: what is missing, or what the user should know.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        """Build the widgets, empty."""
        super().__init__(parent)
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self._figures = QWidget(self)
        grid = QGridLayout(self._figures)
        grid.setContentsMargins(0, 0, 0, 0)
        self._names: list[QLabel] = []
        self._values: list[QLabel] = []
        for number in range(4):
            name, value = QLabel(self), QLabel(self)
            name.setEnabled(False)
            grid.addWidget(name, 0, number)
            grid.addWidget(value, 1, number)
            grid.setColumnStretch(number, 1)
            self._names.append(name)
            self._values.append(value)
        self.text_label = QLabel(self)
        self.text_label.setWordWrap(True)
        self.text_label.setTextFormat(Qt.TextFormat.PlainText)  # names of files are in it
        rows = column(self)
        rows.setContentsMargins(8, 6, 8, 6)
        rows.addWidget(self._figures)
        rows.addWidget(self.text_label)
        self.show_text("")

    @property
    def figures(self) -> list[tuple[str, str]]:
        """Return the figures shown, as name and value."""
        if self._figures.isHidden():
            return []
        return [(name.text(), value.text()) for name, value in zip(self._names, self._values)]

    def show_text(self, text: str) -> None:
        """Show a sentence, and no figures."""
        self._figures.hide()
        self.text_label.setText(text)
        self.text_label.show()

    def show_estimate(self, estimate: BatchEstimate, task: BatchTask) -> None:
        """Show figures, what keeps the job from starting, the rasters that cannot be used, and notes."""
        for name, value, (said, shown) in zip(self._names, self._values, estimate_lines(estimate, task)):
            name.setText(said)
            value.setText(shown)
        self._figures.show()
        lines = [f"⚠ {estimate.problem}"] if estimate.problem else []
        lines += [f"⚠ {line}" for line in estimate.failed[:MOST_FAILED]]
        if len(estimate.failed) > MOST_FAILED:
            lines.append(self.tr("… and {count} more.").format(count=len(estimate.failed) - MOST_FAILED))
        self.text_label.setText("\n".join([*lines, *estimate.notes]))
        self.text_label.setVisible(bool(self.text_label.text()))
