"""Page 1: what to learn from."""

from __future__ import annotations

from qgis.core import QgsProject
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

from ...plugin.tune_controller import TuneController
from .extent_picker import ExtentPicker
from .inspection_view import InspectionView
from .label_picker import LabelPicker
from .page import TunePage
from .raster_picker import RasterPicker
from .resume_banner import ResumeBanner


class LearnPage(TunePage):
    """Choices on the left, what they give on the right.

    Attributes:
        banner: an interrupted run.
        rasters: the imagery.
        labels: the polygons.
        extent: within what everything is labelled.
        inspection: what there is.
    """

    def __init__(self, controller: TuneController, project: QgsProject, parent: QWidget | None = None) -> None:
        """Build the widgets.

        Args:
            controller: the wizard's state.
            project: whose layers are offered.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._controller = controller
        self.setTitle(self.tr("What shall it learn from?"))
        self.setSubTitle(self.tr("Show it some of your objects, drawn as polygons. Ten good ones are a fine start."))
        draft = controller.draft
        self.banner = ResumeBanner(controller, self)
        self.rasters = RasterPicker(draft, project, self)
        self.labels = LabelPicker(draft, project, self)
        self.extent = ExtentPicker(draft, self)
        self.inspection = InspectionView(controller.preparer, self)
        left = QWidget(self)
        choices = QVBoxLayout(left)
        choices.setContentsMargins(0, 0, 4, 0)
        for widget in (self.rasters, self.labels, self.extent):
            choices.addWidget(widget)
        choices.addStretch(1)
        columns = QHBoxLayout()
        columns.addWidget(scrolled(left, self), 10)
        columns.addWidget(scrolled(self.inspection, self), 11)
        rows = QVBoxLayout(self)
        rows.addWidget(self.banner)
        rows.addLayout(columns, 1)
        self.inspection.level_wanted.connect(draft.set_level)
        controller.preparer.inspected.connect(self.tell_completeness)

    def isComplete(self) -> bool:
        """Called by Qt: there must be something to learn from."""
        return self._controller.preparer.ready


def scrolled(widget: QWidget, parent: QWidget) -> QScrollArea:
    """Put a widget into a frame that scrolls up and down where there is no room for all of it."""
    area = QScrollArea(parent)
    area.setWidget(widget)
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return area
