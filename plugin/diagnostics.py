"""A report that a user can paste into a mail or an issue: versions, device and why, paths, the engine's last words."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from qgis.core import Qgis
from qgis.PyQt.QtCore import QT_VERSION_STR

from .session import Session
from .settings import PluginSettings
from .status import size_text

LAST_LOG_LINES = 40


def diagnostics_text(
    session: Session, settings: PluginSettings, version: str, log_tail: str, memory_bytes: int = 0
) -> str:
    """Write the report. It names folders of this machine but no layer contents, passwords or project names.

    Args:
        session: the state.
        settings: the plugin's settings.
        version: of the plugin.
        log_tail: the engine's last output.
        memory_bytes: what the engine uses; 0 when unknown.

    Returns:
        Plain text of many lines.
    """
    lines = [
        f"SamTune {version}, QGIS {Qgis.QGIS_VERSION}, Qt {QT_VERSION_STR}, Python {platform.python_version()}",
        f"{platform.platform()}, {platform.machine()}",
        f"engine: {session.engine_state.value} {session.engine_text}".rstrip(),
        *_engine_lines(session),
        f"engine memory: {size_text(memory_bytes) if memory_bytes else 'unknown'}",
        f"settings: device {settings.device.value()}, threads {settings.threads.value()}, "
        f"interpreter {settings.engine_interpreter.value() or 'managed by the plugin'}, "
        f"mirror {'set' if settings.download_mirror.value() else 'none'}",
        *_raster_lines(session),
        *_adapter_lines(session),
        *[f"model {model.name}: {'present' if model.present else 'missing'}" for model in session.models],
        "engine log:",
        *log_tail.splitlines()[-LAST_LOG_LINES:],
    ]
    return "\n".join(lines) + "\n"


def plugin_version() -> str:
    """Return the version in the plugin's ``metadata.txt``."""
    metadata = Path(__file__).resolve().parent.parent / "metadata.txt"
    for line in metadata.read_text(encoding="utf-8").splitlines():
        if line.startswith("version="):
            return line.partition("=")[2].strip()
    return "?"


def _engine_lines(session: Session) -> list[str]:
    info = session.engine_info
    if info is None:
        return ["engine has not come up yet"]
    lines = [
        f"engine {info.version}, Python {info.python}, process {info.pid}, protocol {info.protocol}",
        f"device: {info.device} ({info.device_reason}), {info.threads} threads",
        "packages: " + ", ".join(f"{name} {version}" for name, version in sorted(info.versions.items())),
        f"log file: {info.log_file or 'none'}",
        *[f"warning: {warning}" for warning in info.warnings],
    ]
    for name, folder in (("models", info.models_dir), ("store", info.store_dir)):
        lines.append(f"{name}: {folder}, {_free(folder)}")
    return lines


def _raster_lines(session: Session) -> list[str]:
    raster = session.raster
    if raster is None:
        return [f"raster: none. {session.layer_problem}".rstrip()]
    return [
        f"raster: {raster.width} x {raster.height}, {len(raster.band_names)} bands, {raster.dtype}, "
        f"pixel {raster.pixel_size:g}, levels {raster.min_level} to {raster.max_level}",
        f"bands {raster.spec.bands}, stretch {raster.spec.stretch}",
        *raster.notes,
    ]


def _adapter_lines(session: Session) -> list[str]:
    state = session.adapters
    if state.chosen is None:
        return [f"adapter: none of {len(state.known)}"]
    return [f"adapter: {state.chosen.path.name} for {state.chosen.base}. {state.problem}".rstrip(), *state.notes]


def _free(folder: str) -> str:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return f"not there ({error.strerror})"
    return f"{free / (1 << 30):.1f} GiB free"
