"""Label here next: asking, the list on the map, its keys, and what becomes of accepted places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsCoordinateReferenceSystem, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.gui import QgsMapCanvas, QgsMapCanvasItem, QgsRubberBand
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtTest import QTest
from samtune.engine.area_messages import SuggestParams, SuggestResult
from samtune.engine.messages import Method, Prompt
from samtune.engine.tune_messages import LabelSource
from samtune.models.errors import EngineDiedError
from samtune.plugin.acceptor import Acceptor
from samtune.plugin.label_file import LabelWriter
from samtune.plugin.map_frame import from_wkb_hex
from samtune.plugin.session import NoticeLevel, Outline, Session
from samtune.plugin.suggestion_controller import SuggestionController
from samtune_test_area_support import layer_of, places
from samtune_test_engine_helpers import wait_until
from samtune_test_support import LEFT, TOP, ScriptedService, found, sent, show_layer, spin, square


@dataclass
class Hand:
    """What the controller does with the click tool."""

    taken_up: int = 0
    clicks: list[tuple[float, float]] = field(default_factory=list)


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def told(ready_session: Session) -> list[tuple[NoticeLevel, str]]:
    heard: list[tuple[NoticeLevel, str]] = []
    ready_session.noticed.connect(lambda notice: heard.append((notice.level, notice.text)))
    return heard


@pytest.fixture
def acceptor(ready_session: Session, project: QgsProject) -> Acceptor:
    return Acceptor(ready_session, project, lambda _layer, _names: True, lambda: "")


@pytest.fixture
def suggestions(
    ready_session: Session,
    service: ScriptedService,
    canvas: QgsMapCanvas,
    project: QgsProject,
    acceptor: Acceptor,
    raster_layer: QgsRasterLayer,
    hand: Hand,
    told: object,
) -> Iterator[SuggestionController]:
    show_layer(canvas, raster_layer)

    def take_up() -> None:
        hand.taken_up += 1

    made = SuggestionController(
        ready_session,
        service,
        canvas,
        project,
        acceptor,
        take_up,
        lambda at: hand.clicks.append((at.x(), at.y())),
    )
    yield made
    made.remove()


def show(suggestions: SuggestionController, service: ScriptedService, count: int = 3) -> None:
    suggestions.start("")
    service.last(Method.SUGGEST).on_result(SuggestResult(places(count), 0, 4, 0.1))


def items(canvas: QgsMapCanvas) -> int:
    return sum(isinstance(item, QgsMapCanvasItem) and item.isVisible() for item in canvas.scene().items())


def press(canvas: QgsMapCanvas, key: Qt.Key) -> None:
    QTest.keyClick(canvas, key)
    spin()


def test_it_asks_with_what_is_labelled_already(
    suggestions: SuggestionController, service: ScriptedService, ready_session: Session, project: QgsProject
) -> None:
    target = layer_of([0.5, 0.6])
    project.addMapLayer(target)
    target.startEditing()
    target.deleteFeature(next(target.getFeatures()).id())
    ready_session.set_target(target, "class")
    suggestions.start("0103")
    wait_until(lambda: service.of(Method.SUGGEST))
    params = service.last(Method.SUGGEST).params
    assert isinstance(params, SuggestParams)
    assert params.area == "0103"
    assert (params.labels.layer, params.labels.class_field) == ("labels", "class")
    written = QgsVectorLayer(f"{params.labels.path}|layername=labels", "labels", "ogr")
    assert [feature["class"] for feature in written.getFeatures()] == ["crown"], "with edits that are not saved"
    assert written.crs().authid() == "EPSG:32617"
    del written
    service.last(Method.SUGGEST).on_result(SuggestResult(places(), 0, 4, 0.1))
    assert not Path(params.labels.path).exists()


def test_going_through_by_keys(
    suggestions: SuggestionController, service: ScriptedService, canvas: QgsMapCanvas, hand: Hand
) -> None:
    before = items(canvas)
    show(suggestions, service)
    assert hand.taken_up == 1, "a click mends it"
    assert items(canvas) - before == 6
    assert suggestions.text() == "No. 1, 3 left · unlike the rest"
    first = canvas.extent()
    press(canvas, Qt.Key.Key_N)
    assert suggestions.current == 2
    assert canvas.extent() != first
    press(canvas, Qt.Key.Key_Space)
    press(canvas, Qt.Key.Key_N)
    assert suggestions.current == 1
    press(canvas, Qt.Key.Key_X)
    assert (suggestions.current, list(suggestions.places)) == (2, [2, 3])
    assert items(canvas) - before == 4
    suggestions.stop()
    assert items(canvas) == before


def test_enter_keeps_the_outline(
    suggestions: SuggestionController,
    service: ScriptedService,
    canvas: QgsMapCanvas,
    ready_session: Session,
    polygon_layer: QgsVectorLayer,
    told: list,
) -> None:
    ready_session.set_target(polygon_layer, "class")
    ready_session.set_class_value("pond")
    show(suggestions, service, 2)
    press(canvas, Qt.Key.Key_Return)
    (feature,) = polygon_layer.getFeatures()
    assert (feature["class"], feature["prompt"], feature["reviewed"]) == ("pond", "suggestion", True)
    assert abs(feature["area"] - 100) < 2
    assert polygon_layer.undoStack().count() == 1
    assert suggestions.current == 2
    press(canvas, Qt.Key.Key_Return)
    assert polygon_layer.featureCount() == 2
    assert suggestions.current is None
    assert told[-1] == (NoticeLevel.SUCCESS, "All suggestions are done.")
    press(canvas, Qt.Key.Key_X)


def test_fix_hands_over_to_the_click_tool(
    suggestions: SuggestionController,
    service: ScriptedService,
    canvas: QgsMapCanvas,
    ready_session: Session,
    acceptor: Acceptor,
    hand: Hand,
    polygon_layer: QgsVectorLayer,
) -> None:
    ready_session.set_target(polygon_layer, "class")
    show(suggestions, service, 2)
    press(canvas, Qt.Key.Key_F)
    ((x, y),) = hand.clicks
    assert canvas.extent().contains(x, y)
    ready_session.set_steps((Prompt(LEFT + 25, TOP - 35),))
    press(canvas, Qt.Key.Key_Return)
    assert polygon_layer.featureCount() == 0, "Enter is the click tool's now"
    result = found(sent(), square(LEFT + 18, TOP - 28, 14.0))
    ready_session.set_outline(Outline(from_wkb_hex(result.wkb), result, sent()))
    assert acceptor.accept()
    assert list(suggestions.places) == [2]
    assert suggestions.current == 2


def test_bands_follow_the_map_s_crs(
    suggestions: SuggestionController, service: ScriptedService, canvas: QgsMapCanvas
) -> None:
    show(suggestions, service, 1)
    canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    spin()
    bands = [item for item in canvas.scene().items() if isinstance(item, QgsRubberBand) and item.isVisible()]
    assert all(abs(band.asGeometry().boundingBox().xMinimum()) < 180 for band in bands)


def test_the_engine_dies_or_has_nothing(
    suggestions: SuggestionController, service: ScriptedService, told: list
) -> None:
    suggestions.start("")
    service.last(Method.SUGGEST).on_error(EngineDiedError("The engine stopped."))
    suggestions.start("")
    service.last(Method.SUGGEST).on_result(SuggestResult((), 0, 4, 0.1))
    assert [level for level, _text in told] == [NoticeLevel.ERROR, NoticeLevel.WARNING]
    assert not suggestions.busy


def test_cancel_and_another_raster(
    suggestions: SuggestionController, service: ScriptedService, ready_session: Session, canvas: QgsMapCanvas
) -> None:
    suggestions.start("")
    suggestions.cancel()
    assert service.last(Method.SUGGEST).cancelled
    show(suggestions, service)
    before = items(canvas)
    ready_session.set_layer(None)
    assert suggestions.places == {}
    assert before - items(canvas) == 6


def test_labels_that_cannot_be_written(
    session: Session, project: QgsProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samtune.plugin.label_file.mkdtemp", lambda prefix: str(tmp_path / "not there"))
    written: list[LabelSource] = []
    failed: list[object] = []
    writer = LabelWriter(session, "labels")
    writer.write(layer_of([0.5]), "class", written.append, failed.append)
    wait_until(lambda: failed)
    assert not written
    assert not writer.busy
    assert "could not be written" in failed[0].user_text
