"""The dock: puts the boxes together. It shows the session and sends signals; nothing is decided here."""

from __future__ import annotations

from qgis.core import QgsProject
from qgis.gui import QgsDockWidget
from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import (
    QAction,
    QFrame,
    QHBoxLayout,
    QMenu,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ..plugin.session import EngineState, Session
from ..plugin.status import State, size_text
from .adapter_box import AdapterBox
from .model_box import ModelBox
from .outline_box import OutlineBox
from .raster_box import RasterBox
from .status_box import StatusBox
from .target_box import TargetBox
from .work_box import WorkBox

DOCK_NAME = "SamTuneDock"


class SamTuneDock(QgsDockWidget):
    """SamTune's panel.

    Attributes:
        raster_box: layer, bands, stretch, thumbnail.
        model_box: model and device.
        adapter_box: adapter, what it learned, and whether it suits the raster.
        outline_box: level and cleaning.
        target_box: target layer and class.
        work_box: find all, class map, where to label next, review.
        status_box: state, progress, notices.
        prompt_button: takes up the map tool.
        accept_button: keeps the outline.
        undo_button: takes back the last prompt.
        clear_button: gives up the object.
    """

    accept_wanted = pyqtSignal()
    undo_wanted = pyqtSignal()
    clear_wanted = pyqtSignal()
    diagnostics_wanted = pyqtSignal()
    settings_wanted = pyqtSignal()
    store_size_wanted = pyqtSignal()
    clear_store_wanted = pyqtSignal()

    def __init__(
        self, session: Session, project: QgsProject, prompt_action: QAction, parent: QWidget | None = None
    ) -> None:
        """Build the panel.

        Args:
            session: the state to show.
            project: for units on the ground.
            prompt_action: takes up the map tool; checked while it is active.
            parent: Qt parent.
        """
        super().__init__("SamTune", parent)
        self.setObjectName(DOCK_NAME)
        self._session = session
        self.raster_box = RasterBox(session, self)
        self.model_box = ModelBox(session, self)
        self.adapter_box = AdapterBox(session, self)
        self.outline_box = OutlineBox(session, project, self)
        self.target_box = TargetBox(session, self)
        self.work_box = WorkBox(session, self)
        self.status_box = StatusBox(session, self)
        self.prompt_button = QToolButton(self)
        self.prompt_button.setDefaultAction(prompt_action)
        self.prompt_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.prompt_button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.prompt_button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.accept_button = self._make_button(self.tr("&Accept"), self.tr("Keep the outline as a polygon (Enter)"))
        self.undo_button = self._make_button(self.tr("&Undo"), self.tr("Take back the last click (Backspace)"))
        self.clear_button = self._make_button(self.tr("C&lear"), self.tr("Give up this object (Esc)"))
        self.menu_button = self._make_menu()
        self._lay_out()
        self.accept_button.clicked.connect(self.accept_wanted)
        self.undo_button.clicked.connect(self.undo_wanted)
        self.clear_button.clicked.connect(self.clear_wanted)
        for signal in (
            session.steps_changed,
            session.outline_changed,
            session.layer_changed,
            session.raster_changed,
            session.engine_changed,
            session.models_changed,
            session.model_changed,
            session.busy_changed,
            session.adapters.fit_changed,
        ):
            signal.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Enable what makes sense now."""
        session = self._session
        self.accept_button.setEnabled(session.outline is not None)
        self._show_store()
        self.undo_button.setEnabled(bool(session.steps))
        self.clear_button.setEnabled(bool(session.steps))
        blocked = {State.ENVIRONMENT_MISSING, State.NO_LAYER, State.LAYER_UNUSABLE, State.MODEL_MISSING}
        blocked.add(State.ADAPTER_UNUSABLE)
        self.prompt_button.defaultAction().setEnabled(self.status_box.status.state not in blocked)

    def _show_store(self) -> None:
        info, ready = self._session.engine_info, self._session.engine_state is EngineState.READY
        text = self.tr("Clear cache")
        if info is not None and ready:
            size = size_text(info.store_bytes) if info.store_bytes else self.tr("empty")
            text = self.tr("Clear cache ({size})").format(size=size)
        self.clear_store_action.setText(text)
        self.clear_store_action.setEnabled(ready)

    def _make_button(self, text: str, tooltip: str) -> QPushButton:
        button = QPushButton(text, self)
        button.setToolTip(tooltip)
        button.setMinimumWidth(40)
        return button

    def _make_menu(self) -> QToolButton:
        button = QToolButton(self)
        button.setText("☰")
        button.setToolTip(self.tr("Settings and diagnostics"))
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(button)
        self.diagnostics_action = menu.addAction(self.tr("Copy diagnostics"))
        self.clear_store_action = menu.addAction(self.tr("Clear cache"))
        self.clear_store_action.setToolTip(
            self.tr("Delete the encoded imagery on disk. It is encoded anew where it is needed.")
        )
        menu.setToolTipsVisible(True)
        self.settings_action = menu.addAction(self.tr("Settings…"))
        self.diagnostics_action.triggered.connect(self.diagnostics_wanted)
        self.clear_store_action.triggered.connect(self.clear_store_wanted)
        self.settings_action.triggered.connect(self.settings_wanted)
        menu.aboutToShow.connect(self.store_size_wanted)
        button.setMenu(menu)
        return button

    def _lay_out(self) -> None:
        content = QWidget(self)
        column = QVBoxLayout(content)
        column.setContentsMargins(6, 6, 6, 6)
        column.setSpacing(5)
        tool_row = QHBoxLayout()
        tool_row.addWidget(self.prompt_button, 1)
        tool_row.addWidget(self.menu_button)
        buttons = QHBoxLayout()
        buttons.setSpacing(3)
        buttons.addWidget(self.accept_button, 2)
        buttons.addWidget(self.undo_button, 2)
        buttons.addWidget(self.clear_button, 1)
        column.addWidget(self.raster_box)
        column.addWidget(self.model_box)
        column.addWidget(self.adapter_box)
        column.addLayout(tool_row)
        column.addWidget(self.outline_box)
        column.addWidget(self._line())
        column.addWidget(self.target_box)
        column.addLayout(buttons)
        column.addWidget(self._line())
        column.addWidget(self.work_box)
        column.addWidget(self.status_box)
        column.addStretch(1)
        area = QScrollArea(self)
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(content)
        self.setWidget(area)

    def _line(self) -> QFrame:
        line = QFrame(self)
        line.setFrameShape(QFrame.Shape.HLine)
        line.setFrameShadow(QFrame.Shadow.Sunken)
        return line
