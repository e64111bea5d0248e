"""Fixtures of the tests that run in QGIS's Python: an application, a canvas, layers in other CRSs."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import QSize
from samtune.plugin.map_frame import MapFrame
from samtune.plugin.session import EngineState, Session
from samtune.plugin.settings import PluginSettings


def _load(name: str) -> ModuleType:
    """Make a file beside this one importable for the test modules, whose folder is on no path.

    Args:
        name: of the file, without its ending; the module is ``samtune_test_`` and this.
    """
    path, name = Path(__file__).with_name(f"{name}.py"), f"samtune_test_{name}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


support = _load("support")
_load("engine_helpers")
_load("area_support")
_load("tune_support")


@pytest.fixture(scope="session")
def qgis_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QgsApplication]:
    """The running QGIS where the tests run inside one; else an application of our own, in a throw-away profile."""
    running = QgsApplication.instance()
    if running is not None:
        yield running
        return
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    application = QgsApplication([], True, str(tmp_path_factory.mktemp("profile")))
    QgsApplication.initQgis()
    yield application
    QgsProject.instance().clear()
    QgsApplication.exitQgis()


@pytest.fixture
def project(qgis_app: QgsApplication) -> Iterator[QgsProject]:
    project = QgsProject.instance()
    _empty(project)
    yield project
    _empty(project)


def _empty(project: QgsProject) -> None:
    """Remove all layers. In the real QGIS a layer being edited would make a dialog ask what to do with the edits."""
    for layer in project.mapLayers().values():
        if isinstance(layer, QgsVectorLayer) and layer.isEditable():
            layer.rollBack()
    project.clear()


@pytest.fixture
def canvas(qgis_app: QgsApplication) -> Iterator[QgsMapCanvas]:
    """A visible canvas of 400 x 400 pixels in EPSG:3857."""
    canvas = QgsMapCanvas()
    canvas.resize(QSize(400, 400))
    canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:3857"))
    canvas.show()
    yield canvas
    canvas.deleteLater()


@pytest.fixture
def session(qgis_app: QgsApplication) -> Session:
    return Session()


@pytest.fixture
def raster_layer(project: QgsProject, tmp_path: Path) -> QgsRasterLayer:
    """An RGB layer in UTM zone 17N, in the project."""
    layer = QgsRasterLayer(str(support.write_raster(tmp_path / "scene.tif")), "scene")
    project.addMapLayer(layer)
    return layer


@pytest.fixture
def polygon_layer(project: QgsProject) -> QgsVectorLayer:
    """An empty memory layer of multipolygons in EPSG:4326 with every SamTune field, in the project."""
    fields = (
        "field=class:string&field=score:double&field=area:double&field=model:string&field=adapter:string"
        "&field=prompt:string&field=raster:string&field=bands:string&field=time:datetime&field=reviewed:bool"
    )
    layer = QgsVectorLayer(f"MultiPolygon?crs=EPSG:4326&{fields}", "objects", "memory")
    project.addMapLayer(layer)
    return layer


@pytest.fixture
def frame(canvas: QgsMapCanvas, project: QgsProject) -> MapFrame:
    return MapFrame(canvas, project)


@pytest.fixture
def ready_session(session: Session, raster_layer: QgsRasterLayer) -> Session:
    """A session with an open raster and a running engine."""
    session.set_layer(raster_layer, (1, 2, 3))
    session.set_raster(support.raster_info(raster_layer.source()))
    session.set_models((support.model_info(), support.model_info("vit_b", present=False)))
    session.set_engine(EngineState.READY)
    return session


@pytest.fixture
def without_plugin(qgis_app: QgsApplication) -> Iterator[None]:
    """Inside a real QGIS, where the plugin is loaded: unload it, so that the test may load its own."""
    from qgis.utils import plugins

    running = plugins.get("samtune")
    if running is not None:
        running.unload()
        support.spin(5)
    yield
    if running is not None:
        running.initGui()


@pytest.fixture
def settings(without_plugin: None) -> Iterator[PluginSettings]:
    """The settings, all at their defaults, before and after."""
    made = PluginSettings()
    for entry in made.node.childrenSettings():
        entry.remove()
    yield made
    for entry in made.node.childrenSettings():
        entry.remove()
    made.unload()


@pytest.fixture
def window(qgis_app: object, project: QgsProject) -> Iterator[support.Window]:
    made = support.Window()
    yield made
    made.window.deleteLater()
    support.spin(5)
