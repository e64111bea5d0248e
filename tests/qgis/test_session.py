"""The plugin's state without any widget: what it holds, what it forgets, when it tells."""

from __future__ import annotations

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtTest import QSignalSpy
from samtune.engine.messages import Prompt
from samtune.plugin.session import Box, Busy, EngineState, NoticeLevel, Outline, Session, StretchMode
from samtune_test_support import found, model_info, raster_info, sent, spin, square

BOX = Box(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))


def test_another_layer_forgets_what_belonged_to_the_old_one(session: Session, raster_layer: QgsRasterLayer) -> None:
    session.set_layer(raster_layer, (3, 2, 1))
    session.set_raster(raster_info())
    session.add_step(Prompt(1.0, 2.0))
    session.set_outline(Outline(square(), found(None), sent()))
    session.set_crop(((0.0, 0.0),), 2)
    session.set_thumbnail(b"png")
    session.set_layer(None)
    assert session.raster is None
    assert session.steps == ()
    assert session.outline is None
    assert session.crop == ()
    assert session.thumbnail == b""
    assert session.bands == ()


def test_a_deleted_layer_is_let_go(session: Session, raster_layer: QgsRasterLayer, project: QgsProject) -> None:
    session.set_layer(raster_layer)
    changed = QSignalSpy(session.layer_changed)
    project.removeMapLayer(raster_layer.id())
    spin()
    assert session.layer is None
    assert len(changed) == 1


def test_a_deleted_target_is_let_go(session: Session, polygon_layer: QgsVectorLayer, project: QgsProject) -> None:
    session.set_target(polygon_layer, "class")
    project.removeMapLayer(polygon_layer.id())
    spin()
    assert session.target is None
    assert session.class_field == ""


def test_nothing_is_told_when_nothing_changes(session: Session, raster_layer: QgsRasterLayer) -> None:
    session.set_layer(raster_layer, (1, 2, 3))
    session.set_model("vit_b")
    session.set_fixed_level(1)
    signals = [
        QSignalSpy(signal)
        for signal in (session.layer_changed, session.model_changed, session.level_changed, session.source_changed)
    ]
    session.set_layer(raster_layer, (1, 2, 3))
    session.set_model("vit_b")
    session.set_model("")
    session.set_fixed_level(1)
    session.set_source((1, 2, 3), StretchMode.AS_DRAWN)
    assert [len(spy) for spy in signals] == [0, 0, 0, 0]
    session.set_source((1,), StretchMode.ROBUST)
    assert len(signals[3]) == 1


def test_the_last_box_counts_and_undo_brings_the_one_before_back(session: Session) -> None:
    first, second = BOX, Box(((5.0, 5.0),))
    session.add_step(first)
    session.add_step(Prompt(1.0, 1.0))
    session.add_step(second)
    assert session.box == second.corners
    session.set_steps(session.steps[:-1])
    assert session.box == first.corners
    assert session.points == (Prompt(1.0, 1.0),)


def test_outline_options_grow_with_the_level(session: Session) -> None:
    session.set_raster(raster_info())
    session.set_outline_options(0.5, 4.0)
    at_zero, at_two = session.outline_options(0), session.outline_options(2)
    assert at_zero.simplify == pytest.approx(1.0)  # half a model pixel of 2 units
    assert at_zero.min_hole == at_zero.min_part == pytest.approx(64.0)
    assert at_two.simplify == pytest.approx(4.0)
    assert at_two.min_hole == pytest.approx(64.0 * 16)


def test_a_model_that_is_not_in_the_list_gives_way(session: Session) -> None:
    session.set_model("gone")
    session.set_models((model_info("tiny"), model_info("vit_b")))
    assert session.model == "tiny"


def test_the_same_error_from_several_requests_is_told_once(session: Session) -> None:
    told = QSignalSpy(session.noticed)
    for _ in range(3):
        session.notify(NoticeLevel.ERROR, "The engine stopped.")
    session.notify(NoticeLevel.ERROR, "Another error.")
    session.notify(NoticeLevel.INFO, "Hint.")
    session.notify(NoticeLevel.INFO, "Hint.")
    assert len(told) == 4


def test_busy_shows_the_newest_and_falls_back(session: Session) -> None:
    session.set_busy("open", Busy("Opening"))
    session.set_busy("prepare", Busy("Encoding", 0.5))
    assert session.busy == Busy("Encoding", 0.5)
    session.set_busy("prepare", None)
    assert session.busy == Busy("Opening")
    session.set_busy("open", None)
    assert session.busy is None


def test_engine_state_is_told_with_its_text(session: Session) -> None:
    told = QSignalSpy(session.engine_changed)
    session.set_engine(EngineState.FAILED, "It stopped.")
    session.set_engine(EngineState.FAILED, "It stopped.")
    assert len(told) == 1
    assert (session.engine_state, session.engine_text) == (EngineState.FAILED, "It stopped.")
