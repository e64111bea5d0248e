"""What is going on: a sentence with one thing to do about it, progress with cancel, and the last notice."""

from __future__ import annotations

from qgis.PyQt.QtCore import Qt, QTimer, pyqtSignal
from qgis.PyQt.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QToolButton, QVBoxLayout, QWidget

from ..plugin.session import Notice, NoticeLevel, Session
from ..plugin.status import Action, Status, status_of

SHOW_PROGRESS_AFTER_MS = 200
NOTICE_MS = 8000
STEPS = 1000


class StatusBox(QWidget):
    """Shows the session's status.

    Attributes:
        label: the sentence.
        action_button: what to do about it; hidden where there is nothing.
        progress: hidden when nothing takes long.
        cancel_button: beside the progress.
    """

    action_wanted = pyqtSignal(object)
    cancel_wanted = pyqtSignal()

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        """Build the widgets and listen to the session."""
        super().__init__(parent)
        self._session = session
        self._notice: Notice | None = None
        self._status: Status = status_of(session)
        self.label = QLabel(self)
        self.label.setWordWrap(True)
        self.label.setTextFormat(Qt.TextFormat.PlainText)  # names of layers and of adapters come from files
        self.label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.action_button = QPushButton(self)
        self.progress = QProgressBar(self)
        self.progress.setTextVisible(True)
        self.cancel_button = QToolButton(self)
        self.cancel_button.setText("✕")
        self.cancel_button.setToolTip(self.tr("Cancel"))
        self.cancel_button.setAccessibleName(self.tr("Cancel"))
        row = QHBoxLayout()
        row.setSpacing(2)
        row.addWidget(self.progress, 1)
        row.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addLayout(row)
        layout.addWidget(self.label)
        layout.addWidget(self.action_button)
        self._progress_timer = self._single_shot(SHOW_PROGRESS_AFTER_MS, self._show_progress)
        self._notice_timer = self._single_shot(NOTICE_MS, self._forget_notice)
        self.action_button.clicked.connect(lambda: self.action_wanted.emit(self._status.action))
        self.cancel_button.clicked.connect(self.cancel_wanted)
        for signal in (
            session.layer_changed,
            session.raster_changed,
            session.models_changed,
            session.model_changed,
            session.engine_changed,
            session.outline_changed,
            session.adapters.fit_changed,
        ):
            signal.connect(self.refresh)
        session.steps_changed.connect(self._on_steps)
        session.busy_changed.connect(self._on_busy)
        session.noticed.connect(self._on_notice)
        self._hide_progress()
        self.refresh()

    @property
    def status(self) -> Status:
        """Return the status shown."""
        return self._status

    def refresh(self) -> None:
        """Show the session's status, or the last notice while it is fresh."""
        self._status = status_of(self._session)
        self.label.setText(self._notice.text if self._notice else self._status.text)
        texts = {
            Action.NONE: "",
            Action.SET_UP: self.tr("Set up…"),
            Action.RETRY: self.tr("Try again"),
            Action.DOWNLOAD: self.tr("Download…"),
        }
        self.action_button.setText(texts[self._status.action])
        self.action_button.setVisible(self._status.action is not Action.NONE)

    def _single_shot(self, milliseconds: int, slot: object) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(slot)
        return timer

    def _on_notice(self, notice: Notice) -> None:
        if notice.level in (NoticeLevel.ERROR, NoticeLevel.WARNING):
            return  # the message bar shows it
        self._notice = notice
        self._notice_timer.start()
        self.refresh()

    def _on_steps(self) -> None:
        if self._session.steps:
            self._forget_notice()

    def _forget_notice(self) -> None:
        self._notice_timer.stop()
        self._notice = None
        self.refresh()

    def _on_busy(self) -> None:
        if self._session.busy is None:
            self._progress_timer.stop()
            self._hide_progress()
        elif self.cancel_button.isVisibleTo(self):
            self._show_progress()
        elif not self._progress_timer.isActive():
            self._progress_timer.start()
        self.refresh()

    def _show_progress(self) -> None:
        busy = self._session.busy
        if busy is None:
            return
        self.progress.setRange(0, STEPS if busy.fraction >= 0 else 0)
        self.progress.setValue(round(max(0.0, busy.fraction) * STEPS))
        self.progress.setFormat(f"{busy.text} %p%" if busy.fraction >= 0 else busy.text)
        self.progress.setToolTip(busy.text)
        self.progress.show()
        self.cancel_button.show()

    def _hide_progress(self) -> None:
        self.progress.hide()
        self.cancel_button.hide()
