"""The set-up scripts: which apt source is derived for backports, and that one place holds the version."""

from __future__ import annotations

import configparser
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

DEB822 = """\
Types: deb deb-src
# a remark
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def derive(etc: Path) -> tuple[int, list[str]]:
    done = subprocess.run(
        ["bash", str(ROOT / ".ci" / "setup-debian"), "--backports", str(etc), "bookworm"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_deb822_keeps_mirror_and_key(etc: Path) -> None:
    (etc / "sources.list.d" / "debian.sources").write_text(DEB822)
    assert derive(etc) == (
        0,
        [
            "samtune-backports.sources",
            "Types: deb",
            "URIs: http://mirror.example/debian",
            "Suites: bookworm-backports",
            "Components: main",
            "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg",
        ],
    )


def test_deb822_key_inside_the_entry_is_kept(etc: Path) -> None:
    entry = DEB822.partition("\n\n")[0].replace(
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg",
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc",
    )
    (etc / "sources.list.d" / "debian.sources").write_text(entry)
    status, lines = derive(etc)
    assert status == 0
    assert lines[-4:] == ["Signed-By:", " -----BEGIN PGP PUBLIC KEY BLOCK-----", " .", " abc"]


def test_other_vendors_and_disabled_entries_are_passed_over(etc: Path) -> None:
    (etc / "sources.list.d" / "a.sources").write_text(
        "Types: deb\nURIs: https://v.example\nSuites: nodistro\nComponents: main\n"
    )
    (etc / "sources.list.d" / "b.sources").write_text(
        "Enabled: no\n" + DEB822.partition("\n\n")[0].replace("mirror", "off")
    )
    (etc / "sources.list.d" / "c.sources").write_text(DEB822)
    assert "URIs: http://mirror.example/debian" in derive(etc)[1]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deb http://m.example/debian bookworm main", "deb http://m.example/debian bookworm-backports main"),
        (
            "deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] http://m.example/debian bookworm main non-free",
            "deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] http://m.example/debian bookworm-backports main",
        ),
    ],
)
def test_one_line_source_keeps_options(etc: Path, line: str, expected: str) -> None:
    text = f"# deb http://old.example/debian bookworm main\ndeb-src http://m.example/debian bookworm main\n{line}\n"
    (etc / "sources.list").write_text(text)
    assert derive(etc) == (0, ["samtune-backports.list", expected])


def test_no_debian_source_is_an_error(etc: Path) -> None:
    (etc / "sources.list").write_text("deb http://m.example/debian trixie main\n")
    assert derive(etc)[0] != 0


SCRIPTS = [file for file in sorted((ROOT / ".ci").iterdir()) if file.suffix != ".txt"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script: Path) -> None:
    assert script.read_text().startswith("#!/usr/bin/env bash\n")
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def pins(*names: str) -> dict[str, str]:
    lines = "\n".join((ROOT / name).read_text() for name in names).splitlines()
    return dict(
        re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups() for line in lines if line and not re.match(r"[#-]", line)
    )


def test_every_requirement_is_pinned_and_only_once() -> None:
    files = ("engine/requirements.txt", "engine/requirements-train.txt", ".ci/requirements-dev.txt")
    assert sum(len(pins(name)) for name in files) == len(pins(*files))


def test_pins_satisfy_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = pins("engine/requirements.txt", "engine/requirements-train.txt")
    wanted = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    for requirement in wanted:
        name, operator, version = re.fullmatch(r"([\w-]+)(>=|==)([\d.]+)", requirement).groups()
        have = tuple(int(part) for part in pinned[name].split("."))
        want = tuple(int(part) for part in version.split("."))
        assert have >= want if operator == ">=" else have[: len(want)] == want, requirement


def test_every_package_folder_is_in_the_distribution() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {file.parent for part in ("engine", "models") for file in (ROOT / part).rglob("*.py")}
    found = {".".join(["samtune", *folder.relative_to(ROOT).parts]) for folder in folders}
    assert found | {"samtune", "samtune.plugin"} == listed


def test_the_installed_distribution_has_the_version_of_the_metadata() -> None:
    import importlib.metadata

    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read(ROOT / "metadata.txt", encoding="utf-8")
    assert importlib.metadata.version("samtune") == metadata["general"]["version"]
