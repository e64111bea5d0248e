"""The plugin object: the only place that touches QGIS's interface. What it registers it takes away again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qgis.core import Qgis, QgsApplication, QgsMessageLog, QgsProject
from qgis.PyQt.QtCore import QObject, Qt, QTimer
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QAction, QPushButton

from .settings import PluginSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from qgis.gui import QgisInterface

    from ..ui.options_page import OptionsFactory
    from .processing.provider import SamTuneProvider
    from .session import Notice
    from .workbench import Workbench

MENU = "SamTune"
LOG_TAG = "SamTune"
ICONS = Path(__file__).parent.parent / "ui" / "icons"
ERROR_SECONDS = 30
WARNING_SECONDS = 10
DOCK_ACTION = "SamTuneDockAction"
PROMPT_ACTION = "SamTunePromptAction"
TEACH_ACTION = "SamTuneTeachAction"
BATCH_ACTION = "SamTuneBatchAction"
JOBS_ACTION = "SamTuneJobsAction"


class SamTunePlugin(QObject):
    """Made by QGIS when the plugin is enabled. Until the panel is opened it consists of an action and an options page.

    Attributes:
        workbench: everything behind the panel; None until that is first opened.
    """

    def __init__(self, iface: QgisInterface | None) -> None:
        """Keep QGIS's interface; there is none in ``qgis_process``, which calls :meth:`initProcessing` alone."""
        super().__init__()
        self._iface = iface
        self.workbench: Workbench | None = None
        self._settings: PluginSettings | None = None
        self._provider: SamTuneProvider | None = None
        self._options: OptionsFactory | None = None
        self._dock_action: QAction | None = None
        self._prompt_action: QAction | None = None
        self._menu_actions: list[QAction] = []

    def initProcessing(self) -> None:
        """Register the algorithms; called by QGIS where it has no window, and by :meth:`initGui`."""
        from .processing.provider import SamTuneProvider

        self._settings = PluginSettings()
        self._provider = SamTuneProvider(self._settings)
        QgsApplication.processingRegistry().addProvider(self._provider)

    def initGui(self) -> None:
        """Register the algorithms, the action and the options page; called by QGIS."""
        from ..ui.options_page import OptionsFactory

        self.initProcessing()
        self._options = OptionsFactory(self._settings, self._apply_settings)
        self._iface.registerOptionsWidgetFactory(self._options)
        action = QAction(QIcon(str(ICONS / "samtune.svg")), self.tr("SamTune panel"), self._iface.mainWindow())
        action.setObjectName(DOCK_ACTION)
        action.setCheckable(True)
        action.setToolTip(self.tr("Click objects in a raster and keep their outlines"))
        action.toggled.connect(self._toggle_dock)
        self._dock_action = action
        self._iface.addPluginToMenu(MENU, action)
        self._iface.addToolBarIcon(action)  # QGIS hides its Raster toolbar by default
        self._add_to_menu(TEACH_ACTION, self.tr("Teach it your objects…"), self.open_teaching)
        self._add_to_menu(BATCH_ACTION, self.tr("Batch…"), self.open_batch)
        self._add_to_menu(JOBS_ACTION, self.tr("Batch jobs"), self.open_jobs)
        if self._settings.dock_open.value():
            QTimer.singleShot(0, self._reopen)

    def unload(self) -> None:
        """Take everything away; called by QGIS."""
        self._close_workbench()
        if self._dock_action is not None:
            self._iface.removePluginMenu(MENU, self._dock_action)
            self._iface.removeToolBarIcon(self._dock_action)
            self._dock_action.deleteLater()
            self._dock_action = None
        for action in self._menu_actions:
            self._iface.removePluginMenu(MENU, action)
            action.deleteLater()
        self._menu_actions = []
        if self._options is not None:
            self._iface.unregisterOptionsWidgetFactory(self._options)
            self._options.deleteLater()
            self._options = None
        if self._provider is not None:
            QgsApplication.processingRegistry().removeProvider(self._provider)
            self._provider = None
        if self._settings is not None:
            self._settings.unload()
            self._settings = None

    def open_dock(self) -> Workbench:
        """Show the panel, making it first if need be.

        Returns:
            Everything behind it.

        Raises:
            RuntimeError: the plugin is not loaded.
        """
        if self._settings is None or self._dock_action is None:
            raise RuntimeError("SamTune is not loaded")
        if self.workbench is None:
            self.workbench = self._make_workbench(self._settings)
        self._dock_action.setChecked(True)
        self.workbench.dock.setUserVisible(True)
        self.workbench.choose_first_layer()
        return self.workbench

    def open_teaching(self) -> None:
        """Show the fine-tune wizard."""
        self.open_dock().teaching.open()

    def open_batch(self) -> None:
        """Show the dialog of batch jobs beside the panel, whose model and adapter it begins with."""
        self.open_dock().batch.open_dialog()

    def open_jobs(self) -> None:
        """Show the panel of batch jobs."""
        self.open_dock().batch.open_panel()

    def _add_to_menu(self, name: str, text: str, do: Callable[[], object]) -> None:
        action = QAction(text, self._iface.mainWindow())
        action.setObjectName(name)
        action.triggered.connect(do)
        self._iface.addPluginToMenu(MENU, action)
        self._menu_actions.append(action)

    def _reopen(self) -> None:
        if self._settings is not None and self.workbench is None:
            self.open_dock()

    def _toggle_dock(self, checked: bool) -> None:  # noqa: FBT001 - Qt's slot
        if checked and (self.workbench is None or not self.workbench.dock.isUserVisible()):
            self.open_dock()
        elif not checked and self.workbench is not None:
            self.workbench.dock.setUserVisible(False)
        if self._settings is not None:
            self._settings.dock_open.setValue(checked)

    def _make_workbench(self, settings: PluginSettings) -> Workbench:
        from .workbench import Surroundings, Workbench

        window = self._iface.mainWindow()
        action = QAction(QIcon(str(ICONS / "prompt.svg")), self.tr("Click objects"), window)
        action.setObjectName(PROMPT_ACTION)
        action.setCheckable(True)
        action.setToolTip(
            self.tr("Left click: this belongs to the object. Right or Shift click: this does not. Drag: a box.")
        )
        self._prompt_action = action
        around = Surroundings(
            canvas=self._iface.mapCanvas(),
            project=QgsProject.instance(),
            window=window,
            show_notice=self._show_notice,
            open_settings=self._open_settings,
            active_layer=self._iface.activeLayer,
            make_active=self._iface.setActiveLayer,
            add_dock=self._iface.addDockWidget,
            remove_dock=self._iface.removeDockWidget,
        )
        workbench = Workbench(around, settings, action)
        self._iface.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, workbench.dock)
        workbench.dock.visibilityChanged.connect(self._show_dock_state)
        return workbench

    def _close_workbench(self) -> None:
        if self.workbench is not None:
            self.workbench.dock.visibilityChanged.disconnect(self._show_dock_state)
            self._iface.removeDockWidget(self.workbench.dock)
            self.workbench.unload()
            self.workbench = None
        if self._prompt_action is not None:
            self._prompt_action.deleteLater()
            self._prompt_action = None

    def _show_dock_state(self) -> None:
        """Keep the action checked while the panel is open, also when it is closed by its own cross."""
        if self.workbench is not None and self._dock_action is not None:
            self._dock_action.setChecked(not self.workbench.dock.isHidden())

    def _apply_settings(self) -> None:
        if self.workbench is not None:
            self.workbench.apply_settings()

    def _open_settings(self) -> None:
        from ..ui.options_page import PAGE_NAME

        self._iface.showOptionsDialog(self._iface.mainWindow(), PAGE_NAME)

    def _show_undo(self, text: str, level: Qgis.MessageLevel, undo: Callable[[], None]) -> None:
        """Show a message with a button that takes back what it tells of."""
        bar = self._iface.messageBar()
        item = bar.createMessage("SamTune", text)
        button = QPushButton(self.tr("Undo"), item)
        button.clicked.connect(lambda: (undo(), bar.popWidget(item)))
        item.layout().addWidget(button)
        bar.pushWidget(item, level, ERROR_SECONDS)

    def _show_notice(self, notice: Notice) -> None:
        """Log a notice; warnings and errors go to the message bar, the rest is read in the panel."""
        from .session import NoticeLevel

        levels = {
            NoticeLevel.INFO: Qgis.MessageLevel.Info,
            NoticeLevel.SUCCESS: Qgis.MessageLevel.Success,
            NoticeLevel.WARNING: Qgis.MessageLevel.Warning,
            NoticeLevel.ERROR: Qgis.MessageLevel.Critical,
        }
        level = levels[notice.level]
        text = f"{notice.text}\n{notice.details}" if notice.details else notice.text
        QgsMessageLog.logMessage(text, LOG_TAG, level, False)
        if notice.undo is not None:
            self._show_undo(notice.text, level, notice.undo)
        elif notice.level in (NoticeLevel.WARNING, NoticeLevel.ERROR):
            seconds = ERROR_SECONDS if notice.level is NoticeLevel.ERROR else WARNING_SECONDS
            self._iface.messageBar().pushMessage("SamTune", notice.text, level, seconds)
