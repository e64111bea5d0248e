"""Page 6: name and notes, and into the list."""

from __future__ import annotations

from qgis.PyQt.QtWidgets import (
    QFormLayout,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from ...plugin.tune_controller import TuneController
from ..forms import text_label
from .page import TunePage


class KeepPage(TunePage):
    """What the adapter is called, and what happens when it is kept.

    Attributes:
        name_edit: its name.
        notes_edit: what the user wants to remember about it.
        taken_label: there is one of this name.
        use_label: whether it will be used at once, and what to do with it next.
        problem_label: why it could not be kept.
        busy: shown while it is being kept.
    """

    def __init__(self, controller: TuneController, parent: QWidget | None = None) -> None:
        """Build the widgets."""
        super().__init__(parent)
        self._controller = controller
        self.setTitle(self.tr("Keep it"))
        self.setSubTitle(self.tr("It goes into your folder of adapters, and appears in the panel at once."))
        self.setFinalPage(True)
        self.name_edit, self.notes_edit = QLineEdit(self), QPlainTextEdit(self)
        self.notes_edit.setPlaceholderText(self.tr("Where the objects are from, what to look out for …"))
        self.notes_edit.setMaximumHeight(self.fontMetrics().height() * 10)
        self.taken_label, self.use_label, self.problem_label = text_label(self), text_label(self), text_label(self)
        self.problem_label.setStyleSheet("color: #b00020; font-weight: bold;")
        self.busy = QProgressBar(self)
        self.busy.setRange(0, 0)
        rows, form = QVBoxLayout(self), QFormLayout()
        form.addRow(self.tr("&Name"), self.name_edit)
        form.addRow("", self.taken_label)
        form.addRow(self.tr("N&otes"), self.notes_edit)
        rows.addLayout(form)
        for widget in (self.use_label, self.problem_label, self.busy):
            rows.addWidget(widget)
        rows.addStretch(1)
        self.name_edit.textChanged.connect(lambda _text: self.refresh())
        controller.keep_changed.connect(self.refresh)
        self.refresh()

    def initializePage(self) -> None:
        """Called by Qt when the page is reached."""
        if not self.name_edit.text():
            self.name_edit.setText(self._controller.run_name())
        self.refresh()

    def isComplete(self) -> bool:
        """Called by Qt."""
        return bool(self.name_edit.text().strip()) and not self._controller.keeping

    def refresh(self) -> None:
        """Show what would happen."""
        controller = self._controller
        taken = controller.is_taken(self.name_edit.text())
        self.taken_label.setText(
            self.tr("There is an adapter of this name already. It stays; this one gets a number.") if taken else ""
        )
        self.taken_label.setVisible(taken)
        self.use_label.setText(" ".join(text for text in (self._use_text(), controller.next_step()) if text))
        self.problem_label.setText(controller.keep_problem)
        self.problem_label.setVisible(bool(controller.keep_problem))
        self.busy.setVisible(controller.keeping)
        self.tell_completeness()

    def _use_text(self) -> str:
        if self._controller.in_use:
            return self.tr("It is used from now on; you can choose another one in the panel at any time.")
        return self.tr("It is not shown to be better, so it is put into the list but not used.")
