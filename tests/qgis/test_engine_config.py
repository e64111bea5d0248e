"""How an engine is started, from the settings: which changes need another engine, and which do not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from samtune.models.errors import EnvironmentMissingError
from samtune.plugin import engine_config as module
from samtune.plugin.engine_config import engine_config, engine_location
from samtune.plugin.environment import PYTHON_VARIABLE
from samtune.plugin.settings import PluginSettings


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No environment but the one that a test names."""
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(module, "PLUGIN_FOLDER", tmp_path / "plugin")


def test_environments_lie_in_the_users_data_and_not_in_the_plugin(settings: PluginSettings, tmp_path: Path) -> None:
    where = engine_location(settings)
    assert where.managed_folder == tmp_path / "data" / "samtune" / "engine"
    assert where.plugin_folder == tmp_path / "plugin"


def test_a_missing_environment_is_an_error_only_when_an_engine_is_started(settings: PluginSettings) -> None:
    config = engine_config(settings)
    with pytest.raises(EnvironmentMissingError):
        config.command()


@pytest.mark.parametrize(
    "change",
    [
        lambda settings: settings.device.setValue("cpu"),
        lambda settings: settings.threads.setValue(3),
        lambda settings: settings.store_folder.setValue("/elsewhere"),
        lambda settings: settings.store_cap_gib.setValue(1.0),
        lambda settings: settings.models_folder.setValue("/elsewhere"),
        lambda settings: settings.engine_interpreter.setValue(sys.executable),
    ],
)
def test_what_an_engine_is_told_needs_another_engine(settings: PluginSettings, change: object) -> None:
    before = engine_config(settings)
    assert engine_config(settings).same_as(before)
    change(settings)  # type: ignore[operator]
    assert not engine_config(settings).same_as(before)


@pytest.mark.parametrize(
    "change",
    [
        lambda settings: settings.hover_preview.setValue(False),
        lambda settings: settings.download_mirror.setValue("https://mirror.example"),
        lambda settings: settings.class_value.setValue("roof"),
    ],
)
def test_what_only_the_panel_uses_does_not(settings: PluginSettings, change: object) -> None:
    before = engine_config(settings)
    change(settings)  # type: ignore[operator]
    assert engine_config(settings).same_as(before)
