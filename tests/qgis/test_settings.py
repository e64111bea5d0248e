"""Settings: defaults, what the engine is told, the options page, and that nothing stays registered."""

from __future__ import annotations

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsSettingsTree
from samtune.engine.messages import EngineSettings
from samtune.plugin.settings import GIB, PLUGIN_KEY, PluginSettings
from samtune.ui.options_page import OptionsPage


def registered() -> bool:
    return any(node.key() == PLUGIN_KEY for node in QgsSettingsTree.node("plugins").childrenNodes())


def test_keys_are_kebab_case_and_described(settings: PluginSettings) -> None:
    for entry in settings.node.childrenSettings():
        assert entry.name() == entry.name().lower().replace("_", "-")
        assert entry.description()


def test_defaults_leave_everything_to_the_engine(settings: PluginSettings) -> None:
    assert settings.engine_settings() == EngineSettings("auto", 0, "", 4 * GIB, "")


def test_fixed_level(settings: PluginSettings) -> None:
    assert settings.fixed_level() is None
    settings.set_fixed_level(-2)
    assert settings.fixed_level() == -2
    settings.set_fixed_level(None)
    assert settings.fixed_level() is None
    settings.level_mode.setValue("nonsense")
    assert settings.fixed_level() is None


def test_load_and_unload_twice(without_plugin: None) -> None:
    assert not registered()
    for _ in range(2):
        made = PluginSettings()
        assert registered()
        made.unload()
        assert not registered()


def test_options_page_shows_and_saves(settings: PluginSettings) -> None:
    settings.device.setValue("cpu")
    settings.threads.setValue(3)
    applied: list[bool] = []
    page = OptionsPage(settings, lambda: applied.append(True))
    assert page.device.currentData() == "cpu"
    assert page.threads.value() == 3
    page.device.setCurrentIndex(page.device.findData("cuda"))
    page.threads.setValue(0)
    page.store_cap.setValue(1.5)
    page.mirror.setText(" https://mirror.example ")
    page.interpreter.setFilePath("/opt/engine/bin/python")
    page.hover.setChecked(False)
    assert settings.device.value() == "cpu", "nothing is saved before OK"
    page.apply()
    assert applied == [True]
    assert settings.engine_settings() == EngineSettings("cuda", 0, "", int(1.5 * GIB), "")
    assert settings.download_mirror.value() == "https://mirror.example"
    assert settings.engine_interpreter.value() == "/opt/engine/bin/python"
    assert not settings.hover_preview.value()
    page.deleteLater()
