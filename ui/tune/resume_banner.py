"""A run that was interrupted, or whose adapter was not kept: go on with it, delete it, or not now."""

from __future__ import annotations

from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QWidget

from ...plugin.tune_controller import TuneController


class ResumeBanner(QFrame):
    """Shows the newest such run; hidden where there is none.

    Signals:
        go_on_wanted: a KeptRun is to be gone on with.
    """

    go_on_wanted = pyqtSignal(object)

    def __init__(self, controller: TuneController, parent: QWidget | None = None) -> None:
        """Build the widgets and listen to the controller."""
        super().__init__(parent)
        self._controller = controller
        self.run = None
        self.setObjectName("samtune_resume")
        self.setStyleSheet("#samtune_resume { background: #fff3cd; border: 1px solid #e0c97f; border-radius: 3px; }")
        self.label = QLabel(self)
        self.label.setStyleSheet("color: #222;")
        self.label.setWordWrap(True)
        self.go_on_button = QPushButton(self.tr("&Go on"), self)
        self.discard_button = QPushButton(self.tr("Discard it"), self)
        self.later_button = QPushButton(self.tr("Later"), self)
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 4, 8, 4)
        row.addWidget(self.label, 1)
        for button in (self.go_on_button, self.discard_button, self.later_button):
            row.addWidget(button)
        self.go_on_button.clicked.connect(lambda: self.go_on_wanted.emit(self.run))
        self.discard_button.clicked.connect(lambda: controller.discard(self.run))
        self.later_button.clicked.connect(lambda: controller.put_off(self.run))
        controller.runs_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the newest run that is offered."""
        self.run = next(iter(self._controller.offered()), None)
        self.setVisible(self.run is not None)
        if self.run is None:
            return
        if self.run.report is None:
            text = self.tr("Teaching “{name}” was interrupted at step {step} of {steps}. Go on with it?")
            self.label.setText(text.format(name=self.run.name, step=self.run.step, steps=self.run.steps))
            self.go_on_button.setText(self.tr("&Go on"))
        else:
            text = self.tr("Teaching “{name}” is done, and its adapter is not in your list yet. {sentence}")
            self.label.setText(text.format(name=self.run.name, sentence=self.run.report.sentence))
            self.go_on_button.setText(self.tr("&Look at it"))
