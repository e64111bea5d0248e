"""What the tests of the panel share: a scripted engine, answers, small rasters, events. Loaded by conftest.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from qgis.core import QgsGeometry, QgsPointXY, QgsProject, QgsRasterLayer
from qgis.gui import QgsMapCanvas, QgsMessageBar
from qgis.PyQt.QtCore import QCoreApplication, QElapsedTimer, QEvent, QPoint, Qt
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QAction, QDockWidget, QMainWindow, QMenu, QToolBar
from samtune.engine.messages import (
    Empty,
    EngineInfo,
    Method,
    ModelInfo,
    PrepareParams,
    PrepareResult,
    Prompt,
    RasterInfo,
    RasterSpec,
    SegmentParams,
    SegmentResult,
)
from samtune.models.errors import CancelledByUser, SamTuneError
from samtune.plugin.pending import PendingRequest
from samtune.plugin.workbench import Surroundings

UTM17 = "EPSG:32617"
LEFT, TOP, PIXEL, COLUMNS, ROWS = 500000.0, 3300000.0, 2.0, 100, 80
NO_TRANSFORM = QPoint(0, 0)


@dataclass
class Call:
    """A request that the scripted engine has received; answered by the test when it likes."""

    method: Method
    params: object
    on_result: Callable[[object], None]
    on_error: Callable[[SamTuneError | CancelledByUser], None]
    on_progress: Callable[[float, str], None] | None
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class ScriptedService:
    """Keeps requests until the test answers them, in whatever order."""

    calls: list[Call] = field(default_factory=list)

    def request_async(
        self,
        method: Method,
        params: object,
        on_result: Callable[[object], None],
        on_error: Callable[[SamTuneError | CancelledByUser], None],
        on_progress: Callable[[float, str], None] | None = None,
    ) -> Call:
        call = Call(method, params, on_result, on_error, on_progress)
        self.calls.append(call)
        return call

    def request(self, method: Method, params: object = None, on_progress: object = None) -> PendingRequest:
        """Take a request as tasks make it, from any thread."""
        pending = PendingRequest(0, method, None, lambda cancelled: cancelled.fail(CancelledByUser()))
        self.calls.append(Call(method, params, pending.succeed, pending.fail, None))
        return pending

    def of(self, method: Method) -> list[Call]:
        return [call for call in self.calls if call.method is method]

    def last(self, method: Method) -> Call:
        return self.of(method)[-1]

    def segments(self, *, hover: bool = False) -> list[Call]:
        return [call for call in self.of(Method.SEGMENT) if call.params.cached_only is hover]  # type: ignore[attr-defined]


def raster_info(uri: str = "scene.tif", **changes: object) -> RasterInfo:
    """Describe the raster of :func:`write_raster`."""
    info = RasterInfo(
        spec=RasterSpec(uri, (1, 2, 3), ((0.0, 255.0),) * 3),
        fingerprint="f",
        width=COLUMNS,
        height=ROWS,
        band_names=("1", "2", "3"),
        dtype="uint8",
        crs_wkt="",
        transform=(LEFT, PIXEL, 0.0, TOP, 0.0, -PIXEL),
        pixel_size=PIXEL,
        min_level=-2,
        max_level=4,
    )
    return replace(info, **changes)  # type: ignore[arg-type]


def engine_info(**changes: object) -> EngineInfo:
    """Describe an engine that has come up."""
    info = EngineInfo(1, "0.1", "3.12", 4711, "cpu", "There is no graphics card.", 1, {}, "/models", "/store", 0)
    return replace(info, **changes)  # type: ignore[arg-type]


def model_info(name: str = "tiny", *, present: bool = True) -> ModelInfo:
    return ModelInfo(
        name, name.upper(), "A model.", present, 16 << 20, 512, "Apache-2.0", f"https://models.example/{name}"
    )


def square(x: float = LEFT + 20, y: float = TOP - 20, side: float = 10.0) -> QgsGeometry:
    """A square as the engine would answer it, upper left corner at x, y."""
    wkt = f"MultiPolygon((({x} {y}, {x + side} {y}, {x + side} {y - side}, {x} {y - side}, {x} {y})))"
    return QgsGeometry.fromWkt(wkt)


CROP = ((LEFT, TOP), (LEFT + 100, TOP), (LEFT + 100, TOP - 100), (LEFT, TOP - 100))


def found(params: object, geometry: QgsGeometry | None = None, **changes: object) -> SegmentResult:
    """Answer a segment request with an outline."""
    outline = geometry or square()
    level = params.level if isinstance(params, SegmentParams) else 0
    result = SegmentResult(
        Empty.NONE, bytes(outline.asWkb()).hex(), 0.9, outline.area(), False, level, CROP, "memory", {}
    )
    return replace(result, **changes)  # type: ignore[arg-type]


def sent(**changes: object) -> SegmentParams:
    """The request that an outline answers."""
    asked = SegmentParams(RasterSpec("scene.tif", (1, 2, 3)), "tiny", 0, (Prompt(LEFT, TOP),))
    return replace(asked, **changes)  # type: ignore[arg-type]


def nothing(params: object, empty: Empty = Empty.NOTHING) -> SegmentResult:
    return replace(found(params), empty=empty, wkb="", area=0.0, message="Nothing here.")


def prepared(params: object, png: str = "") -> PrepareResult:
    level = params.level if isinstance(params, PrepareParams) else 0
    return PrepareResult(level, CROP, True, "encoder", {}, png)


def write_raster(path: Path, *, bands: int = 3, data_type: str = "Byte", crs: str = UTM17) -> Path:
    """Write a GeoTIFF with a gradient."""
    from osgeo import gdal, osr

    gdal.UseExceptions()
    kind = {"Byte": gdal.GDT_Byte, "UInt16": gdal.GDT_UInt16}[data_type]
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), COLUMNS, ROWS, bands, kind)
    dataset.SetGeoTransform((LEFT, PIXEL, 0.0, TOP, 0.0, -PIXEL))
    if crs:
        reference = osr.SpatialReference()
        reference.SetFromUserInput(crs)
        dataset.SetProjection(reference.ExportToWkt())
    for band in range(1, bands + 1):
        row = bytes((column * 2 + band) % 256 for column in range(COLUMNS))
        dataset.GetRasterBand(band).WriteRaster(0, 0, COLUMNS, ROWS, row * ROWS, COLUMNS, ROWS, gdal.GDT_Byte)
    del dataset
    return path


def show_layer(canvas: QgsMapCanvas, layer: QgsRasterLayer) -> None:
    """Zoom a canvas to a layer, in the canvas's own CRS."""
    canvas.setLayers([layer])
    canvas.zoomToFeatureExtent(canvas.mapSettings().layerExtentToOutputExtent(layer, layer.extent()))
    spin()


def spin(milliseconds: int = 1) -> None:
    """Let Qt's events run, deferred deletes as well."""
    timer = QElapsedTimer()
    timer.start()
    while True:
        QCoreApplication.processEvents()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        if timer.elapsed() >= milliseconds:
            return
        QTest.qWait(2)


def on_screen(canvas: QgsMapCanvas, x: float, y: float) -> QPoint:
    """Return the canvas pixel of a place in the canvas's CRS."""
    place = canvas.getCoordinateTransform().transform(QgsPointXY(x, y))
    return QPoint(round(place.x()), round(place.y()))


def click(
    canvas: QgsMapCanvas,
    at: QPoint,
    button: Qt.MouseButton = Qt.MouseButton.LeftButton,
    modifiers: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier,
) -> None:
    """Click on a canvas with real events."""
    QTest.mouseClick(canvas.viewport(), button, modifiers, at)


def drag(canvas: QgsMapCanvas, start: QPoint, end: QPoint) -> None:
    """Press, move in steps and release on a canvas with real events."""
    left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    QTest.mousePress(canvas.viewport(), left, none, start)
    for share in (0.3, 0.6, 1.0):
        move(canvas, start + (end - start) * share, left)
    QTest.mouseRelease(canvas.viewport(), left, none, end)


def move(canvas: QgsMapCanvas, to: QPoint, held: Qt.MouseButton = Qt.MouseButton.NoButton) -> None:
    """Move the pointer over a canvas; QTest.mouseMove says nothing of the button held."""
    from qgis.PyQt.QtCore import QPointF
    from qgis.PyQt.QtGui import QMouseEvent

    place = QPointF(to)
    shown = QPointF(canvas.viewport().mapToGlobal(to))
    event = QMouseEvent(
        QEvent.Type.MouseMove, place, shown, Qt.MouseButton.NoButton, held, Qt.KeyboardModifier.NoModifier
    )
    QCoreApplication.sendEvent(canvas.viewport(), event)


class Window:
    """As much of QGIS's interface as the plugin uses, around a real window, canvas and message bar."""

    def __init__(self) -> None:
        self.window = QMainWindow()
        self.canvas = QgsMapCanvas(self.window)
        self.window.setCentralWidget(self.canvas)
        self.window.resize(900, 700)
        self.bar = QgsMessageBar(self.window)
        self.toolbar = QToolBar(self.window)
        self.menu = QMenu(self.window)
        self.factories: list[object] = []
        self.window.show()

    def surroundings(self, project: QgsProject) -> Surroundings:
        """Return what parts of the workbench take of QGIS; notices go nowhere."""
        return Surroundings(
            canvas=self.canvas,
            project=project,
            window=self.window,
            show_notice=lambda _notice: None,
            open_settings=lambda: None,
            active_layer=self.activeLayer,
            make_active=self.setActiveLayer,
            add_dock=self.addDockWidget,
            remove_dock=self.removeDockWidget,
        )

    def mainWindow(self) -> QMainWindow:  # noqa: N802 - QGIS's names from here on
        return self.window

    def mapCanvas(self) -> QgsMapCanvas:  # noqa: N802
        return self.canvas

    def messageBar(self) -> QgsMessageBar:  # noqa: N802
        return self.bar

    def activeLayer(self) -> None:  # noqa: N802
        return None

    def setActiveLayer(self, layer: object) -> bool:  # noqa: N802
        self.active = layer
        return True

    def addPluginToMenu(self, name: str, action: QAction) -> None:  # noqa: N802
        self.menu.addAction(action)

    def removePluginMenu(self, name: str, action: QAction) -> None:  # noqa: N802
        self.menu.removeAction(action)

    def addToolBarIcon(self, action: QAction) -> None:  # noqa: N802
        self.toolbar.addAction(action)

    def removeToolBarIcon(self, action: QAction) -> None:  # noqa: N802
        self.toolbar.removeAction(action)

    def registerOptionsWidgetFactory(self, factory: object) -> None:  # noqa: N802
        self.factories.append(factory)

    def unregisterOptionsWidgetFactory(self, factory: object) -> None:  # noqa: N802
        self.factories.remove(factory)

    def addDockWidget(self, area: Qt.DockWidgetArea, dock: QDockWidget) -> None:  # noqa: N802
        self.window.addDockWidget(area, dock)

    def removeDockWidget(self, dock: QDockWidget) -> None:  # noqa: N802
        self.window.removeDockWidget(dock)
