"""The fine-tune wizard, made when it is first opened: its state, its window, its tools on the map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qgis.core import QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import QObject
from qgis.PyQt.QtWidgets import QAction, QWidget

from ..ui.tune.map_bar import MapBar
from ..ui.tune.wizard import TuneWizard
from .adapter_controller import AdapterController
from .latest_request import Service
from .session import Session
from .tune_controller import TuneController
from .tune_draft import first_choice
from .tune_map import ExtentDrawing, show_on_map
from .tune_runner import RunStage


@dataclass(frozen=True)
class TeachingTools:
    """What the wizard uses of the panel.

    Attributes:
        canvas: the main map.
        project: the current project.
        window: parent of the wizard.
        prompt_action: takes up the click tool.
        choose_raster: has the panel work on a raster layer.
        new_target: makes a new layer for polygons and has the panel write to it; False for a change of mind.
        adapters_folder: gives the folder of adapters.
    """

    canvas: QgsMapCanvas
    project: QgsProject
    window: QWidget
    prompt_action: QAction
    choose_raster: Callable[[QgsRasterLayer], None]
    new_target: Callable[[], bool]
    adapters_folder: Callable[[], Path]


class Teaching(QObject):
    """Owns and connects the wizard's parts.

    Attributes:
        controller: the wizard's state; None until it is first opened.
        wizard: its window, likewise.
        bar: in its place while the user works on the map, likewise.
    """

    def __init__(
        self,
        session: Session,
        work: Service,
        adapters: AdapterController,
        tools: TeachingTools,
        parent: QObject | None = None,
    ) -> None:
        """Keep what is needed; nothing is made before :meth:`open`.

        Args:
            session: the panel's state.
            work: sends requests to the engine for long work.
            adapters: the list of adapters, and the choice among them.
            tools: of the panel.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._work = work
        self._adapters = adapters
        self._tools = tools
        self._drawing: ExtentDrawing | None = None
        self._labelled: QgsVectorLayer | None = None
        self.controller: TuneController | None = None
        self.wizard: TuneWizard | None = None
        self.bar: MapBar | None = None

    def open(self) -> TuneWizard:
        """Show the wizard: the run under way where there is one, else the first page.

        Returns:
            The window.
        """
        wizard = self.wizard or self._make()
        if self.bar is not None and self.bar.isVisible():
            self._come_back()
        elif not wizard.isVisible() and self.controller is not None:
            if self.controller.runner.stage is RunStage.IDLE:
                self.controller.begin()
            wizard.begin()
        self._show()
        return wizard

    def stop(self) -> None:
        """Take everything down. The engine of a run under way is not told: its checkpoint is gone on from later."""
        if self.controller is None or self.wizard is None or self.bar is None or self._drawing is None:
            return
        self._leave_map()
        self._drawing.remove()
        self.controller.stop()
        for widget in (self.wizard, self.bar):
            widget.hide()
            widget.deleteLater()
        self.controller = self.wizard = self.bar = self._drawing = None

    def _make(self) -> TuneWizard:
        tools = self._tools
        self.controller = TuneController(
            self._session, self._work, tools.project, tools.adapters_folder, self._use_adapter, self
        )
        self.wizard = TuneWizard(self.controller, self._session.adapters, tools.project, tools.window)
        self.bar = MapBar(tools.window)
        self._drawing = ExtentDrawing(tools.canvas, self.controller.draft, tools.project, self)
        page = self.wizard.learn
        page.labels.draw_wanted.connect(self._draw_labels)
        page.extent.draw_wanted.connect(self._draw_extent)
        page.inspection.show_wanted.connect(self._show_polygons)
        self.bar.back_wanted.connect(self._come_back)
        self._drawing.drawn.connect(self._come_back)
        self.wizard.closed.connect(self._on_closed)
        return self.wizard

    def _show(self) -> None:
        if self.wizard is not None and self._drawing is not None:
            self._drawing.set_visible(True)
            self.wizard.show()
            self.wizard.raise_()
            self.wizard.activateWindow()

    def _on_closed(self) -> None:
        if self.controller is not None and self._drawing is not None:
            self._drawing.set_visible(False)
            self.controller.leave()

    def _use_adapter(self, path: str) -> None:
        self._adapters.refresh()
        if path and self._session.adapters.find(self._session.model, Path(path).name) is not None:
            self._adapters.choose(path)

    # --- on the map -------------------------------------------------------------------------------------------------

    def _draw_labels(self, name: str) -> None:
        """Let the user click objects into a label layer, with the panel's own tool."""
        if self.controller is None or self.wizard is None:
            return
        draft, session = self.controller.draft, self._session
        rasters = draft.raster_layers()
        if rasters and rasters[0] is not session.layer:
            self._tools.choose_raster(rasters[0])
        layer = draft.polygon_layer(name)
        if layer is None and self._tools.new_target():
            layer = session.target
        if layer is None:
            return
        if all(choice.layer != layer.id() for choice in draft.labels):
            draft.set_labels((*draft.labels, first_choice(layer)))
        choice = next(choice for choice in draft.labels if choice.layer == layer.id())
        session.set_target(layer, choice.class_field)
        found = self.controller.preparer.inspection
        if not choice.class_field:
            session.set_class_value("")
        elif not session.class_value:  # polygons without a class would be left out
            session.set_class_value(found.classes[0].name if found is not None and found.classes else choice.class_name)
        self._labelled = layer
        draft.inputs_changed.connect(self._count)
        self.wizard.hide()
        self._tools.prompt_action.setChecked(True)
        self._count()

    def _count(self) -> None:
        if self.bar is not None and self._labelled is not None:
            text = self.tr("Click an object, then Enter to keep it. “{layer}” has {n} polygons.")
            count = int(self._labelled.featureCount())
            self.bar.show_over(self._tools.canvas, text.format(layer=self._labelled.name(), n=count))

    def _draw_extent(self) -> None:
        if self.wizard is not None and self.bar is not None and self._drawing is not None:
            self.wizard.hide()
            self._drawing.take_up()
            self.bar.show_over(self._tools.canvas, self.tr("Drag a rectangle in which you drew every object."))

    def _leave_map(self) -> None:
        if self._labelled is not None and self.controller is not None:
            self.controller.draft.inputs_changed.disconnect(self._count)
            self._labelled = None
            self._tools.prompt_action.setChecked(False)
        if self._drawing is not None:
            self._drawing.lay_down()
        if self.bar is not None:
            self.bar.hide()

    def _come_back(self) -> None:
        self._leave_map()
        self._show()

    def _show_polygons(self, numbers: tuple[int, ...]) -> None:
        if self.controller is not None and self.controller.preparer.labels is not None:
            origins = self.controller.preparer.labels.origins
            show_on_map(self._tools.canvas, self.controller.draft, origins, numbers)
