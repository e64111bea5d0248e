"""The files of the embedding store: one safetensors file per crop, checksummed, in a folder with a marker."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from ..models.errors import StoreError

_log = logging.getLogger(__name__)

FORMAT = 1
"""Raised whenever what is stored, or under which key, changes: older files are then never found again, and evicted."""

MARKER = "samtune-embedding-store.json"
"""File that says a folder is ours; without it we neither write nor delete there."""


@dataclass(frozen=True)
class StoredCrop:
    """What is kept of a crop.

    Attributes:
        embedding: (256, h, w) float16 from the image encoder.
        valid: (S, S) bool, False for nodata and padding; None when all of it is valid.
    """

    embedding: NDArray[np.float16]
    valid: NDArray[np.bool_] | None = None

    @property
    def nbytes(self) -> int:
        """Memory taken."""
        return self.embedding.nbytes + (0 if self.valid is None else self.valid.nbytes)


def claim(folder: Path) -> None:
    """Make a folder ours.

    Args:
        folder: made if absent.

    Raises:
        StoreError: it holds other things, or cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        marker = folder / MARKER
        if marker.is_file():
            return
        if any(path.name != MARKER for path in folder.iterdir()):
            raise StoreError(f"{folder} holds other files. Choose an empty folder for the embedding store.")
        marker.write_text(
            json.dumps({"format": FORMAT, "about": "Embeddings of SamTune; may be deleted."}), encoding="utf-8"
        )
    except OSError as error:
        raise StoreError(
            f"The folder {folder} for the embedding store cannot be used. Choose another one in the settings.",
            str(error),
        ) from error


def problem(folder: Path) -> str:
    """Say why a folder cannot be the store's, without making or changing anything.

    Args:
        folder: need not exist.

    Returns:
        A sentence for the user; empty when :func:`claim` will probably succeed.
    """
    try:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            return f"The folder {folder} for the embedding store cannot be written to. Choose another one."
        if there == folder and not (folder / MARKER).is_file() and any(folder.iterdir()):
            return f"{folder} holds other files. Choose an empty folder for the embedding store."
    except OSError as error:
        return f"The folder {folder} for the embedding store cannot be used ({error.strerror}). Choose another one."
    return ""


def pack(crop: StoredCrop, digest: str) -> bytes:
    """Make a file's content.

    Args:
        crop: to be kept.
        digest: of its key.

    Returns:
        safetensors, with key and checksum in the header.
    """
    tensors: dict[str, NDArray[np.generic]] = {"embedding": np.ascontiguousarray(crop.embedding)}
    if crop.valid is not None:
        tensors["valid"] = np.packbits(crop.valid, axis=1)
    return save(tensors, metadata={"key": digest, "checksum": _checksum(tensors)})


def unpack(data: bytes, digest: str) -> StoredCrop:
    """Read a file's content.

    Args:
        data: of the file.
        digest: of the key that it should belong to.

    Returns:
        What was kept.

    Raises:
        ValueError: the file is damaged, or of another key; safetensors' own error and KeyError mean the same.
    """
    tensors = load(data)
    (length,) = struct.unpack("<Q", data[:8])
    facts = json.loads(data[8 : 8 + length])["__metadata__"]
    if facts["key"] != digest or facts["checksum"] != _checksum(tensors):
        raise ValueError("key or checksum differs")
    packed = tensors.get("valid")
    valid = None if packed is None else np.unpackbits(packed, axis=1).astype(bool)
    return StoredCrop(tensors["embedding"], valid)


def _checksum(tensors: dict[str, NDArray[np.generic]]) -> str:
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        total.update(f"{name}{tensors[name].shape}{tensors[name].dtype}".encode())
        total.update(tensors[name].tobytes())
    return total.hexdigest()


def touch(path: Path) -> None:
    """Note that a file was used now.

    Args:
        path: of the file; it may be gone.
    """
    try:
        os.utime(path)
    except OSError as error:
        _log.debug("The time of last use of %s cannot be noted: %s", path, error)


def age(path: Path) -> float:
    """Return the seconds since a file was last written or used; 0 if it is gone.

    Args:
        path: of the file.
    """
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def remove(path: Path) -> bool:
    """Remove a file of ours.

    Args:
        path: of the file.

    Returns:
        False when another process did so first, or is reading it (Windows).
    """
    try:
        path.unlink()
    except OSError as error:
        _log.debug("%s was not removed: %s", path, error)
        return False
    return True
