"""From the plugin's settings to how an engine is started, and where its environment lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qgis.PyQt.QtCore import QStandardPaths

from ..models.errors import EnvironmentMissingError
from .engine_service import EngineConfig
from .environment import EngineLocation, engine_command, find_interpreter
from .settings import PLUGIN_KEY, PluginSettings

PLUGIN_FOLDER = Path(__file__).resolve().parent.parent


def engine_location(settings: PluginSettings) -> EngineLocation:
    """Return where to look for the engine's Python, as the settings are now."""
    base = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.GenericDataLocation)
    data_folder = (Path(base) if base else Path.home()) / PLUGIN_KEY
    return EngineLocation(settings.engine_interpreter.value(), data_folder, PLUGIN_FOLDER)


def adapters_folder(settings: PluginSettings) -> Path:
    """Return the folder of adapter files, as the settings are now: by default beside the default folder of models."""
    chosen = settings.adapters_folder.value()
    return Path(chosen).expanduser() if chosen else engine_location(settings).data_folder / "adapters"


def engine_config(settings: PluginSettings, *, background: bool = False) -> EngineConfig:
    """Describe the engine that the settings ask for.

    Args:
        settings: read now; later changes need a new configuration, and so does a new environment.
        background: of the engine for long work, which gives way to the one that answers clicks.

    Returns:
        The configuration; its command looks for the interpreter only when an engine is started.
    """
    where = engine_location(settings)
    try:
        key = str(find_interpreter(where).python)
    except EnvironmentMissingError:
        key = where.setting  # the command will say what is missing
    wanted = replace(settings.engine_settings(), background=background)
    return EngineConfig(engine_command(where), wanted, key)
