"""The provider ``samtune`` of QGIS's Processing: its algorithms, and the engines that they share."""

from __future__ import annotations

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtCore import QCoreApplication
from qgis.PyQt.QtGui import QIcon

from ..settings import PluginSettings
from .algorithm import ICONS, SamTuneAlgorithm
from .change import DetectChange
from .engine import Engines
from .evaluate import Evaluate
from .native import AxisBoxes, CountPerZone, OrientedBoxes
from .resume import ResumeJob
from .segmentation import ClassMap, FindAll, SegmentEverything, SegmentPrompts
from .tune import FineTune

ALGORITHMS: tuple[type[SamTuneAlgorithm], ...] = (
    SegmentPrompts,
    SegmentEverything,
    FindAll,
    ClassMap,
    DetectChange,
    ResumeJob,
    FineTune,
    Evaluate,
    OrientedBoxes,
    AxisBoxes,
    CountPerZone,
)


class SamTuneProvider(QgsProcessingProvider):
    """Made by the plugin, in QGIS's window and in ``qgis_process`` alike; owned by QGIS once it is registered.

    Attributes:
        settings: the plugin's.
        engines: run the algorithms.
    """

    def __init__(self, settings: PluginSettings, engines: Engines | None = None) -> None:
        """Prepare; no engine is started before the first run.

        Args:
            settings: the plugin's.
            engines: None for engines with the usual deadlines.
        """
        super().__init__()
        self.settings = settings
        self.engines = engines or Engines()

    def id(self) -> str:
        """Return what stands before the names of the algorithms."""
        return "samtune"

    def name(self) -> str:
        """Return the title."""
        return "SamTune"

    def longName(self) -> str:
        """Return the title with what it does."""
        return QCoreApplication.translate("SamTuneProvider", "SamTune (segmentation of rasters)")

    def icon(self) -> QIcon:
        """Return the icon."""
        return QIcon(self.svgIconPath())

    def svgIconPath(self) -> str:
        """Return the icon's file."""
        return str(ICONS / "samtune.svg")

    def loadAlgorithms(self) -> None:
        """Add the algorithms. Called by QGIS."""
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())

    def unload(self) -> None:
        """End the engines. Called by QGIS when the provider is taken away."""
        self.engines.close()
