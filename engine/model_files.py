"""The weight files on this machine: where they lie, which were checked, and taking in one that the user has."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..models.errors import ModelMissingError, WeightsError
from ..models.hashing import sha256_of, verify
from ..models.registry import WEIGHTS_DIR
from .downloads import require_space

if TYPE_CHECKING:
    from ..models.card import ModelCard
    from .progress import Progress

_CHUNK = 4 * 1024 * 1024
_LEDGER = "verified.json"
_log = logging.getLogger(__name__)


class ModelFiles:
    """The folder of downloaded and imported weight files, and the shipped ones beside it.

    A small ledger in the folder remembers the hash of each file that was checked, with size and time of change, so that
    gigabytes are not hashed at every start. For a model whose card has no hash it is the pin: the file must stay as it
    is.
    """

    def __init__(self, folder: Path, shipped: Path = WEIGHTS_DIR) -> None:
        """Point at the folders.

        Args:
            folder: of downloaded and imported files; need not exist.
            shipped: of the files that come with the plugin.
        """
        self.folder = folder
        self._shipped = shipped

    def path(self, card: ModelCard) -> Path:
        """Return where the card's file lies, or would.

        Args:
            card: of the model.
        """
        return (self._shipped if card.shipped else self.folder) / card.file_name

    def present(self, card: ModelCard) -> bool:
        """Say whether the card's file is here, in full length.

        Args:
            card: of the model.
        """
        path = self.path(card)
        try:
            return path.is_file() and card.size_bytes in {0, path.stat().st_size}
        except OSError as error:
            _log.warning("%s cannot be looked at: %s", path, error)
            return False

    def verified(self, card: ModelCard, progress: Progress) -> ModelCard:
        """Check the card's file, reading it only if it changed since the last time.

        Args:
            card: of the model.
            progress: may stop the check.

        Returns:
            The card, its hash filled in.

        Raises:
            ModelMissingError: the file is not here.
            WeightsError: it is not the one that the card (or the pin) names.
            CancelledByUser: from ``progress.check``.
        """
        path = self.path(card)
        if not path.is_file():
            raise self._missing(card)
        if card.shipped:  # small, in a folder that may be read-only
            return replace(card, sha256=verify(card, path, progress.check))
        entry = self._ledger().get(card.file_name, {})
        pinned = replace(card, sha256=card.sha256 or str(entry.get("sha256", "")))
        if entry == _entry(path, pinned.sha256):
            return pinned
        progress.report(-1.0, f"Checking {card.title}")
        found = replace(card, sha256=verify(pinned, path, progress.check))
        try:
            self.record(found)
        except OSError as error:  # a folder shared by many may be read-only: the file is then checked at every start
            _log.warning("%s was checked, but %s takes no note of it: %s", path, self.folder, error)
        return found

    def record(self, card: ModelCard) -> None:
        """Note that the card's file was checked and has the card's hash.

        Args:
            card: with its hash.

        Raises:
            OSError: the folder cannot be written to.
        """
        ledger = self._ledger()
        ledger[card.file_name] = _entry(self.path(card), card.sha256)
        temporary = self.folder / f".{_LEDGER}.{os.getpid()}"
        temporary.write_text(json.dumps(ledger, indent=2, sort_keys=True), encoding="utf-8")
        temporary.replace(self.folder / _LEDGER)

    def take(self, card: ModelCard, source: Path, progress: Progress) -> ModelCard:
        """Copy a file that the user has into the folder, after checking that it is the right one.

        Args:
            card: of the model that it should be.
            source: the user's file; stays as it is.
            progress: told the fraction; may stop the work, which leaves nothing behind.

        Returns:
            The card, its hash filled in.

        Raises:
            ModelMissingError: there is no such file.
            WeightsError: it is not the card's file, or cannot be copied.
            DownloadError: the disk is too full.
            CancelledByUser: from ``progress.check``.
        """
        if card.shipped:
            raise WeightsError(f"{card.title} comes with the plugin; it cannot be replaced by another file.")
        if not source.is_file():
            raise ModelMissingError(f"There is no file {source}. Choose the weight file of {card.title}.")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return self._take(card, source, progress)
        except OSError as error:
            raise WeightsError(
                f"{source.name} cannot be copied to {self.folder}: {error.strerror or error}. Choose another "
                "folder for models in SamTune's settings.",
                repr(error),
            ) from error

    def _take(self, card: ModelCard, source: Path, progress: Progress) -> ModelCard:
        target = self.path(card)
        if target.exists() and target.samefile(source):
            found = self._checked(card, target, progress)
            self.record(found)
            return found
        require_space(self.folder, source.stat().st_size, card.title)
        temporary = self.folder / f".{os.getpid()}-{card.file_name}"
        try:
            _copy(source, temporary, card.title, progress)
            found = self._checked(card, temporary, progress)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        self.record(found)
        return found

    def _checked(self, card: ModelCard, path: Path, progress: Progress) -> ModelCard:
        progress.report(1.0, f"Checking {card.title}")
        if card.sha256:
            found = sha256_of(path, progress.check)
            if found != card.sha256:
                raise WeightsError(
                    f"That file is not the published file of {card.title} ({card.file_name}). Choose another, or the "
                    "model that it belongs to.",
                    f"{path}: {path.stat().st_size} bytes, SHA-256 {found}; expected {card.size_bytes} bytes, "
                    f"{card.sha256}",
                )
            return card
        from ..models.loading import check_layout, read_state  # torch: only where no hash tells

        check_layout(card, read_state(path))
        return replace(card, sha256=sha256_of(path, progress.check))

    def _missing(self, card: ModelCard) -> ModelMissingError:
        if card.shipped:
            return ModelMissingError(
                f"{card.title} is missing from the plugin's folder. Install SamTune again.", str(self.path(card))
            )
        return ModelMissingError(
            f"{card.title} is not on this machine. Download it ({card.size_bytes / 1e6:.0f} MB) or load it from file, "
            "or use tiny.",
            str(self.path(card)),
        )

    def _ledger(self) -> dict[str, dict[str, int | str]]:
        try:
            values: object = json.loads((self.folder / _LEDGER).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}  # none yet, or damaged: files are then checked once more
        if not isinstance(values, dict):
            return {}
        return {str(name): entry for name, entry in values.items() if isinstance(entry, dict)}


def _entry(path: Path, sha256: str) -> dict[str, int | str]:
    status = path.stat()
    return {"sha256": sha256, "size": status.st_size, "changed_ns": status.st_mtime_ns}


def _copy(source: Path, target: Path, title: str, progress: Progress) -> None:
    total = max(1, source.stat().st_size)
    with source.open("rb") as reader, target.open("wb") as writer:
        while piece := reader.read(_CHUNK):
            writer.write(piece)
            progress.report(writer.tell() / total, f"Copying {title}")
            progress.check()
        os.fsync(writer.fileno())
