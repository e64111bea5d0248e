"""The one sentence that the user reads: every state, and what comes first."""

from __future__ import annotations

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsRasterLayer
from samtune.engine.messages import Prompt
from samtune.plugin.session import Busy, EngineState, Outline, Session
from samtune.plugin.status import Action, State, size_text, status_of
from samtune_test_support import found, model_info, raster_info, sent, square


def test_ready_says_how_to_begin(ready_session: Session) -> None:
    status = status_of(ready_session)
    assert (status.state, status.action) == (State.READY, Action.NONE)
    assert "Click on an object" in status.text


def test_an_outline_says_its_score_and_how_to_keep_it(ready_session: Session) -> None:
    ready_session.add_step(Prompt(0.0, 0.0))
    assert "Backspace" in status_of(ready_session).text
    ready_session.set_outline(Outline(square(), found(None, score=0.914), sent()))
    text = status_of(ready_session).text
    assert "0.91" in text
    assert "Enter" in text


def test_no_layer(session: Session) -> None:
    session.set_engine(EngineState.READY)
    assert status_of(session).state is State.NO_LAYER


def test_unusable_layer_passes_its_reason_on(session: Session, raster_layer: QgsRasterLayer) -> None:
    session.set_layer(raster_layer, (), "Save it as a GeoTIFF.")
    status = status_of(session)
    assert (status.state, status.text) == (State.LAYER_UNUSABLE, "Save it as a GeoTIFF.")


def test_missing_environment_comes_first_and_offers_to_set_up(ready_session: Session) -> None:
    ready_session.set_engine(EngineState.ENVIRONMENT_MISSING, "There is no Python for it.")
    ready_session.set_layer(None)
    status = status_of(ready_session)
    assert (status.state, status.action) == (State.ENVIRONMENT_MISSING, Action.SET_UP)
    assert status.text == "There is no Python for it."


@pytest.mark.parametrize("text", ["It was killed.", ""])
def test_failed_engine_offers_to_try_again(ready_session: Session, text: str) -> None:
    ready_session.set_engine(EngineState.FAILED, text)
    status = status_of(ready_session)
    assert (status.state, status.action) == (State.ENGINE_FAILED, Action.RETRY)
    assert status.text == text or (not text and "diagnostics" in status.text)


def test_starting_engine(ready_session: Session) -> None:
    ready_session.set_engine(EngineState.STARTING)
    assert status_of(ready_session).state is State.ENGINE_STARTING


def test_missing_model_offers_the_download_with_its_size(ready_session: Session) -> None:
    ready_session.set_models((model_info("vit_b", present=False),))
    status = status_of(ready_session)
    assert (status.state, status.action) == (State.MODEL_MISSING, Action.DOWNLOAD)
    assert "16 MiB" in status.text
    assert "VIT_B" in status.text


def test_raster_being_opened_and_raster_that_cannot_be(ready_session: Session) -> None:
    ready_session.set_raster(None)
    ready_session.set_busy("open", Busy("Opening"))
    assert status_of(ready_session).action is Action.NONE
    ready_session.set_busy("open", None)
    status = status_of(ready_session)
    assert (status.state, status.action) == (State.NOT_OPEN, Action.RETRY)
    ready_session.set_raster(raster_info())
    assert status_of(ready_session).state is State.READY


@pytest.mark.parametrize(("size", "text"), [(10, "1 MiB"), (375 << 20, "375 MiB"), (5 << 29, "2.5 GiB")])
def test_size_text(size: int, text: str) -> None:
    assert size_text(size) == text
