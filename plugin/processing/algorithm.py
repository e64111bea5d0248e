"""What all algorithms share: texts, icon, engine, bands, adapters, and how their parameters are checked."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qgis.core import (
    Qgis,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterBand,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFile,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
)
from qgis.PyQt.QtCore import QCoreApplication
from qgis.PyQt.QtGui import QIcon

from ...engine.messages import Method
from ...models.errors import SamTuneError, TuningError
from ..adapter_files import AdapterSummary, missing_bands, read_summary
from ..engine_config import PLUGIN_FOLDER, adapters_folder, engine_config
from ..engine_process import EngineProcess
from ..engine_service import EngineConfig
from .engine import Engines, ask
from .rasters import RasterInput, raster_input

ICONS = PLUGIN_FOLDER / "ui" / "icons"
CARDS = PLUGIN_FOLDER / "models" / "cards"
DEFAULT_MODEL = "tiny"

RASTER = "RASTER"
BANDS = "BANDS"
MODEL = "MODEL"
ADAPTER = "ADAPTER"
SECOND = "SECOND"
LEVEL = "LEVEL"
OUTPUT = "OUTPUT"

Values = dict[str, Any]


class SamTuneAlgorithm(QgsProcessingAlgorithm):
    """What all algorithms share: texts, icon, checks.

    Subclasses set the attributes, add parameters in :meth:`initAlgorithm`, and write :meth:`processAlgorithm`, which
    QGIS runs in a background thread.

    Attributes:
        key: the algorithm's name, as in ``samtune:key``.
        icon_name: file in the folder of icons, without its ending.
    """

    key = ""
    icon_name = "samtune"

    def tr(self, text: str) -> str:
        """Translate a text for the user."""
        return QCoreApplication.translate("SamTuneAlgorithm", text)

    def createInstance(self) -> SamTuneAlgorithm:
        """Return a fresh algorithm of this kind."""
        return type(self)()

    def name(self) -> str:
        """Return the name that stays the same in all languages."""
        return self.key

    def icon(self) -> QIcon:
        """Return the icon."""
        return QIcon(self.svgIconPath())

    def svgIconPath(self) -> str:
        """Return the icon's file."""
        return str(ICONS / f"{self.icon_name}.svg")

    def flags(self) -> Qgis.ProcessingAlgorithmFlags:
        """Allow background threads and cancel; in-place editing makes no sense here."""
        return super().flags() | Qgis.ProcessingAlgorithmFlag.CanCancel

    def add(self, parameter: QgsProcessingParameterDefinition, text: str = "", *, advanced: bool = False) -> None:
        """Add a parameter.

        Args:
            parameter: to add.
            text: help, shown as a tooltip and by ``qgis_process help``.
            advanced: hidden at first.
        """
        parameter.setHelp(text)
        if advanced:
            parameter.setFlags(parameter.flags() | Qgis.ProcessingParameterFlag.Advanced)
        self.addParameter(parameter)

    def checkParameterValues(self, parameters: Values, context: QgsProcessingContext) -> tuple[bool, str]:
        """Refuse parameters that cannot work, in words, before anything is done. Called by QGIS."""
        good, message = super().checkParameterValues(parameters, context)
        if good:
            message = self.problem(parameters, context)
        return not message, message

    def problem(self, parameters: Values, context: QgsProcessingContext) -> str:  # noqa: ARG002 - for subclasses
        """Say what is wrong with the parameters, beyond what QGIS checks; empty when nothing is.

        Args:
            parameters: as given.
            context: of the run.
        """
        return ""

    def has(self, name: str) -> bool:
        """Return whether there is a parameter of this name."""
        return self.parameterDefinition(name) is not None


class EngineAlgorithm(SamTuneAlgorithm):
    """An algorithm whose work is done by the engine. :meth:`prepareAlgorithm` looks at layers, on the main thread.

    Attributes:
        heads: what adapters must answer with, such as ``promptable``; empty for any.
        adapter_names: parameters that are adapters; the first one's base model is used.
    """

    heads: tuple[str, ...] = ()
    adapter_names: tuple[str, ...] = (ADAPTER,)

    def __init__(self) -> None:
        """Know nothing of the run to come."""
        super().__init__()
        self._config: EngineConfig | None = None
        self._rasters: dict[str, RasterInput] = {}

    # ---- parameters

    def add_raster(self) -> None:
        """Add the raster and its bands."""
        self.add(QgsProcessingParameterRasterLayer(RASTER, self.tr("Raster layer")))
        self.add(
            QgsProcessingParameterBand(
                BANDS, self.tr("Bands"), parentLayerParameterName=RASTER, optional=True, allowMultiple=True
            ),
            self.tr(
                "One or three bands, shown to the model as red, green and blue. None: those of the adapter, else those "
                "that the raster shows by default."
            ),
            advanced=True,
        )

    def add_model(self) -> None:
        """Add the base model."""
        names = sorted((path.stem for path in CARDS.glob("*.json")), key=lambda name: (name != DEFAULT_MODEL, name))
        self.add(
            QgsProcessingParameterEnum(
                MODEL, self.tr("Model"), names, defaultValue=DEFAULT_MODEL, usesStaticStrings=True
            ),
            self.tr(
                "“tiny” ships with SamTune; the others are downloaded in the SamTune panel or by `samtune models "
                "download`. With an adapter, its own base model is used."
            ),
        )

    def add_adapter(self, *, optional: bool) -> None:
        """Add the adapter and the second raster that some need."""
        self.add(
            QgsProcessingParameterFile(
                ADAPTER,
                self.tr("Adapter"),
                optional=optional,
                fileFilter=self.tr("SamTune adapters (*.safetensors)"),
            ),
            self.tr("File of an adapter that was tuned with SamTune, or the name of a file in the folder of adapters."),
        )
        self.add_second()

    def add_second(self) -> None:
        """Add the second raster."""
        self.add(
            QgsProcessingParameterRasterLayer(SECOND, self.tr("Second raster"), optional=True),
            self.tr("Height, radar, slope …: for adapters that were tuned with a second raster on the same ground."),
            advanced=True,
        )

    def add_level(self) -> None:
        """Add the level of detail."""
        self.add(
            QgsProcessingParameterNumber(LEVEL, self.tr("Level of detail"), optional=True, minValue=-4, maxValue=16),
            self.tr(
                "A pixel of the model's input is 2 to the power of this as wide as the raster's. Empty: by the size of "
                "the objects, or as the adapter was tuned."
            ),
            advanced=True,
        )

    # ---- checks

    def problem(self, parameters: Values, context: QgsProcessingContext) -> str:
        """Say what is wrong with bands, adapter and second raster; empty when nothing is."""
        problems = [self._bands_problem(parameters, context)]
        problems += [self._adapter_problem(parameters, context, name) for name in self.adapter_names]
        return next(filter(None, problems), "")

    def _bands_problem(self, parameters: Values, context: QgsProcessingContext) -> str:
        bands = self.bands(parameters, context)
        if len(bands) not in (0, 1, 3):
            return self.tr("Choose one or three bands, or none for the raster's own; {count} are chosen.").format(
                count=len(bands)
            )
        layer = self.parameterAsRasterLayer(parameters, RASTER, context) if self.has(RASTER) else None
        if layer is not None and any(not 1 <= band <= layer.bandCount() for band in bands):
            return self.tr("“{name}” has {count} bands. Choose among those.").format(
                name=layer.name(), count=layer.bandCount()
            )
        return ""

    def _adapter_problem(self, parameters: Values, context: QgsProcessingContext, name: str) -> str:
        try:
            summary = self.adapter(parameters, context, name)
        except TuningError as error:
            return error.user_text
        if summary is None:
            return ""
        if self.heads and summary.head not in self.heads:
            return self.tr(
                "“{name}” was tuned for another use ({head}); here one tuned for {heads} is needed. Choose another "
                "adapter."
            ).format(name=summary.name, head=summary.head, heads=self.tr(" or ").join(self.heads))
        if summary.second and self.has(SECOND) and self.parameterAsRasterLayer(parameters, SECOND, context) is None:
            return self.tr(
                "“{name}” needs a second raster ({second}). Choose it under the advanced parameters."
            ).format(name=summary.name, second=summary.second)
        layer = self.parameterAsRasterLayer(parameters, RASTER, context) if self.has(RASTER) else None
        missing = missing_bands(summary, layer.bandCount()) if layer is not None else ()
        if missing:
            return self.tr("“{name}” needs the bands {bands}, which the raster has not got.").format(
                name=summary.name, bands=", ".join(map(str, missing))
            )
        return ""

    # ---- values

    def bands(self, parameters: Values, context: QgsProcessingContext, name: str = BANDS) -> tuple[int, ...]:
        """Return the chosen bands; empty for none.

        Args:
            parameters: as given.
            context: of the run.
            name: of the parameter. Texts may have commas between the numbers, as elsewhere in SamTune, or Processing's
                semicolons.
        """
        given = parameters.get(name)
        texts = {**parameters, name: given.replace(",", ";")} if isinstance(given, str) else parameters
        return tuple(self.parameterAsInts(texts, name, context)) if self.has(name) else ()

    def level(self, parameters: Values, context: QgsProcessingContext) -> int | None:
        """Return the level of detail; None for an automatic one."""
        if parameters.get(LEVEL) is None:
            return None
        return int(self.parameterAsInt(parameters, LEVEL, context))

    def adapter(self, parameters: Values, context: QgsProcessingContext, name: str = ADAPTER) -> AdapterSummary | None:
        """Return what the chosen adapter's header tells; None when there is none.

        Args:
            parameters: as given.
            context: of the run.
            name: of the parameter.

        Raises:
            TuningError: it is not there, damaged or no adapter.
        """
        text = self.parameterAsFile(parameters, name, context).strip() if self.has(name) else ""
        if not text:
            return None
        path = Path(text).expanduser()
        if not path.is_file():
            path = adapters_folder(self.settings()) / text
        if not path.is_file():
            raise TuningError(
                self.tr(
                    "There is no adapter “{text}”. Choose an adapter's file, or give the name of one in {folder}."
                ).format(text=text, folder=path.parent)
            )
        return read_summary(path.resolve())

    def model(self, parameters: Values, context: QgsProcessingContext) -> str:
        """Return the base model: the adapter's, else the chosen one."""
        summary = self.adapter(parameters, context, self.adapter_names[0])
        if summary is not None:
            return summary.base
        return str(self.parameterAsEnumString(parameters, MODEL, context)) if self.has(MODEL) else DEFAULT_MODEL

    # ---- the run

    def settings(self) -> Any:  # noqa: ANN401 - PluginSettings, through QGIS's untyped provider
        """Return the plugin's settings, which the provider holds."""
        return self.provider().settings

    def prepareAlgorithm(
        self,
        parameters: Values,
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,  # noqa: ARG002 - QGIS's signature
    ) -> bool:
        """Look at settings and raster layers, on the main thread. Called by QGIS.

        Raises:
            QgsProcessingException: a layer cannot be used, in words.
        """
        self._config = engine_config(self.settings(), background=True)
        for definition in self.parameterDefinitions():
            if isinstance(definition, QgsProcessingParameterRasterLayer):
                layer = self.parameterAsRasterLayer(parameters, definition.name(), context)
                if layer is not None:
                    with speaking():
                        self._rasters[definition.name()] = raster_input(layer)
        return True

    def raster(self, name: str) -> RasterInput | None:
        """Return the raster of a parameter, as it was on the main thread; None when none was given."""
        return self._rasters.get(name)

    def required_raster(self, parameters: Values, name: str) -> RasterInput:
        """Return the raster of a parameter.

        Raises:
            QgsProcessingException: there is none, or QGIS cannot open it.
        """
        found = self._rasters.get(name)
        if found is None:
            raise QgsProcessingException(self.invalidRasterError(parameters, name))
        return found

    @contextmanager
    def engine(self) -> Iterator[EngineProcess]:
        """Lend an engine for the time of the block."""
        if self._config is None:
            raise QgsProcessingException(self.tr("The algorithm was not prepared."))
        engines: Engines = self.provider().engines
        with engines.borrow(self._config) as engine:
            yield engine

    def ask_engine(self, method: Method, params: object, feedback: QgsProcessingFeedback) -> object:
        """Ask an engine for one thing; see :func:`.engine.ask`."""
        with self.engine() as engine:
            return ask(engine, method, params, feedback)


@contextmanager
def speaking() -> Iterator[None]:
    """Turn SamTune's errors into Processing's, with their sentence."""
    try:
        yield
    except SamTuneError as error:
        raise QgsProcessingException(error.user_text) from error


@contextmanager
def work_folder() -> Iterator[Path]:
    """Give a folder for the files of a run, which goes away with the block."""
    folder = tempfile.mkdtemp(prefix="samtune-")
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # Windows keeps files that a reader still has open


def tell(notes: tuple[str, ...], feedback: QgsProcessingFeedback) -> None:
    """Show what the user should know."""
    for note in notes:
        feedback.pushWarning(note)
