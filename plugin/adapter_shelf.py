"""What can be done with the adapters of the folder: rename, export, delete and undo that, compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import cast

from qgis.core import QgsVectorLayer
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ..engine.area_messages import CompareParams
from ..engine.messages import AdapterReport, Method
from ..engine.tune_messages import DescribeAdapterParams, LabelSource
from ..models.errors import OutputError, RasterError, SamTuneError
from .adapter_controller import AdapterController
from .adapter_files import AdapterSummary
from .adapter_trash import Deleted, export_copy, move_back, move_to_trash, remove_old
from .label_file import LabelWriter
from .latest_request import LatestRequest, Service
from .session import NoticeLevel, Session


@dataclass(frozen=True)
class Comparison:
    """Two adapters (an empty path: the model as it is) and the polygons to measure them by."""

    first: str
    second: str
    labels: QgsVectorLayer
    class_field: str = ""


class AdapterShelf(QObject):
    """Acts on files of adapters; the list and the choice are kept by the adapter controller.

    Signals:
        changed: something can be undone, or no longer.
        compared: a :class:`~samtune.engine.area_messages.CompareResult`.
        compare_failed: why not, for the user; never for a comparison that was cancelled.
    """

    changed = pyqtSignal()
    compared = pyqtSignal(object)
    compare_failed = pyqtSignal(str)

    def __init__(
        self,
        session: Session,
        work: Service,
        adapters: AdapterController,
        folder: Callable[[], Path],
        parent: QObject | None = None,
    ) -> None:
        """Keep what is needed.

        Args:
            session: the state.
            work: sends requests to the engine for long work.
            adapters: lists and chooses.
            folder: gives the folder of adapters, as the settings are now.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._adapters = adapters
        self._folder = folder
        self._describe = LatestRequest(work, session, "adapter-describe", self.tr("Changing the card…"))
        self._compare = LatestRequest(work, session, "adapter-compare", self.tr("Comparing…"))
        self._labels = LabelWriter(session, "compare-labels", self)
        self._deleted: list[Deleted] = []

    # --- one adapter ------------------------------------------------------------------------------------------------

    def describe(self, summary: AdapterSummary, name: str, notes: str) -> None:
        """Give an adapter another name and other notes.

        Args:
            summary: of the adapter.
            name: the new one.
            notes: in place of what the user wrote before.
        """
        in_use = self._session.adapters.chosen == summary

        def done(result: object) -> None:
            report = cast("AdapterReport", result)
            self._adapters.refresh()
            if in_use:
                self._adapters.choose(report.path)
            self._session.notify(NoticeLevel.SUCCESS, self.tr("“{name}” is kept.").format(name=report.name))

        params = DescribeAdapterParams(str(summary.path), name.strip(), notes.strip())
        self._describe.send(Method.DESCRIBE_ADAPTER, params, done, self._report)

    def export(self, summary: AdapterSummary, to: str) -> bool:
        """Copy an adapter's file, never over another one.

        Returns:
            Whether that was done. If not, the user has been told why.
        """
        try:
            made = export_copy(summary.path, Path(to))
        except OutputError as error:
            self._report(error)
            return False
        self._session.notify(NoticeLevel.SUCCESS, self.tr("Copied to {path}.").format(path=made))
        return True

    def delete(self, summary: AdapterSummary) -> None:
        """Move an adapter to the trash; :meth:`undo_delete` brings it back."""
        if self._session.adapters.chosen == summary:
            self._adapters.choose("")
        try:
            self._deleted.append(move_to_trash(summary.path, date.today()))
        except OutputError as error:
            self._report(error)
            return
        self._adapters.refresh()
        text = self.tr("The adapter “{name}” was deleted. It stays in the trash of its folder for 30 days.")
        self._session.notify(NoticeLevel.INFO, text.format(name=summary.name), undo=self.undo_delete)
        self.changed.emit()

    @property
    def can_undo(self) -> bool:
        """Return whether something was deleted that can come back."""
        return bool(self._deleted)

    def undo_delete(self) -> None:
        """Bring back what was deleted last."""
        if not self._deleted:
            return
        last = self._deleted.pop()
        try:
            back = move_back(last)
        except OutputError as error:
            self._deleted.append(last)
            self._report(error)
            return
        self._adapters.refresh()
        self._session.notify(NoticeLevel.SUCCESS, self.tr("{file} is back.").format(file=back.name))
        self.changed.emit()

    # --- two adapters -----------------------------------------------------------------------------------------------

    def compare(self, comparison: Comparison) -> None:
        """Measure two adapters on the session's raster; the answer comes as :attr:`compared`."""
        self.cancel_compare()
        if self._session.raster is None:
            self.compare_failed.emit(self.tr("Choose a raster layer in the panel first."))
            return
        self._labels.write(
            comparison.labels,
            comparison.class_field,
            lambda labels: self._ask(comparison, labels),
            self._on_not_compared,
        )

    @property
    def comparing(self) -> bool:
        """Return whether a comparison is under way."""
        return self._labels.busy or self._compare.busy

    def cancel_compare(self) -> None:
        """Stop comparing."""
        self._compare.cancel()
        self._labels.drop()

    def stop(self) -> None:
        """Drop all requests, and clean the trash of what is old; for unloading."""
        self.cancel_compare()
        self._describe.cancel()
        remove_old(self._folder(), date.today())

    def _ask(self, comparison: Comparison, labels: LabelSource) -> None:
        session = self._session
        if session.raster is None:
            self._on_not_compared(RasterError(self.tr("The raster layer is gone. Choose one, then compare again.")))
            return
        params = CompareParams(
            raster=session.raster.spec,
            model=session.model,
            first=comparison.first,
            second_adapter=comparison.second,
            labels=labels,
            second=session.adapters.second_uri,
        )
        self._compare.send(Method.COMPARE_ADAPTERS, params, self._on_compared, self._on_not_compared)

    def _on_compared(self, result: object) -> None:
        self._labels.drop()
        self.compared.emit(result)

    def _on_not_compared(self, error: SamTuneError) -> None:
        self._labels.drop()
        self.compare_failed.emit(error.user_text)

    def _report(self, error: SamTuneError) -> None:
        self._session.notify(NoticeLevel.ERROR, error.user_text, f"{error.kind}: {error.details}")
