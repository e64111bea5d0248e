"""Adapters to and from other programs, in the folder layout of the ``peft`` library."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ..models.errors import OutputError
from ..models.peft.adapter_card import AdapterCard, read_card
from ..models.peft.card_records import BaseRecord, HeadKind, InputRecord
from .about import version
from .adapters import AdapterService
from .model_service import ModelService
from .progress import Progress


def export_adapter(path: Path, models: ModelService, folder: Path, progress: Progress) -> tuple[str, ...]:
    """Write an adapter's LoRA or DoRA in the layout of the ``peft`` library.

    Args:
        path: of the adapter.
        models: gives the base that it was tuned on.
        folder: to write to; made if it is not there.
        progress: told what is being done.

    Returns:
        Sentences on what the layout cannot hold.

    Raises:
        TuningError: the adapter has neither, or does not fit its base.
        OutputError: the folder cannot be written to.
        ModelMissingError: the base is not on this machine.
    """
    from ..models.peft.peft_layout import write_peft  # torch

    base = models.get(read_card(path).base.name, progress)
    return write_peft(folder, AdapterService().get(str(path), base, progress).adapter)


def import_adapter(folder: Path, models: ModelService, model: str, output: Path, progress: Progress) -> AdapterCard:
    """Read a LoRA or DoRA in the layout of the ``peft`` library and write it as an adapter file.

    The layout says neither which weights it was tuned on nor on which bands; whoever imports it answers for that.

    Args:
        folder: to read.
        models: gives the base.
        model: name of the base.
        output: adapter file; replaced if it exists.
        progress: told what is being done.

    Returns:
        The card that was written.

    Raises:
        TuningError: it is no plain LoRA or DoRA of SAM's encoder, or does not fit the base.
        OutputError: the file cannot be written.
        ModelMissingError: the base is not on this machine.
    """
    from ..models.peft.adapter_file import save_adapter  # torch
    from ..models.peft.peft_layout import read_peft

    base = models.get(model, progress)
    adapter = read_peft(folder, base.network)
    card = AdapterCard(
        name=output.stem,
        base=BaseRecord(base.card.name, base.card.architecture, base.card.sha256, base.card.licence),
        head=HeadKind.PROMPTABLE,
        plugin_version=version(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        inputs=InputRecord(rgb=()),
        notes=(f"Imported from {folder.resolve().name}, in the layout of the peft library.",),
    )
    return save_adapter(output, adapter, card)


def refuse_full_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse to write into a folder that holds something already.

    Args:
        folder: to write to.
        overwrite: do it nevertheless.

    Raises:
        OutputError: as said, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file. Give the name of a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise OutputError(f"The folder {folder} is not empty. Use --overwrite to write into it, or choose another one.")
