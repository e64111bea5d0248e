"""What the engine says about itself."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path

import pytest
from samtune.engine import about
from samtune.engine.about import Places, engine_info, package_versions, version
from samtune.engine.device import DeviceChoice
from samtune.engine.messages import PROTOCOL_VERSION, EngineInfo
from samtune.engine.wire import from_wire, to_wire

DEVICE = DeviceChoice("cpu", "The processor.", 3)


def test_the_description_is_complete_and_fits_the_wire(tmp_path: Path) -> None:
    (tmp_path / "crop").write_bytes(bytes(77))
    info = engine_info(DEVICE, Places(tmp_path / "models", tmp_path, "engine.log"))
    assert from_wire(EngineInfo, json.loads(json.dumps(to_wire(info)))) == info
    assert (info.protocol, info.pid, info.python) == (PROTOCOL_VERSION, os.getpid(), platform.python_version())
    assert (info.device, info.device_reason, info.threads) == ("cpu", "The processor.", 3)
    assert (info.store_bytes, info.store_dir, info.log_file) == (77, str(tmp_path), "engine.log")
    assert info.version == version()


def test_every_package_is_named_even_when_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(about, "PACKAGES", ("torch", "no-such-package"))
    assert package_versions() == {"torch": metadata.version("torch"), "no-such-package": "not installed"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[general]\nname=x\nversion=1.2.3\n", "1.2.3"),
        ("version = 4.5\n", "4.5"),
        ("qgisMinimumVersion=3.40\n", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_version_is_read_from_the_plugins_metadata(
    text: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text is not None:
        (tmp_path / "metadata.txt").write_text(text, encoding="utf-8")
    monkeypatch.setattr(about, "_ROOT", tmp_path)
    assert version() == expected
