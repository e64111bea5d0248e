"""The plugin's state: what is being segmented, with what, and what came out. One object; every widget is a view of it.

Coordinates of prompts, outlines and crops are in the raster layer's CRS. They are turned into the project's CRS only
to be drawn, so that may change at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Union

from qgis.core import QgsGeometry, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ..engine.messages import EngineInfo, ModelInfo, OutlineOptions, Prompt, RasterInfo, SegmentParams, SegmentResult
from .adapter_state import AdapterState


class EngineState(Enum):
    """What the engine process is doing, as far as the user cares."""

    OFF = "off"
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    ENVIRONMENT_MISSING = "environment-missing"


class StretchMode(Enum):
    """Where the stretch comes from: AS_DRAWN from the layer's style, ROBUST from percentiles of the whole layer."""

    AS_DRAWN = "as-drawn"
    ROBUST = "robust"


class NoticeLevel(Enum):
    """How loud a notice is. ERROR and WARNING also go to QGIS's message bar."""

    INFO = "info"
    SUCCESS = "success"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Box:
    """A box prompt: four corners in the raster's CRS (a rectangle on the map, so maybe not one in the raster's CRS)."""

    corners: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Outline:
    """An outline and where it came from; the geometry is in the raster's CRS.

    Attributes:
        sent: what was asked. Raster, bands and model may be others in the session by the time the outline is kept.
    """

    geometry: QgsGeometry
    result: SegmentResult
    sent: SegmentParams


@dataclass(frozen=True)
class Notice:
    """One sentence for the user, with details for the log, and what takes back what it tells of."""

    level: NoticeLevel
    text: str
    details: str = ""
    undo: Callable[[], None] | None = None


@dataclass(frozen=True)
class Busy:
    """Something under way; ``fraction`` is 0 to 1, or negative when unknown."""

    text: str
    fraction: float = -1.0


Step = Union[Prompt, Box]

SAME_ERROR_SECONDS = 2.0


class Session(QObject):
    """All state of the dock and the map tool. Setters emit a signal only when something changed.

    Attributes:
        adapters: which adapters there are, and which one is in use.
    """

    layer_changed = pyqtSignal()
    source_changed = pyqtSignal()
    style_changed = pyqtSignal()
    file_changed = pyqtSignal()
    raster_changed = pyqtSignal()
    models_changed = pyqtSignal()
    model_changed = pyqtSignal()
    level_changed = pyqtSignal()
    steps_changed = pyqtSignal()
    outline_changed = pyqtSignal()
    preview_changed = pyqtSignal()
    crop_changed = pyqtSignal()
    thumbnail_changed = pyqtSignal()
    thumbnail_wanted_changed = pyqtSignal()
    options_changed = pyqtSignal()
    target_changed = pyqtSignal()
    engine_changed = pyqtSignal()
    busy_changed = pyqtSignal()
    noticed = pyqtSignal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        """Start with nothing chosen."""
        super().__init__(parent)
        self.layer: QgsRasterLayer | None = None
        self.bands: tuple[int, ...] = ()
        self.stretch = StretchMode.AS_DRAWN
        self.layer_problem = ""
        self.raster: RasterInfo | None = None
        self.open_failed = False
        self.models: tuple[ModelInfo, ...] = ()
        self.model = "tiny"
        self.adapters = AdapterState(self)
        self.fixed_level: int | None = None
        self.used_level: int | None = None
        self.simplify = 0.5
        self.fill_holes = 8.0
        self.hover_enabled = True
        self.steps: tuple[Step, ...] = ()
        self.outline: Outline | None = None
        self.finding = ""
        self.preview: QgsGeometry | None = None
        self.crop: tuple[tuple[float, float], ...] = ()
        self.thumbnail = b""
        self.thumbnail_crop: tuple[tuple[float, float], ...] = ()
        self.thumbnail_wanted = False
        self.target: QgsVectorLayer | None = None
        self.class_field = ""
        self.class_value = ""
        self.engine_state = EngineState.OFF
        self.engine_text = ""
        self.engine_info: EngineInfo | None = None
        self._busy: dict[str, Busy] = {}
        self._last_error = ""
        self._last_error_at = 0.0

    # --- raster -----------------------------------------------------------------------------------------------------

    def set_layer(self, layer: QgsRasterLayer | None, bands: tuple[int, ...] = (), problem: str = "") -> None:
        """Choose another raster layer. Everything that belongs to the old one goes.

        Args:
            layer: the layer, or None.
            bands: band numbers from 1, one or three; empty for the raster's defaults.
            problem: why the layer cannot be used, for the user; empty when it can.
        """
        if layer is self.layer and problem == self.layer_problem:
            return
        if self.layer is not None:
            self.layer.willBeDeleted.disconnect(self._forget_layer)
            self.layer.rendererChanged.disconnect(self.style_changed)
            self.layer.dataSourceChanged.disconnect(self.file_changed)
        if layer is not None:
            layer.willBeDeleted.connect(self._forget_layer)
            layer.rendererChanged.connect(self.style_changed)
            layer.dataSourceChanged.connect(self.file_changed)
        self._start_over(layer, bands, problem)

    def _start_over(self, layer: QgsRasterLayer | None, bands: tuple[int, ...] = (), problem: str = "") -> None:
        self.layer, self.bands, self.layer_problem = layer, bands, problem
        self.reset_object()
        self.set_crop((), None)
        self.set_thumbnail(b"")
        self.set_raster(None)
        self.layer_changed.emit()

    def set_source(self, bands: tuple[int, ...], stretch: StretchMode) -> None:
        """Choose what the model sees of the layer."""
        if (bands, stretch) != (self.bands, self.stretch):
            self.bands, self.stretch = bands, stretch
            self.source_changed.emit()

    def set_raster(self, raster: RasterInfo | None, *, failed: bool = False) -> None:
        """Keep what the engine found in the layer's file; None with ``failed`` where it could not read it."""
        if (raster, failed) != (self.raster, self.open_failed):
            self.raster, self.open_failed = raster, failed
            self.raster_changed.emit()

    def _forget_layer(self) -> None:
        self.layer = None  # its C++ side is being destroyed: it must not be touched any more
        self._start_over(None)

    # --- model and level --------------------------------------------------------------------------------------------

    @property
    def model_info(self) -> ModelInfo | None:
        """Return the chosen model's entry; None before the engine has told."""
        return next((model for model in self.models if model.name == self.model), None)

    def set_models(self, models: tuple[ModelInfo, ...]) -> None:
        """Keep the list of models; a chosen name that does not exist gives way to the first."""
        if models == self.models:
            return
        self.models = models
        if models and self.model_info is None:
            self.set_model(models[0].name)
        self.models_changed.emit()

    def set_model(self, name: str) -> None:
        """Choose a model by its name. An adapter of another model is given up first: it does not fit."""
        if name and name != self.model:
            self.model = name
            self.adapters.leave(name)
            self.model_changed.emit()

    def set_fixed_level(self, level: int | None) -> None:
        """Fix the crop level, or leave it to the map's scale with None."""
        if level != self.fixed_level:
            self.fixed_level = level
            self.level_changed.emit()

    def set_crop(self, corners: tuple[tuple[float, float], ...], level: int | None) -> None:
        """Keep the crop that the model looks at: four corners in the raster's CRS, and its level."""
        if (corners, level) != (self.crop, self.used_level):
            self.crop, self.used_level = corners, level
            self.crop_changed.emit()

    def set_thumbnail(self, png: bytes, crop: tuple[tuple[float, float], ...] = ()) -> None:
        """Keep the picture of exactly what the model sees, and the crop that it shows."""
        self.thumbnail_crop = crop
        if png != self.thumbnail:
            self.thumbnail = png
            self.thumbnail_changed.emit()

    def set_thumbnail_wanted(self, wanted: bool) -> None:  # noqa: FBT001 - also a signal's slot
        """Say whether anybody looks at the thumbnail; each costs the engine a look at the raster."""
        if wanted != self.thumbnail_wanted:
            self.thumbnail_wanted = wanted
            self.thumbnail_wanted_changed.emit()

    def model_pixel(self, level: int | None = None) -> float:
        """Return the side of a pixel of the model's input, raster CRS units; 0 when no raster is open.

        Args:
            level: crop level; None for the one in use, else the fixed one, else 0.
        """
        if self.raster is None:
            return 0.0
        if level is None:
            level = next((known for known in (self.used_level, self.fixed_level) if known is not None), 0)
        return float(self.raster.pixel_size * 2.0**level)

    # --- outline options --------------------------------------------------------------------------------------------

    def set_outline_options(self, simplify: float, fill_holes: float) -> None:
        """Set simplification and hole size, both in pixels of the model's input (so they fit at every level)."""
        if (simplify, fill_holes) != (self.simplify, self.fill_holes):
            self.simplify, self.fill_holes = simplify, fill_holes
            self.options_changed.emit()

    def outline_options(self, level: int) -> OutlineOptions:
        """Return the options in the raster CRS's units at a level."""
        pixel = self.model_pixel(level)
        hole = (self.fill_holes * pixel) ** 2
        return OutlineOptions(simplify=self.simplify * pixel, min_hole=hole, min_part=hole)

    # --- prompts and outline ----------------------------------------------------------------------------------------

    @property
    def points(self) -> tuple[Prompt, ...]:
        """Return the point prompts in the order given."""
        return tuple(step for step in self.steps if isinstance(step, Prompt))

    @property
    def box(self) -> tuple[tuple[float, float], ...]:
        """Return the corners of the last box drawn; empty for none."""
        boxes = [step for step in self.steps if isinstance(step, Box)]
        return boxes[-1].corners if boxes else ()

    def add_step(self, step: Step) -> None:
        """Add a prompt; a preview gives way to it."""
        self.set_preview(None)
        self.set_steps((*self.steps, step))

    def set_steps(self, steps: tuple[Step, ...]) -> None:
        """Replace all prompts."""
        if steps != self.steps:
            self.steps = steps
            self.steps_changed.emit()

    def set_outline(self, outline: Outline | None, finding: str = "") -> None:
        """Show another outline, or none.

        Args:
            outline: the outline.
            finding: where there is none, why, for the user.
        """
        if outline is not self.outline or finding != self.finding:
            self.outline, self.finding = outline, finding
            self.outline_changed.emit()

    def set_preview(self, geometry: QgsGeometry | None) -> None:
        """Show what a click would give, in the raster's CRS, or nothing."""
        if geometry is not self.preview:
            self.preview = geometry
            self.preview_changed.emit()

    def reset_object(self) -> None:
        """Forget the object under way: prompts, outline, preview."""
        self.set_preview(None)
        self.set_outline(None)
        self.set_steps(())

    # --- target -----------------------------------------------------------------------------------------------------

    def set_target(self, layer: QgsVectorLayer | None, class_field: str = "") -> None:
        """Choose the layer that takes accepted polygons, and its field for the class."""
        if layer is self.target and class_field == self.class_field:
            return
        if layer is not self.target:
            if self.target is not None:
                self.target.willBeDeleted.disconnect(self._forget_target)
            if layer is not None:
                layer.willBeDeleted.connect(self._forget_target)
        self.target, self.class_field = layer, class_field
        self.target_changed.emit()

    def set_class_value(self, value: str) -> None:
        """Set the class that the next accepted polygon gets."""
        if value != self.class_value:
            self.class_value = value
            self.target_changed.emit()

    def _forget_target(self) -> None:
        self.target, self.class_field = None, ""  # its C++ side is being destroyed
        self.target_changed.emit()

    # --- engine, progress, notices ----------------------------------------------------------------------------------

    def set_engine(self, state: EngineState, text: str = "") -> None:
        """Keep the engine's state with one sentence about it."""
        if (state, text) != (self.engine_state, self.engine_text):
            self.engine_state, self.engine_text = state, text
            self.engine_changed.emit()

    def set_engine_info(self, info: EngineInfo | None) -> None:
        """Keep what the engine told about itself."""
        if info != self.engine_info:
            self.engine_info = info
            self.engine_changed.emit()

    @property
    def busy(self) -> Busy | None:
        """Return what is under way; the newest where there are several."""
        return next(reversed(self._busy.values()), None)

    def set_busy(self, key: str, busy: Busy | None) -> None:
        """Say what one kind of request is doing, or None when it has ended."""
        before = self.busy
        if busy is None:
            self._busy.pop(key, None)
        else:
            self._busy[key] = busy
        if self.busy != before:
            self.busy_changed.emit()

    def notify(self, level: NoticeLevel, text: str, details: str = "", undo: Callable[[], None] | None = None) -> None:
        """Tell the user something; an error that several requests report at once is told once."""
        now = time.monotonic()
        if level is NoticeLevel.ERROR:
            if text == self._last_error and now - self._last_error_at < SAME_ERROR_SECONDS:
                return
            self._last_error, self._last_error_at = text, now
        self.noticed.emit(Notice(level, text, details, undo))
