"""Page 2: what the adapter is for."""

from __future__ import annotations

from pathlib import Path

from qgis.PyQt.QtCore import QSize, Qt
from qgis.PyQt.QtGui import QIcon, QMouseEvent
from qgis.PyQt.QtWidgets import QFrame, QHBoxLayout, QLabel, QRadioButton, QVBoxLayout, QWidget, QWizardPage

from ...engine.tune_messages import TuneTask
from ...plugin.tune_controller import TuneController

ICONS = Path(__file__).parent.parent / "icons"
PICTURE = QSize(144, 96)


class TaskCard(QFrame):
    """A radio button with a picture and an explanation; the whole card takes the click.

    Attributes:
        radio: the button.
    """

    def __init__(self, title: str, text: str, icon: str, parent: QWidget | None = None) -> None:
        """Build the card.

        Args:
            title: of the radio button.
            text: what it means.
            icon: name of the picture's file.
            parent: Qt parent.
        """
        super().__init__(parent)
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.radio = QRadioButton(title, self)
        font = self.radio.font()
        font.setBold(True)
        font.setPointSizeF(font.pointSizeF() * 1.15)
        self.radio.setFont(font)
        picture, label = QLabel(self), QLabel(text, self)
        picture.setPixmap(QIcon(str(ICONS / icon)).pixmap(PICTURE))
        label.setWordWrap(True)
        texts = QVBoxLayout()
        texts.addStretch(1)
        texts.addWidget(self.radio)
        texts.addWidget(label)
        texts.addStretch(1)
        row = QHBoxLayout(self)
        row.addWidget(picture)
        row.addSpacing(8)
        row.addLayout(texts, 1)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Called by Qt: a click anywhere on the card."""
        if event.button() == Qt.MouseButton.LeftButton:
            self.radio.click()
        super().mouseReleaseEvent(event)


class TaskPage(QWizardPage):
    """Three cards.

    Attributes:
        cards: by what they stand for.
    """

    def __init__(self, controller: TuneController, parent: QWidget | None = None) -> None:
        """Build the cards."""
        super().__init__(parent)
        self._draft = controller.draft
        self.setTitle(self.tr("What do you want to do with it?"))
        self.setSubTitle(
            self.tr("It is taught for one of these. The polygons stay the same, so you can do another later.")
        )
        clicks = TaskCard(
            self.tr("Better clicks"),
            self.tr(
                "You go on clicking objects one by one, and the outlines fit with fewer clicks. Needs the fewest "
                "polygons; one object is enough to begin."
            ),
            "task_clicks.svg",
            self,
        )
        find = TaskCard(
            self.tr("Find all of these"),
            self.tr(
                "SamTune finds every object of this kind in the map view or in an area, each as a polygon of its own, "
                "for you to review. Best with an area in which you drew every one of them."
            ),
            "task_find.svg",
            self,
        )
        mapped = TaskCard(
            self.tr("A class map"),
            self.tr(
                "Every pixel gets a class, as a raster: land cover, say. Best with several classes, and an area in "
                "which everything was drawn."
            ),
            "task_map.svg",
            self,
        )
        self.cards = {TuneTask.PROMPTABLE: clicks, TuneTask.INSTANCES: find, TuneTask.SEMANTIC: mapped}
        rows = QVBoxLayout(self)
        for task, card in self.cards.items():
            rows.addWidget(card, 1)
            # The buttons have different parents, so they are kept exclusive by the draft.
            card.radio.setAutoExclusive(False)
            card.radio.clicked.connect(lambda _on, chosen=task: self._take(chosen))
        self._draft.method_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the draft."""
        for task, card in self.cards.items():
            card.radio.setChecked(task is self._draft.task)

    def _take(self, task: TuneTask) -> None:
        self._draft.set_task(task)
        self.refresh()
