"""The command line: exit status, one line on failure, and commands that do not hinder each other."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from samtune.engine import cli, console
from samtune.engine.about import PACKAGES, package_versions, version
from samtune.engine.cli import COMMANDS, main
from samtune.engine.messages import EngineInfo, ModelInfo
from samtune.engine.wire import from_wire
from samtune.models import registry
from samtune.models.errors import CancelledByUser, ModelMissingError

from ..models.tiny_files import write_tiny
from .flaky_server import Plan, serving

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    return ["--models-dir", str(tmp_path / "models"), "--store-dir", str(tmp_path / "store")]


def _one_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]


def _with_command(monkeypatch: pytest.MonkeyPatch, run: object) -> None:
    """Make ``info`` a command that does what the test wants."""
    module = types.ModuleType("fake")
    module.add_parser = lambda subparsers: subparsers.add_parser("info")  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setattr(cli, "_load", lambda _name: module)


def test_info_as_text(folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "embedding").write_bytes(bytes(2_500_000))
    assert main(["info", "--device", "cpu", *folders]) == 0
    shown = capsys.readouterr()
    rows = dict(line.split("  ", 1) for line in shown.out.splitlines())
    assert rows["SamTune"].strip() == version()
    assert rows["torch"].strip() == package_versions()["torch"]
    assert rows["device"].strip() == "cpu - The processor, as chosen in the settings."
    assert rows["store size"].strip() == "2.5 MB"
    assert rows["model vit_b"].strip() == "not on this machine"
    assert shown.err == ""


def test_info_as_json_is_the_wire_message(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json", *folders]) == 0
    values = json.loads(capsys.readouterr().out)
    info = from_wire(EngineInfo, values["engine"])
    assert set(info.versions) == set(PACKAGES)
    assert info.models_dir == folders[1]
    assert info.threads >= 1
    names = [from_wire(ModelInfo, model).name for model in values["models"]]
    assert names == list(registry.cards())


def test_version_is_the_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    metadata = (ROOT / "metadata.txt").read_text(encoding="utf-8")
    assert f"version={capsys.readouterr().out.split()[1]}\n" in metadata


def test_help_lists_the_commands_there_are(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert (command.summary in shown) == (ROOT / "engine" / "commands" / f"{command.name}.py").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["conquer"],
        ["info", "--colour", "blue"],
        ["info", "--models-dir"],
        ["models"],
        ["models", "list", "vit_b"],
        ["models", "import", "vit_b"],
        ["--nonsense"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == cli.WRONG_USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    line = _one_line(shown.err)
    assert line.startswith("samtune")
    assert "--help" in line


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == cli.WRONG_USAGE
    assert "commands" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["info", "--device", "abacus"], "no device called 'abacus'"),
        (["models", "download", "vit_x"], "no model called 'vit_x'"),
        (["models", "download", "tiny"], "nothing to download"),
        (["models", "download", "vit_b"], "Add --yes"),
        (["models", "import", "vit_b", "/nowhere/x.pth"], "There is no file"),
        (["models", "download", "vit_b", "--yes", "--mirror", "ftp://x"], "no web address"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main([*arguments, "--models-dir", str(tmp_path / "models")]) == cli.FAILED
    shown = capsys.readouterr()
    assert shown.out == ""
    assert text in _one_line(shown.err)


@pytest.mark.parametrize("position", [0, 1])
def test_details_only_when_asked_for(
    position: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_args: argparse.Namespace) -> int:
        raise ModelMissingError("Text for\nthe user.", "deep\ndetails")

    _with_command(monkeypatch, run)
    assert main(["info"]) == cli.FAILED
    assert _one_line(capsys.readouterr().err) == "samtune: Text for the user."
    arguments = ["info"]
    arguments.insert(position, "--verbose")
    assert main(arguments) == cli.FAILED
    assert capsys.readouterr().err.splitlines() == ["samtune: Text for the user.", "deep", "details"]


def test_an_unexpected_failure_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_command(monkeypatch, lambda _args: 1 // 0)
    assert main(["info"]) == cli.FAILED
    assert "ZeroDivisionError" in _one_line(capsys.readouterr().err)
    assert main(["info", "--verbose"]) == cli.FAILED
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, CancelledByUser])
def test_interruption_has_its_own_status(
    interruption: type[BaseException], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_args: argparse.Namespace) -> int:
        raise interruption

    _with_command(monkeypatch, run)
    assert main(["info"]) == cli.INTERRUPTED
    assert _one_line(capsys.readouterr().err) == "samtune: Interrupted."


def test_the_commands_status_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    _with_command(monkeypatch, lambda _args: 7)
    assert main(["info"]) == 7


def test_a_broken_command_names_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "samtune.engine.commands.models", None)
    assert main(["models", "list"]) == cli.FAILED
    assert "The command models cannot run" in _one_line(capsys.readouterr().err)
    assert main(["info", "--device", "cpu"]) == 0


def test_listing_models_imports_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys; sys.argv = ['samtune', 'models', 'list', '--models-dir', sys.argv[2]]; sys.path.insert(0, '');"
        "import runpy, importlib.util as u; s = u.spec_from_file_location('b', 'engine/bootstrap.py');"
        "b = u.module_from_spec(s); s.loader.exec_module(b); code = b.main();"
        "sys.exit(code or sum(name in sys.modules for name in ('torch', 'rasterio', 'shapely', 'numpy')))"
    )
    command = [sys.executable, "-c", program, "x", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "SAM ViT-H" in done.stdout


def test_the_process_exits_with_the_status(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "engine" / "bootstrap.py"), "models", "import", "vit_b", str(tmp_path / "no")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == cli.FAILED
    assert _one_line(done.stderr).startswith("samtune: There is no file")
    assert done.stdout == ""


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(ROOT / "engine" / "bootstrap.py"), "models", "list"]
    done = subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (cli.FAILED, "")


def test_models_list(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", *folders]) == 0
    shown = capsys.readouterr().out
    assert "vit_l   SAM ViT-L, 1024 px, Apache-2.0; not on this machine, 1250 MB" in shown
    assert main(["models", "list", "--json", *folders]) == 0
    listed = [from_wire(ModelInfo, value) for value in json.loads(capsys.readouterr().out)]
    assert [model.name for model in listed] == list(registry.cards())


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make ``tiny`` a model that has to be fetched, and return its file."""
    card, path = write_tiny(tmp_path / "original")
    monkeypatch.setattr(registry, "cards", lambda: {"tiny": card})
    return path


def test_models_import(offered: Path, folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "import", "tiny", str(offered), *folders]) == 0
    placed = Path(folders[1]) / "tiny.safetensors"
    assert capsys.readouterr().out == f"SamTune tiny: {placed}\n"
    assert placed.read_bytes() == offered.read_bytes()
    assert main(["models", "list", *folders]) == 0
    assert f"here: {placed}" in capsys.readouterr().out


def test_models_download(offered: Path, folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Plan(offered.read_bytes())) as url:
        mirror = url.removesuffix("/file")
        assert main(["models", "download", "tiny", "--yes", "--mirror", mirror, *folders]) == 0
    assert (Path(folders[1]) / "tiny.safetensors").read_bytes() == offered.read_bytes()
    assert capsys.readouterr().err == ""


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("Yes\n", 0), ("n\n", 1), ("\n", 1), ("", 1)])
def test_downloads_ask_first(
    answer: str,
    status: int,
    offered: Path,
    folders: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", _Terminal(answer))
    plan = Plan(offered.read_bytes())
    with serving(plan) as url:
        arguments = ["models", "download", "tiny", "--mirror", url.removesuffix("/file"), *folders]
        assert main(arguments) == status
    assert "from 127.0.0.1? [y/N]" in capsys.readouterr().err
    assert len(plan.seen) == (1 if status == 0 else 0)


def test_downloads_take_the_environments_proxy(
    offered: Path, folders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(offered.read_bytes())
    with serving(plan) as url:
        monkeypatch.setenv("http_proxy", url.removesuffix("/file"))
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        arguments = ["models", "download", "tiny", "--yes", *folders]
        assert main([*arguments, "--mirror", "http://models.example.org"]) == 0
        assert plan.seen[0][":line"].startswith("GET http://models.example.org/")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert main([*arguments, "--mirror", url.removesuffix("/file")]) == 0
        assert plan.seen[1][":line"].startswith("GET /tiny.safetensors")


def test_progress_shows_only_on_a_terminal() -> None:
    pipe = io.StringIO()
    progress = console.ConsoleProgress(pipe)
    progress.report(0.5, "Working")
    progress.close()
    progress.check()
    assert pipe.getvalue() == ""
    terminal = _Terminal()
    progress = console.ConsoleProgress(terminal)
    progress.report(0.5, "Working hard")
    progress.report(0.6, "too soon after the last")
    progress.report(1.0, "Done")
    progress.close()
    assert terminal.getvalue() == f"\rWorking hard (50%)\r{'Done (100%)':<18}\r{'':<11}\r"


def test_info_warns_of_a_store_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--models-dir", str(tmp_path / "models"), "--store-dir", str(tmp_path)]
    (tmp_path / "mine.txt").write_text("")
    assert main(["info", *arguments]) == 0
    assert re.search(r"^warning +.*holds other files", capsys.readouterr().out, re.MULTILINE)
    assert main(["info", "--json", *arguments]) == 0
    (warning,) = json.loads(capsys.readouterr().out)["engine"]["warnings"]
    assert "Choose an empty folder" in warning
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt"], "looking changes nothing"


def test_errors_are_told_without_logins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = "/vsicurl/http://user:hush@127.0.0.1:9/a.tif?sig=hush"
    assert (
        main(["--verbose", "segment", uri, "--point", "0", "0", "-o", str(tmp_path / "o.gpkg"), "--device", "cpu"]) == 1
    )
    said = capsys.readouterr()
    assert "127.0.0.1" in said.err
    assert "hush" not in said.err + said.out
