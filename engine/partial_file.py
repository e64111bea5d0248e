"""A download that is not finished: the bytes so far, and a note on which version of the server's file they are of."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path


class PartialFile:
    """``NAME.part`` and ``NAME.part.json`` beside the final ``NAME``.

    Attributes:
        path: of the bytes so far; may not exist.
    """

    def __init__(self, target: Path) -> None:
        """Point at the files of a download, of this run or an earlier one.

        Args:
            target: the final path.
        """
        self.path = target.with_name(target.name + ".part")
        self._note = target.with_name(target.name + ".part.json")

    @property
    def size(self) -> int:
        """Return how many bytes there are."""
        return self.path.stat().st_size if self.path.exists() else 0

    def discard(self) -> None:
        """Delete what there is."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def become(self, target: Path) -> None:
        """Give the bytes their final name, in one step.

        Args:
            target: the final path; a file there is replaced.
        """
        with self.path.open("rb+") as stream:
            os.fsync(stream.fileno())
        self.path.replace(target)
        self._note.unlink(missing_ok=True)

    def remember(self, url: str, validator: str) -> None:
        """Note which version the bytes are of.

        Args:
            url: where they come from.
            validator: the server's entity tag or date of the file; may be empty.
        """
        self._note.write_text(json.dumps({"source": _digest(url), "validator": validator}), encoding="utf-8")

    def validator(self, url: str) -> str:
        """Return what identifies the server's version; empty if unknown or if the bytes are of another address.

        Args:
            url: where the rest is to come from.
        """
        try:
            note: object = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ""
        if not isinstance(note, dict) or note.get("source") != _digest(url):
            return ""
        return str(note.get("validator", ""))


def _digest(url: str) -> str:
    """An address may hold a login, which has no business on the disk: its hash tells as well whether it is the same."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
