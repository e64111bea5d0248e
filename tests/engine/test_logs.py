"""Where the engine's log goes, and what never gets into it."""

from __future__ import annotations

import faulthandler
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from samtune.engine import logs

LOG = logging.getLogger("samtune.engine.anything")


@pytest.fixture(autouse=True)
def plain_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the root logger back as it was; pytest's own capturing needs the real stderr left alone."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.setattr(faulthandler, "enable", lambda _stream: None)
    yield
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def fail(text: str) -> None:
    raise OSError(text)


def test_lines_go_to_stderr_and_to_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = logs.set_up(tmp_path / "deep" / "logs")
    LOG.warning("The disk is full.")
    LOG.debug("not this")
    text = Path(path).read_text(encoding="utf-8")
    assert "WARNING samtune.engine.anything: The disk is full." in text
    assert "not this" not in text
    said = capsys.readouterr()
    assert "The disk is full." in said.err
    assert said.out == "", "stdout is the wire"


def test_without_a_folder_there_is_stderr_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert logs.set_up(None) == ""
    LOG.error("Ärger")
    assert "Ärger" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_told_and_no_reason_to_stop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert logs.set_up(tmp_path / "file" / "logs") == ""
    assert "No log file" in capsys.readouterr().err


def test_logins_stay_out_of_messages_and_tracebacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = logs.set_up(tmp_path)
    LOG.info("Opening %s", "/vsicurl/https://me:hush@host/a.tif?sig=hush")
    try:
        fail("https://me:hush@host/b.tif?token=hush answered 403")
    except OSError:
        LOG.exception("It failed")
    text = Path(path).read_text(encoding="utf-8")
    assert "host/a.tif" in text and "host/b.tif" in text and "Traceback" in text
    assert "hush" not in text
    assert "hush" not in capsys.readouterr().err


def test_the_file_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_MAX_BYTES", 2000)
    logs.set_up(tmp_path)
    for number in range(200):
        LOG.info("line %d, of some length so that it fills the file", number)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"engine.log", "engine.log.1", "engine.log.2", "engine.log.3"}
    assert max(sizes.values()) <= 2000
    assert "line 199" in (tmp_path / "engine.log").read_text(encoding="utf-8")


def test_the_file_is_found_where_it_is(tmp_path: Path) -> None:
    assert logs.log_file_of(tmp_path) == ""
    path = logs.set_up(tmp_path)
    assert logs.log_file_of(tmp_path) == path
