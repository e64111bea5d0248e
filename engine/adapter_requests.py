"""What QGIS asks about adapter files: can this one be used here, put it into the folder of adapters, call it so."""

from __future__ import annotations

import filecmp
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..models.errors import OutputError, TuningError
from ..models.peft.adapter_card import AdapterCard, described, read_card
from .adapters import AdapterService, LoadedAdapter, refuse_without_prompts, warnings
from .further_inputs import FurtherInputs
from .messages import AdapterReport, AddAdapterParams, CheckAdapterParams, RasterInfo, RasterSpec
from .progress import Progress
from .tune_messages import DescribeAdapterParams, KeepAdapterParams

if TYPE_CHECKING:
    from ..models.promptable import PromptableModel

SUFFIX = ".safetensors"

_CHUNK = 1 << 22

_UNUSABLE = re.compile(r'[\\/:*?"<>|\x00-\x1f]+')
_LONGEST = 80
"""Letters of a file's name."""

OpenRaster = Callable[[RasterSpec, Progress], RasterInfo]


class Models(Protocol):
    """The part of ``ModelService`` that is used here."""

    def get(self, name: str, progress: Progress | None = None) -> PromptableModel:
        """Return a loaded model; raises ModelMissingError."""


class AdapterRequests:
    """Answers requests about adapter files. For one thread."""

    def __init__(self, models: Models, adapters: AdapterService, open_raster: OpenRaster) -> None:
        """Join the parts.

        Args:
            models: gives loaded models by name.
            adapters: loads adapters; what is checked here is loaded for the first click as well.
            open_raster: tells what a raster holds.
        """
        self._models = models
        self._adapters = adapters
        self._open_raster = open_raster

    def check(self, params: CheckAdapterParams, progress: Progress) -> AdapterReport:
        """Find out whether an adapter can be used on a raster.

        Args:
            params: the file, the model, the raster with its bands, and the level.
            progress: hears of the steps; may cancel.

        Returns:
            What speaks against it short of a refusal.

        Raises:
            TuningError: it cannot be used: missing, damaged, for another model, for class maps, or in need of bands or
                a second raster that are not there.
            RasterError: a raster cannot be read.
            ModelMissingError: the model's weights are not on this machine.
        """
        card = self._load(params.path, params.model, progress).card
        info = self._open_raster(params.raster, progress)
        FurtherInputs(card, info.spec.uri, params.second).close()
        return AdapterReport(card.name, params.path, warnings(card, info, params.level))

    def add(self, params: AddAdapterParams, progress: Progress) -> AdapterReport:
        """Copy an adapter into a folder after checking that it can be used with a model.

        A file of the same content that is there already is not copied again; one of other content keeps its name.

        Args:
            params: the file, the model, and the folder, which is made if it is not there.
            progress: hears of the steps; may cancel, which leaves nothing behind.

        Returns:
            The path of the copy.

        Raises:
            TuningError: it cannot be used with the model.
            OutputError: it cannot be copied.
            ModelMissingError: the model's weights are not on this machine.
            CancelledByUser: from ``progress.check``.
        """
        card = self._load(params.path, params.model, progress).card
        source, folder = Path(params.path).expanduser(), Path(params.folder).expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            target = _free_name(source, folder)
            if not target.exists():
                _copy(source, target, progress)
        except OSError as error:
            raise OutputError(
                f"{source.name} cannot be copied to {folder}: {error.strerror or error}. Make room there, or choose "
                "another folder for adapters in the settings.",
                repr(error),
            ) from error
        return AdapterReport(card.name, str(target))

    def keep(self, params: KeepAdapterParams, progress: Progress) -> AdapterReport:
        """Copy a finished run's adapter into a folder under a name, with the user's notes on its card.

        Args:
            params: the file, which stays; name and notes; the folder, which is made if it is not there; the model.
            progress: hears of the steps; may cancel.

        Returns:
            The path of the copy; a file that is there already is never replaced.

        Raises:
            TuningError: it cannot be used with the model, or the name is empty.
            OutputError: it cannot be copied.
            ModelMissingError: the model's weights are not on this machine.
            CancelledByUser: from ``progress.check``.
        """
        from ..models.peft.adapter_file import rewrite_card  # torch

        progress.check()
        loaded = self._adapters.get(params.path, self._models.get(params.model, progress), progress)
        card = described(loaded.card, _named(params.name), params.notes.strip())
        folder = Path(params.folder).expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"The folder {folder} cannot be made: {error.strerror or error}. Choose another folder for adapters in "
                "the settings.",
                repr(error),
            ) from error
        target = _new_name(folder, card.name)
        progress.check()
        rewrite_card(Path(params.path).expanduser(), target, card)
        return AdapterReport(card.name, str(target))

    def describe(self, params: DescribeAdapterParams, progress: Progress) -> AdapterReport:
        """Give an adapter another name and other notes, in place; what it computes stays as it is.

        Args:
            params: the file, the name, the notes.
            progress: may cancel.

        Raises:
            TuningError: the file is missing or no adapter, or the name is empty.
            OutputError: it cannot be written.
            CancelledByUser: from ``progress.check``.
        """
        progress.check()
        path = Path(params.path).expanduser()
        return AdapterReport(describe_adapter(path, params.name, params.notes).name, params.path)

    def _load(self, path: str, model: str, progress: Progress) -> LoadedAdapter:
        progress.check()
        loaded = self._adapters.get(path, self._models.get(model, progress), progress)
        refuse_without_prompts(loaded.card)
        return loaded


def describe_adapter(path: Path, name: str, notes: str) -> AdapterCard:
    """Rename an adapter in place and change the user's notes on its card.

    Args:
        path: of the file, which keeps its own name.
        name: for lists.
        notes: empty for none.

    Returns:
        The card as it is now.

    Raises:
        TuningError: the file is missing or no adapter, or the name is empty.
        OutputError: it cannot be written.
    """
    from ..models.peft.adapter_file import rewrite_card  # torch

    card = described(read_card(path), _named(name), notes.strip())
    rewrite_card(path, path, card)
    return card


def _named(name: str) -> str:
    if not name.strip():
        raise TuningError("The adapter needs a name. Write one.")
    return name.strip()


def _new_name(folder: Path, name: str) -> Path:
    """Return a file that is not there yet, named as far as files can be: without what separates folders or drives."""
    stem = _UNUSABLE.sub("_", name).strip(" .")[:_LONGEST] or "adapter"
    target, number = folder / f"{stem}{SUFFIX}", 1
    while target.exists():
        number += 1
        target = folder / f"{stem}-{number}{SUFFIX}"
    return target


def _free_name(source: Path, folder: Path) -> Path:
    """Return where a file goes: its name, unless a file of other content has that; then the name with a number."""
    target, number = folder / f"{source.stem}{SUFFIX}", 1
    while target.exists() and not filecmp.cmp(source, target, shallow=False):
        number += 1
        target = folder / f"{source.stem}-{number}{SUFFIX}"
    return target


def _copy(source: Path, target: Path, progress: Progress) -> None:
    temporary = target.with_name(f".{os.getpid()}-{target.name}.part")
    try:
        with source.open("rb") as reader, temporary.open("wb") as writer:
            size, done = max(1, source.stat().st_size), 0
            while chunk := reader.read(_CHUNK):
                progress.check()
                done += writer.write(chunk)
                progress.report(min(done / size, 1.0), f"Copying {source.name}")
            writer.flush()
            os.fsync(writer.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
