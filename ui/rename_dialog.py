"""Asks for an adapter's name and notes."""

from __future__ import annotations

from qgis.PyQt.QtWidgets import QDialog, QDialogButtonBox, QFormLayout, QLineEdit, QPlainTextEdit, QWidget

from ..plugin.adapter_files import AdapterSummary


class RenameDialog(QDialog):
    """Small and modal.

    Attributes:
        name_edit: the name; a name is needed.
        notes_edit: the notes.
    """

    def __init__(self, summary: AdapterSummary, parent: QWidget | None = None) -> None:
        """Build the dialog.

        Args:
            summary: of the adapter as it is.
            parent: Qt parent.
        """
        super().__init__(parent)
        self.setWindowTitle(self.tr("Name and notes"))
        self.name_edit = QLineEdit(summary.name, self)
        self.notes_edit = QPlainTextEdit("\n".join(summary.notes), self)
        self.buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel, self
        )
        form = QFormLayout(self)
        form.addRow(self.tr("&Name"), self.name_edit)
        form.addRow(self.tr("N&otes"), self.notes_edit)
        form.addRow(self.buttons)
        self.resize(420, 240)
        self.name_edit.textChanged.connect(self._check)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)

    @property
    def name(self) -> str:
        """Return the name."""
        return str(self.name_edit.text().strip())

    @property
    def notes(self) -> str:
        """Return the notes."""
        return str(self.notes_edit.toPlainText().strip())

    def _check(self) -> None:
        self.buttons.button(QDialogButtonBox.StandardButton.Ok).setEnabled(bool(self.name))
