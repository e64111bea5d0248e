"""From the plugin's settings to how an engine is started."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..models.errors import EnvironmentMissingError
from .engine_service import EngineConfig
from .settings import PluginSettings

BOOTSTRAP = Path(__file__).resolve().parent.parent / "engine" / "bootstrap.py"


def engine_config(settings: PluginSettings) -> EngineConfig:
    """Describe the engine that the settings ask for.

    Args:
        settings: read now; later changes need a new configuration.

    Returns:
        The configuration; its command looks for the interpreter only when an engine is started.
    """
    chosen = settings.engine_interpreter.value() or os.environ.get("SAMTUNE_ENGINE_PYTHON", "")

    def command() -> Sequence[str]:
        if not chosen:
            raise EnvironmentMissingError("SamTune's engine has no Python environment yet. Set it up first.")
        return [chosen, str(BOOTSTRAP), "serve"]

    return EngineConfig(command, settings.engine_settings(), chosen)
