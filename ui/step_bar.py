"""A row for going through things one by one: where one is, and what can be done, each with its key over the map."""

from __future__ import annotations

from dataclasses import dataclass

from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QToolButton, QVBoxLayout, QWidget


@dataclass(frozen=True)
class Step:
    """One thing that can be done.

    Attributes:
        name: what :attr:`StepBar.wanted` tells.
        text: on the button.
        tooltip: what it does.
        key: that does the same over the map.
    """

    name: str
    text: str
    tooltip: str
    key: str


class StepBar(QFrame):
    """Hidden until there is something to go through.

    Attributes:
        label: where one is.
        buttons: by the names of their steps.
        close_button: ends it.
    """

    wanted = pyqtSignal(str)
    close_wanted = pyqtSignal()

    def __init__(self, steps: tuple[Step, ...], parent: QWidget | None = None) -> None:
        """Build the widgets."""
        super().__init__(parent)
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.label = QLabel(self)
        self.label.setWordWrap(True)
        self.label.setTextFormat(Qt.TextFormat.PlainText)  # classes come from files
        self.close_button = QToolButton(self)
        self.close_button.setText("✕")
        self.close_button.setAutoRaise(True)
        self.close_button.setToolTip(self.tr("End this; what was done stays"))
        self.close_button.setAccessibleName(self.tr("End"))
        self.buttons = {step.name: self._make_button(step) for step in steps}
        top, row = QHBoxLayout(), QHBoxLayout()
        top.addWidget(self.label, 1)
        top.addWidget(self.close_button, 0, Qt.AlignmentFlag.AlignTop)
        row.setSpacing(3)
        for button in self.buttons.values():
            row.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(3)
        layout.addLayout(top)
        layout.addLayout(row)
        self.close_button.clicked.connect(self.close_wanted)
        self.hide()

    def show_state(self, text: str, *, usable: bool) -> None:
        """Show where one is.

        Args:
            text: for the label; empty hides everything.
            usable: there is something to act on.
        """
        self.label.setText(text)
        for button in self.buttons.values():
            button.setEnabled(usable)
        self.setVisible(bool(text))

    def _make_button(self, step: Step) -> QToolButton:
        button = QToolButton(self)
        button.setText(step.text)
        button.setToolTip(self.tr("{tooltip} ({key} over the map)").format(tooltip=step.tooltip, key=step.key))
        button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        button.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the keys go to the map
        button.clicked.connect(lambda: self.wanted.emit(step.name))
        return button
