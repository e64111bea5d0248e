"""Work on whole areas: find all, class map, where to label next, review. Buttons only where they make sense."""

from __future__ import annotations

from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QGridLayout, QMenu, QSizePolicy, QToolButton, QWidget

from ..plugin.area_choice import AreaKind
from ..plugin.area_texts import AreaWork, purpose_text, reason_against
from ..plugin.session import Session
from .forms import column
from .step_bar import Step, StepBar


class WorkBox(QWidget):
    """Shows what can be done with whole areas now; the tooltip says why something cannot.

    Attributes:
        buttons: by what they do.
        batch_button: opens the dialog of batch jobs.
        suggest_actions: where to look for places to label.
        suggestion_bar: steps through places to label; hidden while there are none.
        review_bar: steps through polygons to review; likewise.
    """

    wanted = pyqtSignal(object)
    suggest_wanted = pyqtSignal(object)
    batch_wanted = pyqtSignal()

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        """Build the widgets and listen to the session."""
        super().__init__(parent)
        self._session = session
        texts = {
            AreaWork.FIND: self.tr("Find all…"),
            AreaWork.MAP: self.tr("Class map…"),
            AreaWork.SUGGEST: self.tr("Label next"),
            AreaWork.REVIEW: self.tr("Review"),
        }
        self.buttons = {work: self._make_button(work, text) for work, text in texts.items()}
        grid = QGridLayout()
        grid.setSpacing(3)
        for place, button in enumerate(self.buttons.values()):
            grid.addWidget(button, place // 2, place % 2)
        self.batch_button = QToolButton(self)
        self.batch_button.setText(self.tr("&Batch…"))
        self.batch_button.setToolTip(self.tr("Work through whole layers and folders of rasters, in the background"))
        self.batch_button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.batch_button.clicked.connect(self.batch_wanted)
        grid.addWidget(self.batch_button, grid.rowCount(), 0, 1, 2)
        menu = QMenu(self.buttons[AreaWork.SUGGEST])
        self.suggest_actions = {
            AreaKind.VIEW: menu.addAction(self.tr("In what the map shows")),
            AreaKind.LAYER: menu.addAction(self.tr("In the whole layer")),
        }
        self.buttons[AreaWork.SUGGEST].setMenu(menu)
        self.buttons[AreaWork.SUGGEST].setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.suggest_actions[AreaKind.VIEW].triggered.connect(lambda: self.suggest_wanted.emit(AreaKind.VIEW))
        self.suggest_actions[AreaKind.LAYER].triggered.connect(lambda: self.suggest_wanted.emit(AreaKind.LAYER))
        self.suggestion_bar = StepBar(
            (
                Step("accept", self.tr("Accept"), self.tr("Keep the outline as a polygon"), self.tr("Enter")),
                Step("fix", self.tr("Fix"), self.tr("Click it with the click tool, and mend the outline"), "F"),
                Step("dismiss", self.tr("Dismiss"), self.tr("Do without this place"), "X"),
                Step("next", self.tr("Next"), self.tr("Leave it for later"), "N"),
            ),
            self,
        )
        self.review_bar = StepBar(
            (
                Step("accept", self.tr("Accept"), self.tr("It is right: mark it as reviewed"), "A"),
                Step("fix", self.tr("Fix"), self.tr("Click it anew; the outline takes its place"), "F"),
                Step("reject", self.tr("Reject"), self.tr("Delete it"), "R"),
                Step("next", self.tr("Next"), self.tr("Leave it for later"), "N"),
            ),
            self,
        )
        rows = column(self)
        rows.addLayout(grid)
        rows.addWidget(self.suggestion_bar)
        rows.addWidget(self.review_bar)
        for signal in (
            session.layer_changed,
            session.raster_changed,
            session.models_changed,
            session.model_changed,
            session.engine_changed,
            session.target_changed,
            session.adapters.changed,
            session.adapters.listed,
            session.adapters.fit_changed,
        ):
            signal.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Enable what makes sense now."""
        for work, button in self.buttons.items():
            reason = reason_against(work, self._session)
            button.setEnabled(not reason)
            purpose = purpose_text(work)
            button.setToolTip(f"{purpose}.\n{reason}" if reason else purpose)

    def _make_button(self, work: AreaWork, text: str) -> QToolButton:
        button = QToolButton(self)
        button.setText(text)
        button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        button.clicked.connect(lambda: self.wanted.emit(work))
        return button
