"""Clicks to outlines with a scripted engine: levels, order of answers, cancels, a dying engine, accept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import (
    QgsContrastEnhancement,
    QgsCoordinateReferenceSystem,
    QgsGeometry,
    QgsPointXY,
    QgsProject,
    QgsRasterLayer,
)
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtTest import QSignalSpy, QTest
from samtune.engine.messages import Method, SegmentParams
from samtune.models.errors import (
    CancelledByUser,
    EngineDiedError,
    EnvironmentMissingError,
    ModelMissingError,
    PromptError,
    RasterError,
)
from samtune.plugin.click_controller import ClickController
from samtune.plugin.map_frame import MapFrame
from samtune.plugin.session import NoticeLevel, Session, StretchMode
from samtune.plugin.status import status_of
from samtune_test_support import (
    LEFT,
    TOP,
    UTM17,
    ScriptedService,
    found,
    nothing,
    prepared,
    raster_info,
    show_layer,
    spin,
    square,
    write_raster,
)

Place = Callable[[float, float], QgsPointXY]
UTM = QgsCoordinateReferenceSystem(UTM17)


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


@pytest.fixture
def controller(
    ready_session: Session,
    service: ScriptedService,
    frame: MapFrame,
    canvas: QgsMapCanvas,
    raster_layer: QgsRasterLayer,
) -> ClickController:
    show_layer(canvas, raster_layer)
    return ClickController(ready_session, service, frame)


@pytest.fixture
def on_map(frame: MapFrame) -> Place:
    """A place of the raster's CRS, by its distance from the upper left corner, in the canvas's CRS."""

    def transform(right: float, down: float) -> QgsPointXY:
        shown = frame.to_map(QgsGeometry.fromPointXY(QgsPointXY(LEFT + right, TOP - down)), UTM)
        if shown is None:
            raise ValueError(right, down)
        return shown.asPoint()

    return transform


def params(service: ScriptedService) -> SegmentParams:
    sent = service.last(Method.SEGMENT).params
    if not isinstance(sent, SegmentParams):
        raise TypeError(sent)
    return sent


def answer(service: ScriptedService, geometry: QgsGeometry | None = None, **changes: object) -> None:
    call = service.last(Method.SEGMENT)
    call.on_result(found(call.params, geometry, **changes))


def test_layer_choice_opens_the_raster(
    session: Session, service: ScriptedService, frame: MapFrame, raster_layer: QgsRasterLayer
) -> None:
    made = ClickController(session, service, frame)
    session.set_layer(raster_layer, (3, 2, 1))
    call = service.last(Method.OPEN)
    assert call.params.uri == raster_layer.source()  # type: ignore[attr-defined]
    assert call.params.bands == (3, 2, 1)  # type: ignore[attr-defined]
    assert session.busy is not None
    call.on_result(raster_info())
    assert session.raster == raster_info()
    assert session.busy is None or session.busy.text != "Opening the raster…"
    made.stop()


def test_the_answer_for_a_layer_left_meanwhile_is_dropped(
    session: Session, service: ScriptedService, frame: MapFrame, raster_layer: QgsRasterLayer
) -> None:
    made = ClickController(session, service, frame)
    session.set_layer(raster_layer, (1, 2, 3))
    first = service.last(Method.OPEN)
    session.set_layer(None)
    assert first.cancelled
    first.on_result(raster_info())
    assert session.raster is None
    made.stop()


def test_notes_of_the_raster_are_passed_on(
    controller: ClickController, ready_session: Session, service: ScriptedService
) -> None:
    told = QSignalSpy(ready_session.noticed)
    controller.open_raster()
    service.last(Method.OPEN).on_result(raster_info(notes=("This raster has no CRS.",)))
    assert [notice.text for (notice,) in told] == ["This raster has no CRS."]


def test_a_first_start_without_an_environment_is_no_error(
    controller: ClickController, ready_session: Session, service: ScriptedService
) -> None:
    told = QSignalSpy(ready_session.noticed)
    controller.open_raster()
    service.last(Method.OPEN).on_error(EnvironmentMissingError("Set it up."))
    assert [notice[0].level for notice in told] == [NoticeLevel.INFO]


def test_a_raster_that_does_not_open_is_told(
    controller: ClickController, ready_session: Session, service: ScriptedService
) -> None:
    told = QSignalSpy(ready_session.noticed)
    controller.open_raster()
    service.last(Method.OPEN).on_error(RasterError("It is damaged. Repair it."))
    assert ready_session.raster is None
    assert told[0][0].level is NoticeLevel.ERROR


def test_click_is_sent_in_the_rasters_crs(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.add_point(on_map(30.0, 40.0), True)
    sent = params(service)
    (point,) = sent.points
    assert (point.x, point.y) == pytest.approx((LEFT + 30, TOP - 40), abs=1e-3)
    assert point.positive
    assert sent.raster == ready_session.raster.spec  # type: ignore[union-attr]
    assert not sent.cached_only
    answer(service)
    assert ready_session.outline is not None
    assert ready_session.outline.geometry.equals(square())


def test_level_is_that_of_the_screen(
    controller: ClickController, canvas: QgsMapCanvas, service: ScriptedService, on_map: Place
) -> None:
    canvas.zoomScale(canvas.scale() * 8)
    controller.add_point(on_map(30.0, 40.0), True)
    coarse = params(service).level
    controller.clear()
    canvas.zoomScale(canvas.scale() / 4)
    controller.add_point(on_map(30.0, 40.0), True)
    assert params(service).level == coarse - 2


def test_level_stays_while_an_object_is_corrected(
    controller: ClickController, canvas: QgsMapCanvas, service: ScriptedService, on_map: Place
) -> None:
    controller.add_point(on_map(30.0, 40.0), True)
    level = params(service).level
    answer(service)
    canvas.zoomScale(canvas.scale() * 16)
    controller.add_point(on_map(35.0, 40.0), False)
    assert params(service).level == level
    assert [point.positive for point in params(service).points] == [True, False]


def test_fixed_level_is_kept_within_the_rasters_range(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    ready_session.set_fixed_level(9)
    controller.add_point(on_map(30.0, 40.0), True)
    assert params(service).level == 4
    answer(service, touches_edge=True)
    assert len(service.of(Method.SEGMENT)) == 1, "a fixed level is not raised"


def test_object_over_the_edge_is_shown_then_asked_again_at_most_twice(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.add_point(on_map(30.0, 40.0), True)
    level = params(service).level
    answer(service, square(side=10.0), touches_edge=True)
    assert ready_session.outline.geometry.area() == pytest.approx(100.0)  # type: ignore[union-attr]
    assert params(service).level == level + 1
    answer(service, square(side=20.0), touches_edge=True)
    assert params(service).level == level + 2
    answer(service, square(side=30.0), touches_edge=True)
    assert len(service.of(Method.SEGMENT)) == 3
    assert ready_session.outline.geometry.area() == pytest.approx(900.0)  # type: ignore[union-attr]
    controller.add_point(on_map(31.0, 40.0), True)
    assert params(service).level == level + 2, "corrections stay at the raised level"


def test_nothing_at_the_coarser_level_keeps_the_first_outline(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    told = QSignalSpy(ready_session.noticed)
    controller.add_point(on_map(30.0, 40.0), True)
    answer(service, touches_edge=True)
    call = service.last(Method.SEGMENT)
    call.on_result(nothing(call.params))
    assert ready_session.outline is not None
    assert len(told) == 0


def test_nothing_found_says_so_and_the_prompt_stays(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.add_point(on_map(30.0, 40.0), True)
    call = service.last(Method.SEGMENT)
    call.on_result(nothing(call.params))
    assert ready_session.outline is None
    assert len(ready_session.steps) == 1
    assert status_of(ready_session).text == "Nothing here."
    controller.clear()
    assert "Click on an object" in status_of(ready_session).text


def test_prompts_during_a_request_go_together_in_the_next(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.add_point(on_map(30.0, 40.0), True)
    controller.add_point(on_map(32.0, 40.0), True)
    controller.add_point(on_map(34.0, 40.0), False)
    assert len(service.of(Method.SEGMENT)) == 1
    answer(service)
    assert len(service.of(Method.SEGMENT)) == 2
    assert len(params(service).points) == 3
    answer(service, square(side=3.0))
    assert ready_session.outline.geometry.area() == pytest.approx(9.0)  # type: ignore[union-attr]
    assert len(service.of(Method.SEGMENT)) == 2


def test_answer_after_clear_is_dropped(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.add_point(on_map(30.0, 40.0), True)
    stale = service.last(Method.SEGMENT)
    controller.clear()
    assert stale.cancelled
    controller.add_point(on_map(50.0, 40.0), True)
    stale.on_result(found(stale.params, square(side=1.0)))
    assert ready_session.outline is None
    answer(service, square(side=2.0))
    assert ready_session.outline.geometry.area() == pytest.approx(4.0)  # type: ignore[union-attr]


def test_undo_asks_for_the_prompts_left_and_then_clears(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.add_point(on_map(30.0, 40.0), True)
    answer(service)
    controller.add_point(on_map(32.0, 40.0), True)
    answer(service)
    controller.undo()
    assert len(params(service).points) == 1
    answer(service)
    controller.undo()
    assert ready_session.steps == ()
    assert ready_session.outline is None
    controller.undo()  # nothing left: nothing happens
    assert len(service.of(Method.SEGMENT)) == 3


def test_box_is_sent_with_its_corners(controller: ClickController, service: ScriptedService, on_map: Place) -> None:
    controller.add_box((on_map(10, 10), on_map(30, 10), on_map(30, 25), on_map(10, 25)))
    sent = params(service)
    assert sent.points == ()
    box = QgsGeometry.fromPolygonXY([[QgsPointXY(x, y) for x, y in sent.box]])
    assert box.area() == pytest.approx(300.0, rel=1e-3)


def test_first_click_must_be_positive(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    told = QSignalSpy(ready_session.noticed)
    controller.add_point(on_map(30.0, 40.0), False)
    assert service.of(Method.SEGMENT) == []
    assert ready_session.steps == ()
    assert "left button" in told[0][0].text


def test_sliders_ask_again_with_the_same_prompts(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.add_point(on_map(30.0, 40.0), True)
    answer(service)
    before = params(service)
    ready_session.set_outline_options(2.0, 10.0)
    ready_session.set_outline_options(3.0, 10.0)
    spin(120)
    assert len(service.of(Method.SEGMENT)) == 2, "a moving slider asks once"
    after = params(service)
    assert (after.points, after.level) == (before.points, before.level)
    assert after.outline == ready_session.outline_options(after.level) != before.outline


def test_engine_death_during_a_click_is_one_message_and_the_next_click_works(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    told = QSignalSpy(ready_session.noticed)
    controller.hover.prepare(on_map(30.0, 40.0))
    controller.add_point(on_map(30.0, 40.0), True)
    for call in list(service.calls):
        call.on_error(EngineDiedError("The engine stopped. Click again.", "exit code -9"))
    assert [notice.text for (notice,) in told] == ["The engine stopped. Click again."]
    assert ready_session.steps == (), "the click that failed is not kept"
    assert ready_session.busy is None
    controller.add_point(on_map(31.0, 40.0), True)
    assert len(params(service).points) == 1
    answer(service)
    assert ready_session.outline is not None


def test_failed_correction_keeps_what_was_there(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.add_point(on_map(30.0, 40.0), True)
    answer(service)
    controller.add_point(on_map(90.0, 40.0), True)
    service.last(Method.SEGMENT).on_error(PromptError("There is no data here. Click elsewhere."))
    assert len(ready_session.steps) == 1
    assert ready_session.outline is not None


def test_failure_after_an_undo_keeps_the_prompts_that_were_answered(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    for right in (30.0, 32.0):
        controller.add_point(on_map(right, 40.0), True)
        answer(service)
    controller.undo()
    service.last(Method.SEGMENT).on_error(EngineDiedError("The engine stopped."))
    assert len(ready_session.steps) == 1


def test_user_cancel_shows_no_error(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    told = QSignalSpy(ready_session.noticed)
    controller.add_point(on_map(30.0, 40.0), True)
    call = service.last(Method.SEGMENT)
    controller.cancel()
    call.on_error(CancelledByUser())
    assert call.cancelled
    assert len(told) == 0
    assert ready_session.busy is None
    assert ready_session.steps == ()


def test_progress_is_shown_and_late_progress_is_not(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.add_point(on_map(30.0, 40.0), True)
    call = service.last(Method.SEGMENT)
    call.on_progress(0.4, "Encoding")  # type: ignore[misc]
    assert (ready_session.busy.text, ready_session.busy.fraction) == ("Encoding", 0.4)  # type: ignore[union-attr]
    answer(service)
    call.on_progress(0.9, "Encoding")  # type: ignore[misc]
    assert ready_session.busy is None


def test_accept_writes_and_clears(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    written: list[float] = []

    def accept() -> bool:
        written.append(ready_session.outline.geometry.area())  # type: ignore[union-attr]
        return True

    controller.set_accept(accept)
    controller.add_point(on_map(30.0, 40.0), True)
    answer(service)
    assert controller.accept()
    assert written == [pytest.approx(100.0)]
    assert ready_session.steps == ()
    assert ready_session.outline is None


def test_accept_before_the_answer_waits_for_it(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    written: list[float] = []
    controller.set_accept(lambda: written.append(ready_session.outline.geometry.area()) or True)  # type: ignore[union-attr,func-returns-value]
    controller.add_point(on_map(30.0, 40.0), True)
    assert not controller.accept()
    answer(service, touches_edge=True)
    assert written == [], "the coarser look comes first"
    answer(service, square(side=20.0))
    assert written == [pytest.approx(400.0)]


def test_a_click_while_an_accept_waits_begins_the_next_object(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    written: list[float] = []
    controller.set_accept(lambda: written.append(ready_session.outline.geometry.area()) or True)  # type: ignore[union-attr,func-returns-value]
    controller.add_point(on_map(30.0, 40.0), True)
    controller.accept()
    controller.add_point(on_map(80.0, 40.0), True)
    controller.add_point(on_map(82.0, 40.0), False)
    controller.accept()
    answer(service)
    assert written == [pytest.approx(100.0)], "the first object is kept by itself"
    assert [point.x for point in params(service).points] == [pytest.approx(LEFT + 80, abs=1e-3)]
    answer(service)
    assert [point.positive for point in params(service).points] == [True, False]
    answer(service, square(side=20.0))
    assert written == [pytest.approx(100.0), pytest.approx(400.0)], "the second accept is for the second object"
    assert ready_session.steps == ()


def test_a_box_while_an_accept_waits_begins_the_next_object(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.set_accept(lambda: True)
    controller.add_point(on_map(30.0, 40.0), True)
    controller.accept()
    controller.add_box((on_map(50, 50), on_map(60, 50), on_map(60, 60), on_map(50, 60)))
    answer(service)
    assert params(service).points == ()
    assert len(params(service).box) == 4


def test_an_accept_that_fails_keeps_its_object_by_itself(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.set_accept(lambda: False)
    controller.add_point(on_map(30.0, 40.0), True)
    controller.accept()
    controller.add_point(on_map(80.0, 40.0), True)
    answer(service)
    assert len(ready_session.steps) == 1
    assert ready_session.outline is not None
    assert len(service.of(Method.SEGMENT)) == 1


def test_nothing_to_accept_gives_way_to_the_click_on_the_next_object(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.set_accept(lambda: True)
    controller.add_point(on_map(30.0, 40.0), True)
    controller.accept()
    controller.add_point(on_map(80.0, 40.0), True)
    call = service.last(Method.SEGMENT)
    call.on_result(nothing(call.params))
    assert [point.x for point in params(service).points] == [pytest.approx(LEFT + 80, abs=1e-3)]


def test_undo_takes_back_what_waits_and_then_the_accept(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    written: list[bool] = []
    controller.set_accept(lambda: written.append(True) or True)  # type: ignore[func-returns-value]
    for right in (30.0, 32.0):
        controller.add_point(on_map(right, 40.0), True)
        if right == 30.0:
            answer(service)
    controller.accept()
    controller.add_point(on_map(80.0, 40.0), True)
    controller.undo()
    assert len(ready_session.steps) == 2
    controller.undo()
    assert len(ready_session.steps) == 1
    answer(service)
    answer(service)
    assert written == []
    assert len(ready_session.steps) == 1


def test_clear_drops_what_waits(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.set_accept(lambda: True)
    controller.add_point(on_map(30.0, 40.0), True)
    controller.accept()
    controller.add_point(on_map(80.0, 40.0), True)
    controller.clear()
    controller.add_point(on_map(50.0, 40.0), True)
    answer(service)
    assert len(ready_session.steps) == 1
    assert len(service.of(Method.SEGMENT)) == 2


def test_refused_accept_keeps_the_outline(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.set_accept(lambda: False)
    controller.add_point(on_map(30.0, 40.0), True)
    answer(service)
    assert not controller.accept()
    assert ready_session.outline is not None


def test_accept_without_an_outline_says_what_to_do(controller: ClickController, ready_session: Session) -> None:
    told = QSignalSpy(ready_session.noticed)
    assert not controller.accept()
    assert "Click on an object" in told[0][0].text


def test_click_without_a_raster_says_what_to_do(
    controller: ClickController, ready_session: Session, raster_layer: QgsRasterLayer, on_map: Place
) -> None:
    at = on_map(30.0, 40.0)
    told = QSignalSpy(ready_session.noticed)
    ready_session.set_layer(None)
    controller.add_point(at, True)
    ready_session.set_layer(raster_layer, (), "This layer is a service.")
    controller.add_point(at, True)
    assert [notice.text for (notice,) in told] == [
        "Choose a raster layer in the SamTune panel first.",
        "This layer is a service.",
    ]


def test_clicks_while_the_raster_is_being_opened_are_kept_and_answered(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    told = QSignalSpy(ready_session.noticed)
    written: list[bool] = []
    controller.set_accept(lambda: written.append(True) or True)  # type: ignore[func-returns-value]
    ready_session.set_raster(None)
    controller.add_point(on_map(30.0, 40.0), True)
    assert len(service.of(Method.OPEN)) == 1, "a click opens the raster where nobody else did"
    controller.add_point(on_map(32.0, 40.0), False)
    controller.accept()
    assert len(service.of(Method.OPEN)) == 1
    assert service.of(Method.SEGMENT) == []
    assert "outlined as soon as" in status_of(ready_session).text
    service.last(Method.OPEN).on_result(raster_info())
    assert [point.positive for point in params(service).points] == [True, False]
    answer(service)
    assert written == [True]
    assert len(told) == 0


def test_the_level_of_a_kept_click_is_that_of_the_screen_it_was_made_on(
    controller: ClickController, ready_session: Session, canvas: QgsMapCanvas, service: ScriptedService, on_map: Place
) -> None:
    canvas.zoomScale(canvas.scale() * 2)
    expected = controller.level_at(on_map(30.0, 40.0))
    ready_session.set_raster(None)
    controller.add_point(on_map(30.0, 40.0), True)
    canvas.zoomScale(canvas.scale() * 8)
    service.last(Method.OPEN).on_result(raster_info())
    assert params(service).level == expected


def test_kept_clicks_go_when_the_raster_cannot_be_opened_or_opening_is_cancelled(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    ready_session.set_raster(None)
    controller.add_point(on_map(30.0, 40.0), True)
    service.last(Method.OPEN).on_error(RasterError("It is damaged. Repair it."))
    assert ready_session.steps == ()
    assert "could not be opened" in status_of(ready_session).text
    controller.add_point(on_map(30.0, 40.0), True)
    assert len(ready_session.steps) == 1
    controller.cancel()
    assert ready_session.steps == ()
    text = status_of(ready_session).text
    assert "not open" in text
    assert "Repair" not in text


def test_a_kept_click_is_taken_back_by_undo(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    ready_session.set_raster(None)
    controller.add_point(on_map(30.0, 40.0), True)
    controller.undo()
    service.last(Method.OPEN).on_result(raster_info())
    assert service.of(Method.SEGMENT) == []


def test_undo_of_kept_clicks_leaves_the_rest_waiting(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    ready_session.set_raster(None)
    controller.add_point(on_map(30.0, 40.0), True)
    controller.add_point(on_map(32.0, 40.0), True)
    controller.undo()
    assert controller.answer_due
    service.last(Method.OPEN).on_error(RasterError("It is damaged. Repair it."))
    assert ready_session.steps == (), "what was not answered does not stay"


def test_clicks_are_not_held_for_an_answer_that_went_with_its_engine(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.add_point(on_map(30.0, 40.0), True)
    controller.accept()
    service.last(Method.SEGMENT).on_error(CancelledByUser())
    controller.add_point(on_map(32.0, 40.0), True)
    assert len(params(service).points) == 2


def test_loading_the_model_makes_way_for_a_click_and_for_encoding_ahead(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    for act in (
        lambda: controller.add_point(on_map(30.0, 40.0), True),
        lambda: controller.hover.prepare(on_map(30.0, 40.0)),
    ):
        controller.open_raster()
        service.last(Method.OPEN).on_result(raster_info())
        assert not service.last(Method.WARM_UP).cancelled
        act()
        assert service.last(Method.WARM_UP).cancelled
        controller.clear()


def test_a_click_that_waits_is_not_held_up_by_loading_the_model(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    ready_session.set_raster(None)
    controller.add_point(on_map(30.0, 40.0), True)
    service.last(Method.OPEN).on_result(raster_info())
    assert service.of(Method.WARM_UP) == []
    ready_session.set_model("vit_b")
    assert service.of(Method.WARM_UP) == []


def test_an_outline_remembers_what_was_asked(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.add_point(on_map(30.0, 40.0), True)
    asked = params(service)
    answer(service)
    ready_session.set_model("vit_b")
    service.last(Method.SEGMENT).on_error(ModelMissingError("Not here."))
    assert ready_session.outline.sent == asked  # type: ignore[union-attr]


def test_other_bands_open_anew_and_keep_the_object(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.add_point(on_map(30.0, 40.0), True)
    answer(service)
    ready_session.set_source((1,), StretchMode.ROBUST)
    assert service.last(Method.OPEN).params.bands == (1,)  # type: ignore[attr-defined]
    gray = raster_info(fingerprint="g")
    service.last(Method.OPEN).on_result(gray)
    assert len(service.of(Method.SEGMENT)) == 2
    assert len(params(service).points) == 1


def test_another_stretch_in_the_style_is_what_the_model_sees(
    controller: ClickController, ready_session: Session, service: ScriptedService, raster_layer: QgsRasterLayer
) -> None:
    controller.open_raster()
    opened = len(service.of(Method.OPEN))
    raster_layer.setOpacity(0.5)
    raster_layer.setRenderer(raster_layer.renderer().clone())
    assert len(service.of(Method.OPEN)) == opened, "the stretch is as it was"
    raster_layer.setContrastEnhancement(QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum)
    stretch = service.last(Method.OPEN).params.stretch  # type: ignore[attr-defined]
    assert len(service.of(Method.OPEN)) > opened
    assert stretch != ((0.0, 255.0),) * 3
    ready_session.set_source((1, 2, 3), StretchMode.ROBUST)
    opened = len(service.of(Method.OPEN))
    raster_layer.setContrastEnhancement(QgsContrastEnhancement.ContrastEnhancementAlgorithm.NoEnhancement)
    assert len(service.of(Method.OPEN)) == opened, "the robust stretch does not follow the style"


def test_another_model_asks_again(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.add_point(on_map(30.0, 40.0), True)
    answer(service)
    ready_session.set_model("vit_b")
    assert params(service).model == "vit_b"


def test_a_missing_model_is_a_state_and_no_error(
    controller: ClickController, ready_session: Session, service: ScriptedService
) -> None:
    told = QSignalSpy(ready_session.noticed)
    controller.open_raster()
    service.last(Method.OPEN).on_result(raster_info(fingerprint="x"))
    service.last(Method.WARM_UP).on_error(ModelMissingError("Not here."))
    assert len(told) == 0


def test_thumbnail_is_asked_for_a_new_crop_only(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    ready_session.set_thumbnail_wanted(True)
    controller.add_point(on_map(30.0, 40.0), True)
    answer(service)
    call = service.last(Method.PREPARE)
    assert call.params.cached_only  # type: ignore[attr-defined]
    call.on_result(prepared(call.params, "iVBORw=="))
    assert ready_session.thumbnail == b"\x89PNG"[:4]
    controller.add_point(on_map(31.0, 40.0), True)
    answer(service)
    assert len(service.of(Method.PREPARE)) == 1


def test_thumbnail_is_made_only_when_somebody_looks(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.hover.prepare(on_map(30.0, 40.0))
    ahead = service.last(Method.PREPARE)
    assert ahead.params.thumbnail == 0  # type: ignore[attr-defined]
    ahead.on_result(prepared(ahead.params))
    controller.add_point(on_map(30.0, 40.0), True)
    answer(service)
    assert len(service.of(Method.PREPARE)) == 1
    ready_session.set_thumbnail_wanted(True)
    asked = service.last(Method.PREPARE)
    assert asked is not ahead
    assert asked.params.cached_only  # type: ignore[attr-defined]
    asked.on_result(prepared(asked.params, "iVBORw=="))
    assert ready_session.thumbnail == b"\x89PNG"[:4]


def test_a_thumbnail_of_the_layer_before_is_dropped(
    controller: ClickController,
    ready_session: Session,
    service: ScriptedService,
    on_map: Place,
    project: QgsProject,
    tmp_path: Path,
) -> None:
    ready_session.set_thumbnail_wanted(True)
    controller.add_point(on_map(30.0, 40.0), True)
    answer(service)
    late = service.last(Method.PREPARE)
    other = QgsRasterLayer(str(write_raster(tmp_path / "other.tif")), "other")
    project.addMapLayer(other)
    ready_session.set_layer(other, (1, 2, 3))
    assert late.cancelled
    late.on_result(prepared(late.params, "iVBORw=="))
    assert ready_session.thumbnail == b""


def test_a_thumbnail_of_the_bands_before_is_dropped(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    ready_session.set_thumbnail_wanted(True)
    controller.add_point(on_map(30.0, 40.0), True)
    answer(service)
    late = service.last(Method.PREPARE)
    ready_session.set_source((1,), StretchMode.ROBUST)
    assert late.cancelled
    service.last(Method.OPEN).on_result(raster_info(fingerprint="g"))
    late.on_result(prepared(late.params, "iVBORw=="))
    assert ready_session.thumbnail == b""


def test_a_thumbnail_makes_way_for_a_click(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    ready_session.set_thumbnail_wanted(True)
    controller.add_point(on_map(30.0, 40.0), True)
    answer(service)
    controller.add_point(on_map(31.0, 40.0), True)
    assert service.last(Method.PREPARE).cancelled


def test_hover_asks_once_for_the_newest_place_and_only_from_the_cache(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    for right in range(20, 40):
        controller.hover.move(on_map(float(right), 40.0))
    spin(80)
    (call,) = service.segments(hover=True)
    assert call.params.points[0].x == pytest.approx(LEFT + 39.0, abs=1e-3)  # type: ignore[attr-defined]
    controller.hover.move(on_map(50.0, 40.0))
    spin(80)
    assert len(service.segments(hover=True)) == 1, "one at a time"
    call.on_result(found(call.params))
    assert ready_session.preview is not None
    spin(80)
    assert service.segments(hover=True)[-1].params.points[0].x == pytest.approx(LEFT + 50.0, abs=1e-3)  # type: ignore[attr-defined]


def test_hover_answer_after_a_click_is_dropped(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.hover.move(on_map(30.0, 40.0))
    spin(80)
    (call,) = service.segments(hover=True)
    controller.add_point(on_map(30.0, 40.0), True)
    assert call.cancelled
    call.on_result(found(call.params))
    assert ready_session.preview is None


def test_resting_on_a_cold_crop_encodes_it_once(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    from samtune.engine.messages import Empty

    controller.hover.move(on_map(30.0, 40.0))
    spin(80)
    call = service.segments(hover=True)[-1]
    call.on_result(nothing(call.params, Empty.COLD))
    assert service.of(Method.PREPARE) == []
    QTest.qWait(420)
    (prepare,) = service.of(Method.PREPARE)
    assert ready_session.busy is not None
    controller.hover.prepare(on_map(90.0, 90.0))
    assert len(service.of(Method.PREPARE)) == 1, "one at a time"
    prepare.on_result(prepared(prepare.params))
    assert ready_session.busy is None
    spin(80)
    assert len(service.segments(hover=True)) == 2, "the preview comes now"


def test_cancelled_encoding_does_not_start_again_by_itself(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.hover.prepare(on_map(30.0, 40.0))
    controller.cancel()
    assert service.last(Method.PREPARE).cancelled
    controller.hover.prepare(on_map(31.0, 40.0))
    assert len(service.of(Method.PREPARE)) == 1
    controller.activate(on_map(31.0, 40.0))
    assert len(service.of(Method.PREPARE)) == 2


def test_resting_where_nothing_can_be_encoded_is_a_hint_told_once(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    told = QSignalSpy(ready_session.noticed)
    controller.hover.prepare(on_map(30.0, 40.0))
    service.last(Method.PREPARE).on_error(RasterError("The raster has no data here."))
    controller.hover.prepare(on_map(30.0, 40.0))
    assert len(service.of(Method.PREPARE)) == 1, "the same place is not tried again"
    assert [notice.level for (notice,) in told] == [NoticeLevel.INFO]
    controller.hover.prepare(on_map(60.0, 40.0))
    service.last(Method.PREPARE).on_error(EngineDiedError("The engine stopped."))
    assert told[-1][0].level is NoticeLevel.ERROR


def test_click_elsewhere_stops_encoding_ahead_and_click_there_does_not(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    ready_session.set_fixed_level(-2)  # crops of 256 units
    controller.hover.prepare(on_map(10.0, 10.0))
    controller.add_point(on_map(20.0, 20.0), True)
    assert not service.last(Method.PREPARE).cancelled
    controller.clear()
    controller.add_point(on_map(190.0, 150.0), True)
    assert service.last(Method.PREPARE).cancelled


def test_box_in_the_crop_being_encoded_does_not_stop_it_and_one_elsewhere_does(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    ready_session.set_fixed_level(-2)  # crops of 256 units
    controller.hover.prepare(on_map(20.0, 20.0))
    controller.add_box((on_map(10, 10), on_map(40, 10), on_map(40, 30), on_map(10, 30)))
    assert not service.last(Method.PREPARE).cancelled
    controller.clear()
    controller.add_box((on_map(180, 140), on_map(195, 140), on_map(195, 155), on_map(180, 155)))
    assert service.last(Method.PREPARE).cancelled


def test_a_preview_that_fails_takes_the_one_before_away(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.hover.move(on_map(30.0, 40.0))
    spin(80)
    call = service.segments(hover=True)[-1]
    call.on_result(found(call.params))
    assert ready_session.preview is not None
    controller.hover.move(on_map(60.0, 40.0))
    spin(80)
    failing = service.segments(hover=True)[-1]
    controller.hover.move(on_map(70.0, 40.0))
    failing.on_error(RasterError("There is no data here."))
    assert ready_session.preview is None
    spin(80)
    assert service.segments(hover=True)[-1] is not failing, "the pointer has moved on meanwhile"


def test_hover_beyond_the_raster_or_without_an_engine_asks_nothing(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    from samtune.plugin.session import EngineState

    controller.hover.move(on_map(-50.0, 40.0))
    spin(80)
    ready_session.set_engine(EngineState.FAILED, "It stopped.")
    controller.hover.move(on_map(30.0, 40.0))
    spin(80)
    assert service.calls == [], "hovering must not start an engine that has just died, again and again"


def test_leaving_the_map_takes_the_preview_away(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    controller.hover.move(on_map(30.0, 40.0))
    spin(80)
    call = service.segments(hover=True)[-1]
    call.on_result(found(call.params))
    controller.hover.leave()
    assert ready_session.preview is None


def test_hover_draws_nothing_when_switched_off(
    controller: ClickController, ready_session: Session, service: ScriptedService, on_map: Place
) -> None:
    ready_session.hover_enabled = False
    controller.hover.move(on_map(30.0, 40.0))
    spin(80)
    call = service.segments(hover=True)[-1]
    call.on_result(found(call.params))
    assert ready_session.preview is None
    assert ready_session.crop == found(call.params).crop
