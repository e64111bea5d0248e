"""What is kept of a download that was cut off."""

from __future__ import annotations

from pathlib import Path

import pytest
from samtune.engine.partial_file import PartialFile

URL = "https://user:hush@host/model.pth"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.pth"


def names(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_a_part_is_known_again_by_its_address(target: Path) -> None:
    part = PartialFile(target)
    assert (part.size, part.validator(URL)) == (0, "")
    part.path.write_bytes(b"half")
    part.remember(URL, '"one"')
    again = PartialFile(target)
    assert (again.size, again.validator(URL)) == (4, '"one"')
    assert again.validator(URL + "x") == "", "bytes of another address are not continued"


def test_the_note_holds_no_login(target: Path) -> None:
    PartialFile(target).remember(URL, '"one"')
    assert all(b"hush" not in path.read_bytes() for path in target.parent.iterdir())


@pytest.mark.parametrize("note", [b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"validator": "x"}'])
def test_a_damaged_note_only_costs_the_part(target: Path, note: bytes) -> None:
    part = PartialFile(target)
    part.remember(URL, "x")
    (target.parent / "model.pth.part.json").write_bytes(note)
    assert part.validator(URL) == ""


def test_finishing_leaves_the_file_alone(target: Path) -> None:
    target.write_bytes(b"old")
    part = PartialFile(target)
    part.path.write_bytes(b"new")
    part.remember(URL, "x")
    part.become(target)
    assert target.read_bytes() == b"new"
    assert names(target) == ["model.pth"]


def test_discarding_leaves_nothing_and_may_be_done_twice(target: Path) -> None:
    part = PartialFile(target)
    part.path.write_bytes(b"half")
    part.remember(URL, "x")
    part.discard()
    part.discard()
    assert names(target) == []
    assert part.size == 0
