"""The report that users paste: what helps is in it, what is private is not."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from samtune.plugin.diagnostics import LAST_LOG_LINES, diagnostics_text, plugin_version
from samtune.plugin.session import EngineState, Session
from samtune.plugin.settings import PluginSettings
from samtune_test_support import engine_info, raster_info


def report(session: Session, settings: PluginSettings, log_tail: str = "") -> str:
    return diagnostics_text(session, settings, "1.2.3", log_tail)


def test_before_the_engine_has_come_up(session: Session, settings: PluginSettings) -> None:
    text = report(session, settings)
    assert text.startswith("SamTune 1.2.3, QGIS 3.") or text.startswith("SamTune 1.2.3, QGIS 4.")
    assert "engine has not come up yet" in text
    assert "raster: none" in text


def test_engine_and_raster(ready_session: Session, settings: PluginSettings, tmp_path: Path) -> None:
    ready_session.set_engine_info(
        engine_info(
            versions={"torch": "2.7.1", "numpy": "2.1.0"},
            models_dir=str(tmp_path),
            store_dir=str(tmp_path / "gone"),
            warnings=("The cache folder cannot be used.",),
        )
    )
    ready_session.set_raster(raster_info(notes=("This raster has no overviews.",)))
    text = report(ready_session, settings)
    for part in (
        "device: cpu (There is no graphics card.)",
        "numpy 2.1.0, torch 2.7.1",
        "GiB free",
        "not there (",
        "warning: The cache folder cannot be used.",
        "100 x 80, 3 bands, uint8",
        "This raster has no overviews.",
        "model vit_b: missing",
    ):
        assert part in text


def test_a_failed_engine_says_why_and_its_last_words_are_the_last(session: Session, settings: PluginSettings) -> None:
    session.set_engine(EngineState.FAILED, "It ran out of memory.")
    text = report(session, settings, "\n".join(f"line {number}" for number in range(200)))
    assert "engine: failed It ran out of memory." in text
    assert text.splitlines()[-1] == "line 199"
    assert len([line for line in text.splitlines() if line.startswith("line ")]) == LAST_LOG_LINES


def test_no_addresses_names_or_passwords(ready_session: Session, settings: PluginSettings) -> None:
    settings.download_mirror.setValue("https://anna:secret@mirror.example")
    ready_session.set_raster(raster_info("/vsicurl/https://host.example/scene.tif?sig=abc"))
    ready_session.set_class_value("villa of the mayor")
    text = report(ready_session, settings)
    assert "mirror set" in text
    for private in ("secret", "sig=abc", "villa", "host.example"):
        assert private not in text


def test_version_is_that_of_the_metadata() -> None:
    assert plugin_version()[0].isdigit()
