"""Writing in one step: a file is there whole, or what was there before is."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from ..errors import OutputError


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> None:
    """Write a safetensors file.

    Args:
        path: of the file; one that is there is replaced.
        tensors: by name, anywhere.
        header: texts for it.

    Raises:
        OutputError: it cannot be written (folder missing or protected, disk full).
    """
    # A copy each for tensors that share memory, which the format does not know.
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    places = [tensor.untyped_storage().data_ptr() for tensor in whole.values()]
    if len(set(places)) < len(places):
        whole = {name: tensor.clone() for name, tensor in whole.items()}
    write_file(path, lambda unfinished: save_file(whole, unfinished, metadata=dict(header)))


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file.

    Args:
        path: of the file; one that is there is replaced.
        write: gets the path to write to.

    Raises:
        OutputError: as for :func:`write_tensors`.
    """
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}.part")
    try:
        # safetensors makes files that their owner alone can read; adapters are shared like any other file.
        unfinished.touch()
        mode = stat.S_IMODE(unfinished.stat().st_mode)
        write(unfinished)
        unfinished.chmod(mode)
        with unfinished.open("rb+") as stream:
            os.fsync(stream.fileno())
        unfinished.replace(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{path.name} could not be written. See that the folder exists, can be written to and has space left, or "
            "choose another one.",
            f"{path}: {error}",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
