"""Work on whole areas: find all, class map, where to label next, review. Buttons only where they make sense."""

from __future__ import annotations

from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QAction, QGridLayout, QMenu, QSizePolicy, QToolButton, QWidget

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
        self.batch_button = self._make_batch_button()
        self.suggest_actions = self._make_suggest_menu()
        self.suggestion_bar, self.review_bar = self._make_suggestion_bar(), self._make_review_bar()
        self._lay_out()
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

    def _lay_out(self) -> None:
        grid = QGridLayout()
        grid.setSpacing(3)
        for place, button in enumerate(self.buttons.values()):
            grid.addWidget(button, place // 2, place % 2)
        grid.addWidget(self.batch_button, grid.rowCount(), 0, 1, 2)
        rows = column(self)
        rows.addLayout(grid)
        rows.addWidget(self.suggestion_bar)
        rows.addWidget(self.review_bar)

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

    def _make_batch_button(self) -> QToolButton:
        button = QToolButton(self)
        button.setText(self.tr("&Batch…"))
        button.setToolTip(self.tr("Work through whole layers and folders of rasters, in the background"))
        button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        button.clicked.connect(self.batch_wanted)
        return button

    def _make_suggest_menu(self) -> dict[AreaKind, QAction]:
        button = self.buttons[AreaWork.SUGGEST]
        menu = QMenu(button)
        actions = {
            AreaKind.VIEW: menu.addAction(self.tr("In what the map shows")),
            AreaKind.LAYER: menu.addAction(self.tr("In the whole layer")),
        }
        actions[AreaKind.VIEW].triggered.connect(lambda: self.suggest_wanted.emit(AreaKind.VIEW))
        actions[AreaKind.LAYER].triggered.connect(lambda: self.suggest_wanted.emit(AreaKind.LAYER))
        button.setMenu(menu)
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        return actions

    def _make_suggestion_bar(self) -> StepBar:
        return StepBar(
            (
                Step("accept", self.tr("Accept"), self.tr("Keep the outline as a polygon"), self.tr("Enter")),
                Step("fix", self.tr("Fix"), self.tr("Click it with the click tool, and mend the outline"), "F"),
                Step("dismiss", self.tr("Dismiss"), self.tr("Do without this place"), "X"),
                Step("next", self.tr("Next"), self.tr("Leave it for later"), "N"),
            ),
            self,
        )

    def _make_review_bar(self) -> StepBar:
        return StepBar(
            (
                Step("accept", self.tr("Accept"), self.tr("It is right: mark it as reviewed"), "A"),
                Step("fix", self.tr("Fix"), self.tr("Click it anew; the outline takes its place"), "F"),
                Step("reject", self.tr("Reject"), self.tr("Delete it"), "R"),
                Step("next", self.tr("Next"), self.tr("Leave it for later"), "N"),
            ),
            self,
        )
