"""Asks for an adapter's name and notes."""

from __future__ import annotations

from qgis.PyQt.QtWidgets import QDialog, QDialogButtonBox, QFormLayout, QLineEdit, QPlainTextEdit, QWidget


class RenameDialog(QDialog):
    """Small and modal.

    Attributes:
        name_edit: the name; a name is needed.
        notes_edit: the notes.
    """

    def __init__(self, name: str, note: str, parent: QWidget | None = None) -> None:
        """Build the dialog.

        Args:
            name: of the adapter as it is.
            note: that the user has written on its card.
            parent: Qt parent.
        """
        super().__init__(parent)
        self.setWindowTitle(self.tr("Name and notes"))
        self.name_edit = QLineEdit(name, self)
        self.notes_edit = QPlainTextEdit(note, self)
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
