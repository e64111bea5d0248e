"""Review: the order, the keys, one undo command for each step, and whatever happens to the layer meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsFeature, QgsProject, QgsRasterLayer, QgsVectorFileWriter, QgsVectorLayer
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtTest import QTest
from samtune.plugin.acceptor import Acceptor
from samtune.plugin.map_frame import from_wkb_hex
from samtune.plugin.review_controller import ReviewController
from samtune.plugin.review_queue import ReviewQueue, doubt_key
from samtune.plugin.session import NoticeLevel, Outline, Session
from samtune_test_area_support import FIELDS, geometry_of, layer_of
from samtune_test_engine_helpers import wait_until
from samtune_test_support import LEFT, TOP, found, sent, show_layer, spin, square

SCORES = [0.9, 0.45, None, 0.52, 0.3]
UNSURE_FIRST = [3, 4, 2, 5, 1]


@pytest.fixture
def layer(project: QgsProject) -> QgsVectorLayer:
    made = layer_of(SCORES)
    project.addMapLayer(made)
    return made


@pytest.fixture
def acceptor(ready_session: Session, project: QgsProject) -> Acceptor:
    return Acceptor(ready_session, project, lambda _layer, _names: True, lambda: "")


@pytest.fixture
def told(ready_session: Session) -> list[tuple[NoticeLevel, str]]:
    heard: list[tuple[NoticeLevel, str]] = []
    ready_session.noticed.connect(lambda notice: heard.append((notice.level, notice.text)))
    return heard


@pytest.fixture
def review(
    ready_session: Session,
    canvas: QgsMapCanvas,
    project: QgsProject,
    acceptor: Acceptor,
    raster_layer: QgsRasterLayer,
    told: object,
) -> Iterator[ReviewController]:
    show_layer(canvas, raster_layer)
    made = ReviewController(ready_session, canvas, project, acceptor, lambda _layer, _names: True, lambda: None)
    yield made
    made.remove()


def start(review: ReviewController, layer: QgsVectorLayer) -> ReviewQueue:
    review.start(layer)
    queue = review.queue
    assert queue is not None
    wait_until(lambda: not queue.reading)
    return queue


def order(queue: ReviewQueue) -> list[int]:
    seen = []
    for _ in range(queue.total):
        seen.append(queue.current)
        queue.next()
    return seen  # type: ignore[return-value]


def press(canvas: QgsMapCanvas, key: Qt.Key) -> None:
    QTest.keyClick(canvas, key)
    spin()


def test_unsure_ones_come_first() -> None:
    keys = [doubt_key(score, number) for number, score in enumerate(SCORES, 1)]
    assert [key[2] for key in sorted(keys)] == UNSURE_FIRST


def test_the_queue_goes_around(review: ReviewController, layer: QgsVectorLayer, canvas: QgsMapCanvas) -> None:
    queue = start(review, layer)
    assert order(queue) == UNSURE_FIRST
    assert (queue.position, queue.total) == (1, 5)
    assert review.text().startswith("1 of 5 · crown")
    press(canvas, Qt.Key.Key_N)
    assert review.text() == "2 of 5 · crown · score 0.52"
    press(canvas, Qt.Key.Key_P)
    press(canvas, Qt.Key.Key_P)
    assert queue.position == 5


def test_the_map_shows_the_polygon(review: ReviewController, layer: QgsVectorLayer, canvas: QgsMapCanvas) -> None:
    start(review, layer)
    assert review.band.isVisible()
    shown = review.band.asGeometry().boundingBox()
    extent = canvas.extent()
    assert extent.contains(shown)
    assert 2.0 < extent.width() / shown.width() < 12.0


def test_accept_reject_and_undo_by_keys(review: ReviewController, layer: QgsVectorLayer, canvas: QgsMapCanvas) -> None:
    queue = start(review, layer)
    press(canvas, Qt.Key.Key_A)
    assert layer.getFeature(3)["reviewed"] is True
    assert (queue.current, queue.total) == (4, 4)
    press(canvas, Qt.Key.Key_R)
    assert not layer.getFeature(4).isValid()
    assert (queue.current, queue.total) == (2, 3)
    assert layer.undoStack().count() == 2
    layer.undoStack().undo()
    assert (queue.current, queue.total) == (4, 4), "the queue goes back to what came back"
    layer.undoStack().undo()
    assert (queue.current, queue.total) == (3, 5)
    layer.undoStack().redo()
    assert (queue.current, queue.total) == (4, 4)


def test_keys_are_the_map_s_again_after_the_end(
    review: ReviewController, layer: QgsVectorLayer, canvas: QgsMapCanvas
) -> None:
    start(review, layer)
    review.stop()
    press(canvas, Qt.Key.Key_R)
    assert layer.featureCount() == 5
    assert not review.band.isVisible()


def test_when_all_is_reviewed_it_says_so(review: ReviewController, layer: QgsVectorLayer) -> None:
    queue = start(review, layer)
    for _ in SCORES:
        review.accept()
    assert queue.current is None
    assert "Everything is reviewed" in review.text()
    review.accept()
    review.fix()
    assert layer.undoStack().count() == 5


def outline() -> Outline:
    asked = sent()
    result = found(asked, square(LEFT + 100, TOP - 60, 20.0), score=0.8)
    return Outline(from_wkb_hex(result.wkb), result, asked)


def test_fix_replaces_the_geometry_of_that_very_feature(
    review: ReviewController, layer: QgsVectorLayer, canvas: QgsMapCanvas, ready_session: Session, acceptor: Acceptor
) -> None:
    queue = start(review, layer)
    press(canvas, Qt.Key.Key_F)
    assert acceptor.redo is not None
    ready_session.set_outline(outline())
    assert acceptor.accept()
    feature = layer.getFeature(3)
    assert abs(feature.geometry().area() - 400.0) < 1e-6
    assert (feature["class"], feature["score"], feature["prompt"], feature["reviewed"]) == ("crown", 0.8, "point", True)
    assert layer.featureCount() == 5, "replaced, not added"
    assert (queue.current, acceptor.redo) == (4, None)
    assert layer.undoStack().count() == 1
    layer.undoStack().undo()
    assert queue.current == 3
    assert abs(geometry_of(layer, 3).area() - 64.0) < 1e-6
    assert queue.position == 1


def test_going_on_gives_a_fix_up(
    review: ReviewController, layer: QgsVectorLayer, canvas: QgsMapCanvas, acceptor: Acceptor
) -> None:
    start(review, layer)
    press(canvas, Qt.Key.Key_F)
    press(canvas, Qt.Key.Key_N)
    assert acceptor.redo is None
    assert abs(geometry_of(layer, 3).area() - 64.0) < 1e-6


def test_edits_by_others_are_followed(review: ReviewController, layer: QgsVectorLayer) -> None:
    queue = start(review, layer)
    layer.startEditing()
    layer.deleteFeature(3)
    assert (queue.current, queue.total) == (4, 4)
    layer.changeAttributeValue(2, layer.fields().lookupField("score"), 0.5)
    assert order(queue) == [4, 2, 5, 1], "the order stays while one goes through"
    extra = QgsFeature(layer.fields())
    extra.setGeometry(square(LEFT + 100, TOP - 50, 5.0))
    extra["score"], extra["reviewed"] = 0.501, False
    layer.addFeature(extra)
    assert queue.total == 5
    assert layer.commitChanges()
    wait_until(lambda: not queue.reading)
    assert queue.total == 5, "new features have other numbers now"
    assert all(layer.getFeature(number).isValid() for number in order(queue))


def test_edits_given_up(review: ReviewController, layer: QgsVectorLayer) -> None:
    queue = start(review, layer)
    review.accept()
    review.reject()
    layer.rollBack()
    wait_until(lambda: not queue.reading)
    assert queue.total == 5


def test_a_filter_is_followed(review: ReviewController, project: QgsProject, tmp_path: Path) -> None:
    path = str(tmp_path / "objects.gpkg")
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = "GPKG"
    QgsVectorFileWriter.writeAsVectorFormatV3(layer_of(SCORES), path, project.transformContext(), options)
    layer = QgsVectorLayer(path, "objects", "ogr")
    project.addMapLayer(layer)
    queue = start(review, layer)
    assert queue.total == 5
    assert layer.setSubsetString('"score" > 0.5')
    wait_until(lambda: not queue.reading)
    assert queue.total == 2
    review.accept()
    assert layer.commitChanges()
    wait_until(lambda: not queue.reading)
    assert queue.total == 1


def test_the_layer_is_removed(
    review: ReviewController, layer: QgsVectorLayer, project: QgsProject, canvas: QgsMapCanvas
) -> None:
    start(review, layer)
    project.removeMapLayer(layer.id())
    assert review.queue is None
    assert review.text() == ""
    press(canvas, Qt.Key.Key_A)


def test_without_the_field_it_is_added_on_consent(
    ready_session: Session, canvas: QgsMapCanvas, project: QgsProject, acceptor: Acceptor
) -> None:
    layer = layer_of([0.5, 0.6], FIELDS.replace("&field=reviewed:bool", ""))
    project.addMapLayer(layer)
    answers = [False, True]
    review = ReviewController(ready_session, canvas, project, acceptor, lambda *_: answers.pop(0), lambda: None)
    review.start(layer)
    assert review.queue is None
    assert layer.fields().lookupField("reviewed") < 0
    assert start(review, layer).total == 2
    assert layer.fields().lookupField("reviewed") >= 0
    assert layer.undoStack().count() == 1
    review.accept()
    assert layer.undoStack().count() == 2
    layer.undoStack().undo()
    layer.undoStack().undo()
    queue = review.queue
    wait_until(lambda: queue is not None and not queue.reading)
    review.accept()
    assert layer.fields().lookupField("reviewed") < 0, "an undone field is not written to"
    review.remove()


def test_a_layer_that_cannot_be_changed(review: ReviewController, layer: QgsVectorLayer, told: list) -> None:
    layer.setReadOnly(True)
    review.start(layer)
    assert review.queue is None
    assert told[-1][0] is NoticeLevel.ERROR
