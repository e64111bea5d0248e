"""Models: the list, downloads with mirror and proxy, files, and errors."""

from __future__ import annotations

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.PyQt.QtTest import QSignalSpy
from samtune.engine.messages import DownloadParams, ImportParams, Method, ModelList
from samtune.models.errors import DownloadError
from samtune.plugin import model_controller
from samtune.plugin.model_controller import ModelController
from samtune.plugin.session import NoticeLevel, Session
from samtune.plugin.settings import PluginSettings
from samtune_test_support import ScriptedService, model_info


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


def test_refresh_fills_the_session(session: Session, service: ScriptedService, settings: PluginSettings) -> None:
    ModelController(session, service, settings).refresh()
    service.last(Method.MODELS).on_result(ModelList((model_info(), model_info("vit_b", present=False))))
    assert [model.name for model in session.models] == ["tiny", "vit_b"]


def test_download_uses_the_mirror_and_then_lists_again(
    session: Session, service: ScriptedService, settings: PluginSettings
) -> None:
    told = QSignalSpy(session.noticed)
    settings.download_mirror.setValue("https://mirror.example/models")
    controller = ModelController(session, service, settings)
    controller.download("vit_b")
    call = service.last(Method.DOWNLOAD)
    assert call.params == DownloadParams("vit_b", "https://mirror.example/models", "")
    call.on_progress(0.5, "120 of 240 MiB")  # type: ignore[misc]
    assert session.busy.fraction == 0.5  # type: ignore[union-attr]
    call.on_result(model_info("vit_b"))
    assert told[0][0].level is NoticeLevel.SUCCESS
    assert len(service.of(Method.MODELS)) == 1
    assert session.busy is None


def test_failed_download_says_why(session: Session, service: ScriptedService, settings: PluginSettings) -> None:
    told = QSignalSpy(session.noticed)
    ModelController(session, service, settings).download("vit_b")
    service.last(Method.DOWNLOAD).on_error(DownloadError("There is no connection. Load it from a file."))
    assert [notice.text for (notice,) in told] == ["There is no connection. Load it from a file."]


def test_cancelled_download_is_quiet(session: Session, service: ScriptedService, settings: PluginSettings) -> None:
    told = QSignalSpy(session.noticed)
    controller = ModelController(session, service, settings)
    controller.download("vit_b")
    controller.cancel()
    assert service.last(Method.DOWNLOAD).cancelled
    assert len(told) == 0
    assert session.busy is None


def test_file_is_handed_over(session: Session, service: ScriptedService, settings: PluginSettings) -> None:
    ModelController(session, service, settings).import_file("vit_b", "/media/usb/sam.pth")
    assert service.last(Method.IMPORT).params == ImportParams("vit_b", "/media/usb/sam.pth")


@pytest.mark.parametrize(
    ("mirror", "asked"),
    [("", "https://models.example/vit_b"), ("https://mirror.example/models", "https://mirror.example/models")],
)
def test_the_proxy_is_that_of_the_address_that_is_asked(
    session: Session,
    service: ScriptedService,
    settings: PluginSettings,
    monkeypatch: pytest.MonkeyPatch,
    mirror: str,
    asked: str,
) -> None:
    monkeypatch.setattr(model_controller, "proxy_url", lambda address: f"http://proxy-for/{address}")
    session.set_models((model_info(), model_info("vit_b", present=False)))
    settings.download_mirror.setValue(mirror)
    ModelController(session, service, settings).download("vit_b")
    assert service.last(Method.DOWNLOAD).params.proxy == f"http://proxy-for/{asked}"  # type: ignore[attr-defined]
