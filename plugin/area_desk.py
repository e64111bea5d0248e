"""Puts together what is around clicking: whole areas, suggestions, review, and the manager of adapters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qgis.core import QgsVectorLayer
from qgis.PyQt.QtCore import QObject
from qgis.PyQt.QtWidgets import QDialog

from ..models.errors import OutputError, PromptError, SamTuneError
from ..ui.adapter_manager import AdapterManager
from ..ui.area_dialog import AreaDialog, FindDialog, MapDialog
from ..ui.compare_dialog import CompareDialog
from ..ui.questions import Questions
from .acceptor import Acceptor
from .adapter_controller import AdapterController
from .adapter_files import AdapterSummary
from .adapter_shelf import AdapterShelf
from .area_choice import AreaChoice, AreaKind, View, area_wkb
from .area_texts import AreaWork, reason_against
from .class_map_controller import ClassMapController, MapOrder
from .click_controller import ClickController
from .engine_config import adapters_folder
from .find_controller import FindController, FindOrder
from .latest_request import Service
from .review_controller import ReviewController
from .session import NoticeLevel, Session
from .settings import PluginSettings
from .suggestion_controller import SuggestionController

if TYPE_CHECKING:
    from ..ui.dock import SamTuneDock
    from .workbench import Surroundings


class AreaDesk(QObject):
    """Owns and connects the parts.

    Attributes:
        find: find all.
        maps: class maps.
        suggestions: where to label next.
        review: polygons that nobody has looked at.
        shelf: what can be done with adapters.
        dialogs: those that are open, by their kind.
    """

    def __init__(
        self,
        around: Surroundings,
        settings: PluginSettings,
        session: Session,
        work: Service,
        adapters: AdapterController,
        acceptor: Acceptor,
        clicks: ClickController,
        dock: SamTuneDock,
    ) -> None:
        """Make everything; nothing is asked of the engine yet.

        Args:
            around: what QGIS offers.
            settings: the plugin's settings.
            session: the state.
            work: sends requests to the engine for long work.
            adapters: lists and chooses adapters.
            acceptor: writes polygons.
            clicks: takes clicks.
            dock: the panel.
        """
        super().__init__(dock)
        self._around = around
        self._settings = settings
        self._session = session
        self._adapters = adapters
        self._acceptor = acceptor
        self._dock = dock
        canvas, project = around.canvas, around.project
        self._questions = Questions(around.window, settings, self)
        self.find = FindController(session, work, project, acceptor.writer, self)
        self.maps = ClassMapController(session, work, project, self)
        self.suggestions = SuggestionController(
            session, work, canvas, project, acceptor, self._take_up_tool, lambda at: clicks.add_point(at, True), self
        )
        self.review = ReviewController(
            session, canvas, project, acceptor, self._questions.may_add_fields, self._take_up_tool, self
        )
        self.shelf = AdapterShelf(session, work, adapters, lambda: adapters_folder(settings), self)
        self.dialogs: dict[str, QDialog] = {}
        self._connect()

    def stop(self) -> None:
        """End everything; for unloading."""
        for dialog in list(self.dialogs.values()):
            dialog.close()
        self.find.cancel()
        self.maps.cancel()
        self.suggestions.remove()
        self.review.remove()
        self.shelf.stop()

    def cancel(self) -> None:
        """Stop what is under way, as the user asked; what is shown stays."""
        self.find.cancel()
        self.maps.cancel()
        self.suggestions.cancel()
        self.shelf.cancel_compare()

    def show_manager(self) -> None:
        """Show the adapter manager."""
        if self._raise("manager"):
            return
        self._adapters.refresh()
        dialog = AdapterManager(self._session, self._around.project, lambda: self.shelf.can_undo, self._around.window)
        dialog.activate_wanted.connect(self._activate)
        dialog.import_wanted.connect(self._adapters.add)
        dialog.describe_wanted.connect(self.shelf.describe)
        dialog.export_wanted.connect(self.shelf.export)
        dialog.delete_wanted.connect(self.shelf.delete)
        dialog.undo_wanted.connect(self.shelf.undo_delete)
        dialog.compare_wanted.connect(self._show_compare)
        self.shelf.changed.connect(dialog.refresh)
        self._show("manager", dialog)

    # --- wiring -----------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        dock, box = self._dock, self._dock.work_box
        box.wanted.connect(self._begin)
        box.suggest_wanted.connect(self._suggest)
        dock.adapter_box.manage_wanted.connect(self.show_manager)
        dock.status_box.cancel_wanted.connect(self.cancel)
        review, suggestions = self.review, self.suggestions
        steps = {"accept": review.accept, "fix": review.fix, "reject": review.reject, "next": review.next}
        box.review_bar.wanted.connect(lambda name: steps[name]())
        box.review_bar.close_wanted.connect(review.stop)
        places = {
            "accept": suggestions.accept,
            "fix": suggestions.fix,
            "dismiss": suggestions.dismiss,
            "next": suggestions.next,
        }
        box.suggestion_bar.wanted.connect(lambda name: places[name]())
        box.suggestion_bar.close_wanted.connect(suggestions.stop)
        review.changed.connect(self._show_review)
        suggestions.changed.connect(self._show_suggestions)
        self.find.finished.connect(self._on_found)

    def _show_review(self) -> None:
        queue = self.review.queue
        usable = queue is not None and queue.current is not None
        self._dock.work_box.review_bar.show_state(self.review.text(), usable=usable)

    def _show_suggestions(self) -> None:
        usable = self.suggestions.current is not None
        self._dock.work_box.suggestion_bar.show_state(self.suggestions.text(), usable=usable)

    def _take_up_tool(self) -> None:
        self._dock.prompt_button.defaultAction().setChecked(True)
        self._around.canvas.setFocus()

    # --- begin ------------------------------------------------------------------------------------------------------

    def _begin(self, work: AreaWork) -> None:
        begin = {AreaWork.FIND: self._ask_find, AreaWork.MAP: self._ask_map, AreaWork.REVIEW: self._review}
        reason = reason_against(work, self._session)
        if reason:
            self._session.notify(NoticeLevel.INFO, reason)
        elif work in begin:
            begin[work]()

    def _review(self) -> None:
        target = self._session.target
        if target is not None:
            self.suggestions.stop()
            self._around.make_active(target)
            self.review.start(target)

    def _on_found(self, layer: QgsVectorLayer) -> None:
        self._session.set_target(layer, self._session.class_field if layer is self._session.target else "")

    def _suggest(self, kind: AreaKind) -> None:
        self.review.stop()
        try:
            self.suggestions.start(self._area(AreaChoice(kind)))
        except PromptError as error:
            self._session.notify(NoticeLevel.WARNING, error.user_text, error.details)

    def _ask_find(self) -> None:
        chosen = self._session.adapters.chosen
        if chosen is None or self._raise("find"):
            return
        dialog = FindDialog(chosen.name, self._session.target, self._around.window)
        dialog.start_wanted.connect(lambda: self._start(AreaWork.FIND, dialog, self._start_find))
        self._show("find", dialog)

    def _start_find(self, dialog: FindDialog) -> bool:
        if self.find.busy:
            raise PromptError(self.tr("A search is under way. Wait for it, or stop it in the panel."))
        area = self._area(dialog.area)
        target = dialog.target_combo.currentLayer()
        session = self._session
        if target is None and not self._acceptor.new_target():
            return False
        target = target or session.target
        if target is None:
            return False
        field = session.class_field if target is session.target else ""
        self.find.run(FindOrder(area, dialog.threshold_spin.value(), target, field))
        return True

    def _ask_map(self) -> None:
        chosen = self._session.adapters.chosen
        if chosen is None or self._raise("map"):
            return
        dialog = MapDialog(chosen.name, self._settings.output_folder.value(), self._around.window)
        dialog.start_wanted.connect(lambda: self._start(AreaWork.MAP, dialog, self._start_map))
        self._show("map", dialog)

    def _start_map(self, dialog: MapDialog) -> bool:
        if self.maps.busy:
            raise PromptError(self.tr("A class map is being made. Wait for it, or stop it in the panel."))
        if dialog.output is None:
            raise OutputError(self.tr("Name the file that the map is written to."))
        self.maps.run(MapOrder(self._area(dialog.area), dialog.output, dialog.confidence_box.isChecked()))
        self._settings.output_folder.setValue(str(dialog.output.parent))
        return True

    def _start(self, work: AreaWork, dialog: AreaDialog, start: Callable[[AreaDialog], bool]) -> None:
        """Start what a dialog asked; it stays open, and says why, when that is not possible."""
        reason = reason_against(work, self._session)
        if reason:
            dialog.show_message(reason)
            return
        try:
            if start(dialog):
                dialog.close()
        except SamTuneError as error:
            dialog.show_message(error.user_text)

    def _area(self, choice: AreaChoice) -> str:
        canvas, layer = self._around.canvas, self._session.layer
        if layer is None:
            raise PromptError(self.tr("Choose a raster layer first."))
        view = View(canvas.extent(), canvas.mapSettings().destinationCrs())
        return area_wkb(choice, layer, view, self._around.project)

    # --- adapters ---------------------------------------------------------------------------------------------------

    def _activate(self, summary: AdapterSummary) -> None:
        self._session.set_model(summary.base)
        self._adapters.choose(str(summary.path))

    def _show_compare(self, chosen: tuple[AdapterSummary, ...]) -> None:
        open_one = self.dialogs.get("compare")
        if open_one is not None:
            open_one.close()
        dialog = CompareDialog(self._session, self.shelf, chosen, self._around.window)
        dialog.compare_wanted.connect(self.shelf.compare)
        dialog.cancel_wanted.connect(self.shelf.cancel_compare)
        self._show("compare", dialog)

    # --- dialogs ----------------------------------------------------------------------------------------------------

    def _show(self, kind: str, dialog: QDialog) -> None:
        self.dialogs[kind] = dialog

        def forget() -> None:
            if self.dialogs.get(kind) is dialog:
                del self.dialogs[kind]

        dialog.finished.connect(forget)
        dialog.destroyed.connect(forget)
        dialog.show()

    def _raise(self, kind: str) -> bool:
        dialog = self.dialogs.get(kind)
        if dialog is not None:
            dialog.raise_()
            dialog.activateWindow()
        return dialog is not None
