"""Rows of the panel: a short label of one width everywhere, and widgets that shrink with a narrow panel."""

from __future__ import annotations

from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

LABEL_CHARACTERS = 8
WIDE_LABEL_CHARACTERS = 20
SPACING = 3


def column(parent: QWidget) -> QVBoxLayout:
    """Give a widget a column of rows without margins."""
    layout = QVBoxLayout(parent)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(SPACING)
    return layout


def add_row(
    layout: QVBoxLayout, text: str, first: QWidget, *others: QWidget, characters: int = LABEL_CHARACTERS
) -> QLabel:
    """Add a row.

    Args:
        layout: of :func:`column`.
        text: the label, with a mnemonic for the first widget; may be empty.
        first: takes the room that is left.
        others: follow it.
        characters: width of the label.

    Returns:
        The label.
    """
    label = QLabel(text, layout.parentWidget())
    label.setBuddy(first)
    label.setMinimumWidth(label.fontMetrics().averageCharWidth() * characters)
    row = QHBoxLayout()
    row.setSpacing(SPACING)
    row.addWidget(label)
    row.addWidget(first, 1)
    for widget in others:
        row.addWidget(widget)
    layout.addLayout(row)
    return label


def wide_row(parent: QWidget, text: str, first: QWidget, *others: QWidget) -> QWidget:
    """Make a row of a dialog: a widget of its own, so that it can be hidden, with a label of one width everywhere.

    Args:
        parent: Qt parent.
        text: the label, with a mnemonic for the first widget; may be empty.
        first: takes the room that is left.
        others: follow it.
    """
    row = QWidget(parent)
    add_row(column(row), text, first, *others, characters=WIDE_LABEL_CHARACTERS)
    return row


def compact(combo: QComboBox, characters: int = 5) -> QComboBox:
    """Let a combo box become as narrow as a few characters."""
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(characters)
    return combo


def text_label(parent: QWidget) -> QLabel:
    """Make a label for sentences: they wrap, and are plain text, because names out of files are in them."""
    label = QLabel(parent)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    return label
