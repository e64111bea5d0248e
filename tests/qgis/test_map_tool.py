"""The map tool by real mouse events on a real canvas: what comes out, and what is drawn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsCoordinateReferenceSystem, QgsGeometry, QgsPointXY, QgsRasterLayer
from qgis.gui import QgsMapCanvas, QgsRubberBand
from qgis.PyQt.QtCore import QEvent, QPoint, Qt
from qgis.PyQt.QtTest import QSignalSpy, QTest
from qgis.PyQt.QtWidgets import QApplication
from samtune.engine.messages import Prompt
from samtune.plugin.canvas_bands import CanvasBands
from samtune.plugin.map_frame import MapFrame
from samtune.plugin.map_tool import PromptTool, ToolMode
from samtune.plugin.session import Box, Outline, Session
from samtune_test_support import CROP, LEFT, TOP, UTM17, click, drag, found, move, on_screen, sent, show_layer, square

UTM = QgsCoordinateReferenceSystem(UTM17)


@pytest.fixture
def bands(canvas: QgsMapCanvas, ready_session: Session, frame: MapFrame) -> Iterator[CanvasBands]:
    made = CanvasBands(canvas, ready_session, frame)
    yield made
    made.remove()


@pytest.fixture
def tool(canvas: QgsMapCanvas, bands: CanvasBands, raster_layer: QgsRasterLayer) -> Iterator[PromptTool]:
    show_layer(canvas, raster_layer)
    made = PromptTool(canvas, bands)
    canvas.setMapTool(made)
    yield made
    canvas.unsetMapTool(made)


def place(canvas: QgsMapCanvas, at: QPoint) -> QgsPointXY:
    return canvas.getCoordinateTransform().toMapCoordinates(at)


@pytest.mark.parametrize(
    ("button", "modifiers", "positive"),
    [
        (Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, True),
        (Qt.MouseButton.RightButton, Qt.KeyboardModifier.NoModifier, False),
        (Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ShiftModifier, False),
    ],
)
def test_clicks(
    canvas: QgsMapCanvas,
    tool: PromptTool,
    button: Qt.MouseButton,
    modifiers: Qt.KeyboardModifier,
    positive: bool,
) -> None:
    points = QSignalSpy(tool.point_added)
    boxes = QSignalSpy(tool.box_drawn)
    click(canvas, QPoint(120, 140), button, modifiers)
    assert len(points) == 1
    assert len(boxes) == 0
    point, sign = points[0]
    assert sign is positive
    assert point.distance(place(canvas, QPoint(120, 140))) < canvas.mapUnitsPerPixel() / 2


def test_middle_button_is_left_to_the_canvas(canvas: QgsMapCanvas, tool: PromptTool) -> None:
    points = QSignalSpy(tool.point_added)
    click(canvas, QPoint(50, 50), Qt.MouseButton.MiddleButton)
    assert len(points) == 0


def test_a_double_click_is_one_prompt(canvas: QgsMapCanvas, tool: PromptTool) -> None:
    points = QSignalSpy(tool.point_added)
    boxes = QSignalSpy(tool.box_drawn)
    at, left, none = QPoint(80, 80), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    click(canvas, at)
    QTest.mouseDClick(canvas.viewport(), left, none, at)
    move(canvas, QPoint(180, 180))
    QTest.mouseRelease(canvas.viewport(), left, none, QPoint(180, 180))
    assert len(points) == 1
    assert len(boxes) == 0


def test_drag_is_a_box_and_shows_it(canvas: QgsMapCanvas, tool: PromptTool, bands: CanvasBands) -> None:
    points = QSignalSpy(tool.point_added)
    boxes = QSignalSpy(tool.box_drawn)
    left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    QTest.mousePress(canvas.viewport(), left, none, QPoint(100, 100))
    move(canvas, QPoint(160, 150), left)
    assert tool.mode is ToolMode.DRAGGING
    drawn = bands.drag.asGeometry().boundingBox()
    assert drawn.width() == pytest.approx(60 * canvas.mapUnitsPerPixel(), rel=0.05)
    QTest.mouseRelease(canvas.viewport(), left, none, QPoint(180, 150))
    assert bands.drag.asGeometry().isEmpty()
    assert len(points) == 0
    (corners,) = boxes[0]
    box = QgsGeometry.fromPolygonXY([list(corners)]).boundingBox()
    assert box.width() == pytest.approx(80 * canvas.mapUnitsPerPixel(), rel=0.03)
    assert box.height() == pytest.approx(50 * canvas.mapUnitsPerPixel(), rel=0.03)


def test_a_box_is_upright_on_a_rotated_screen(canvas: QgsMapCanvas, tool: PromptTool) -> None:
    canvas.setRotation(30.0)
    boxes = QSignalSpy(tool.box_drawn)
    drag(canvas, QPoint(100, 100), QPoint(200, 160))
    (corners,) = boxes[0]
    shown = [on_screen(canvas, corner.x(), corner.y()) for corner in corners]
    assert {point.x() for point in shown} == {100, 200}
    assert {point.y() for point in shown} == {100, 160}
    canvas.setRotation(0.0)


def test_a_hand_that_trembles_still_clicks(canvas: QgsMapCanvas, tool: PromptTool) -> None:
    points = QSignalSpy(tool.point_added)
    start = QPoint(100, 100)
    drag(canvas, start, start + QPoint(QApplication.startDragDistance() - 1, 0))
    assert len(points) == 1
    assert points[0][0].distance(place(canvas, start)) < canvas.mapUnitsPerPixel() / 2


def test_keys(canvas: QgsMapCanvas, tool: PromptTool) -> None:
    accept, undo, clear = (QSignalSpy(s) for s in (tool.accept_requested, tool.undo_requested, tool.clear_requested))
    for key in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Backspace, Qt.Key.Key_Escape):
        QTest.keyClick(canvas, key)
    assert (len(accept), len(undo), len(clear)) == (2, 1, 1)


def test_backspace_is_kept_from_qgis_which_would_delete_selected_features(
    canvas: QgsMapCanvas, tool: PromptTool
) -> None:
    passed_on: list[bool] = []
    canvas.keyPressed.connect(lambda event: passed_on.append(event.isAccepted()))
    QTest.keyClick(canvas, Qt.Key.Key_Backspace)
    assert True not in passed_on, "QgisApp deletes selected features on an accepted Backspace"


def test_escape_gives_up_a_box_before_the_object(canvas: QgsMapCanvas, tool: PromptTool, bands: CanvasBands) -> None:
    clear, boxes = QSignalSpy(tool.clear_requested), QSignalSpy(tool.box_drawn)
    left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    QTest.mousePress(canvas.viewport(), left, none, QPoint(100, 100))
    move(canvas, QPoint(160, 150), left)
    tool.keyPressEvent(_key(Qt.Key.Key_Escape))
    QTest.mouseRelease(canvas.viewport(), left, none, QPoint(180, 150))
    assert (len(clear), len(boxes)) == (0, 0)
    assert bands.drag.asGeometry().isEmpty()


def _key(key: Qt.Key) -> object:
    from qgis.PyQt.QtGui import QKeyEvent

    return QKeyEvent(QEvent.Type.KeyPress, key, Qt.KeyboardModifier.NoModifier)


def test_moving_tells_the_place_and_leaving_is_told(canvas: QgsMapCanvas, tool: PromptTool) -> None:
    hovered, left = QSignalSpy(tool.hovered), QSignalSpy(tool.pointer_left)
    move(canvas, QPoint(77, 66))
    assert hovered[0][0].distance(place(canvas, QPoint(77, 66))) < canvas.mapUnitsPerPixel() / 2
    QApplication.sendEvent(canvas.viewport(), QEvent(QEvent.Type.Leave))
    assert len(left) == 1


def test_bands_show_the_session_in_the_canvas_crs(
    canvas: QgsMapCanvas, tool: PromptTool, bands: CanvasBands, ready_session: Session, frame: MapFrame
) -> None:
    ready_session.add_step(Prompt(LEFT + 10, TOP - 10))
    ready_session.add_step(Prompt(LEFT + 20, TOP - 10, positive=False))
    ready_session.set_outline(Outline(square(), found(None), sent()))
    ready_session.set_crop(CROP, 0)
    expected = frame.to_map(square(), UTM)
    assert expected is not None
    assert bands.outline.asGeometry().symDifference(expected).area() < 1e-6 * expected.area()
    assert bands.positive.size() == 1
    assert bands.positive.numberOfVertices() == 1
    assert bands.negative.numberOfVertices() == 1
    assert bands.frame.isVisible()
    there = frame.to_map(QgsGeometry.fromPointXY(QgsPointXY(LEFT + 10, TOP - 10)), UTM)
    assert there is not None
    assert bands.positive.getPoint(0, 0).distance(there.asPoint()) < 1e-6


def test_bands_move_with_the_projects_crs(
    canvas: QgsMapCanvas, tool: PromptTool, bands: CanvasBands, ready_session: Session
) -> None:
    ready_session.set_outline(Outline(square(), found(None), sent()))
    before = bands.outline.asGeometry()
    canvas.setDestinationCrs(UTM)
    after = bands.outline.asGeometry()
    assert not before.intersects(after)
    assert after.symDifference(square()).area() < 1e-6


def test_a_box_prompt_and_a_preview_are_drawn(
    canvas: QgsMapCanvas, tool: PromptTool, bands: CanvasBands, ready_session: Session
) -> None:
    ready_session.set_preview(square())
    assert bands.preview.isVisible()
    ready_session.add_step(Box(CROP))
    assert not bands.preview.isVisible(), "a preview gives way to a prompt"
    assert bands.box.isVisible()
    ready_session.reset_object()
    assert not bands.box.isVisible()


def test_bands_hide_with_the_tool_and_come_back(
    canvas: QgsMapCanvas, tool: PromptTool, bands: CanvasBands, ready_session: Session
) -> None:
    ready_session.set_outline(Outline(square(), found(None), sent()))
    canvas.unsetMapTool(tool)
    assert not any(band.isVisible() for band in bands.all())
    canvas.setMapTool(tool)
    assert bands.outline.isVisible()


def test_removed_bands_leave_the_canvas_as_it_was(
    canvas: QgsMapCanvas, ready_session: Session, frame: MapFrame
) -> None:
    def count() -> int:
        return sum(isinstance(item, QgsRubberBand) for item in canvas.scene().items())

    before = count()
    made = CanvasBands(canvas, ready_session, frame)
    assert count() == before + len(made.all())
    made.remove()
    assert count() == before
    ready_session.add_step(Prompt(LEFT, TOP))  # nobody listens any more
