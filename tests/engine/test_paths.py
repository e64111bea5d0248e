"""Default folders on each system, and sizes of folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from samtune.engine.paths import chosen, default_folders, size_of

HOME = Path("/home/ada")


def test_linux_follows_xdg() -> None:
    folders = default_folders("linux", {}, HOME)
    assert folders.models == HOME / ".local/share/samtune/models"
    assert folders.store == HOME / ".cache/samtune"
    assert folders.logs == HOME / ".local/state/samtune/logs"
    moved = {"XDG_DATA_HOME": "/data", "XDG_CACHE_HOME": "/fast", "XDG_STATE_HOME": "/state"}
    folders = default_folders("linux", moved, HOME)
    assert folders.models == Path("/data/samtune/models")
    assert folders.store == Path("/fast/samtune")
    assert folders.logs == Path("/state/samtune/logs")


def test_relative_xdg_folders_are_ignored() -> None:
    assert default_folders("linux", {"XDG_CACHE_HOME": "cache"}, HOME).store == HOME / ".cache/samtune"


def test_macos_uses_library() -> None:
    folders = default_folders("darwin", {"XDG_DATA_HOME": "/data"}, HOME)
    assert folders.models == HOME / "Library/Application Support/samtune/models"
    assert folders.store == HOME / "Library/Caches/samtune"
    assert folders.logs == HOME / "Library/Logs/samtune"


def test_windows_uses_local_appdata() -> None:
    folders = default_folders("win32", {}, HOME)
    assert folders.store == HOME / "AppData/Local/samtune/store"
    moved = default_folders("win32", {"LOCALAPPDATA": "/local"}, HOME)
    assert moved.models == Path("/local/samtune/models")
    assert moved.logs == Path("/local/samtune/logs")


def test_the_three_folders_differ_and_none_holds_models_in_a_cache() -> None:
    for platform in ("linux", "darwin", "win32"):
        folders = default_folders(platform, {}, HOME)
        assert len({folders.models, folders.store, folders.logs}) == 3
        assert folders.store not in folders.models.parents  # clearing the cache must not take models with it


def test_nothing_is_made(tmp_path: Path) -> None:
    default_folders("linux", {}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_setting_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen("", HOME) == HOME
    assert chosen("/elsewhere", HOME) == Path("/elsewhere")
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("USERPROFILE", "/home/ada")
    assert chosen("~/models", Path("/x")) == HOME / "models"


def test_size_counts_all_files_below(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "one").write_bytes(b"1" * 10)
    (tmp_path / "a" / "b" / "two").write_bytes(b"2" * 32)
    assert size_of(tmp_path) == 42
    assert size_of(tmp_path / "nothing") == 0


def test_size_survives_files_that_vanish(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    (tmp_path / "one").write_bytes(b"1")
    assert size_of(tmp_path) == 1
