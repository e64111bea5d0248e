"""What an engine can say about itself: versions, device, folders."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from .device import DeviceChoice
from .messages import PROTOCOL_VERSION, EngineInfo
from .paths import size_of

PACKAGES = (
    "torch",
    "segment-anything",
    "numpy",
    "rasterio",
    "shapely",
    "contourpy",
    "safetensors",
    "pyogrio",
    "pyproj",
    "urllib3",
)
"""Whose versions decide what the engine computes."""

_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Places:
    """Where this engine keeps things.

    Attributes:
        models: folder of downloaded and imported weight files.
        store: folder of the embedding store's disk tier.
        log_file: where the log goes; empty when only to stderr.
    """

    models: Path
    store: Path
    log_file: str = ""


def version() -> str:
    """Return SamTune's version, from ``metadata.txt``, which QGIS reads as well; ``unknown`` if it cannot be read."""
    try:
        lines = (_ROOT / "metadata.txt").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    values = [line.partition("=")[2].strip() for line in lines if line.partition("=")[0].strip() == "version"]
    return values[0] if values else "unknown"


def package_versions() -> dict[str, str]:
    """Return the installed version of each of :data:`PACKAGES`; ``not installed`` where there is none."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def engine_info(device: DeviceChoice, places: Places, warnings: tuple[str, ...] = ()) -> EngineInfo:
    """Describe this process.

    Args:
        device: the device in use.
        places: its folders; the store's is measured.
        warnings: what does not work as it should, for the user.
    """
    return EngineInfo(
        protocol=PROTOCOL_VERSION,
        version=version(),
        python=platform.python_version(),
        pid=os.getpid(),
        device=device.name,
        device_reason=device.reason,
        threads=device.threads,
        versions=package_versions(),
        models_dir=str(places.models),
        store_dir=str(places.store),
        store_bytes=size_of(places.store),
        log_file=places.log_file,
        warnings=warnings,
    )
