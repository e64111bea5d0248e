"""Is a weight file the one its card names? Standard library only, so that listing and downloading need no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import WeightsError

if TYPE_CHECKING:
    from .card import ModelCard

_CHUNK = 4 * 1024 * 1024


def sha256_of(path: Path, check: Callable[[], None] | None = None) -> str:
    """Return the SHA-256 of a file, hexadecimal.

    Args:
        path: the file.
        check: called between pieces of a few megabytes; may raise to stop.

    Raises:
        WeightsError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while piece := stream.read(_CHUNK):
                digest.update(piece)
                if check is not None:
                    check()
    except OSError as error:
        raise WeightsError(f"The model file {path.name} cannot be read.", f"{path}: {error}") from error
    return digest.hexdigest()


def verify(card: ModelCard, path: Path, check: Callable[[], None] | None = None) -> str:
    """Check that a file is the one its card names.

    Args:
        card: of the model; one without a hash accepts every file.
        path: the file.
        check: as for :func:`sha256_of`.

    Returns:
        The file's SHA-256.

    Raises:
        WeightsError: it is another file, a damaged one, or cannot be read.
    """
    found = sha256_of(path, check)
    if card.sha256 and found != card.sha256:
        size = path.stat().st_size
        longer_or_shorter = f"it has {size} bytes instead of {card.size_bytes}"
        reason = longer_or_shorter if size != card.size_bytes else "its content differs"
        raise WeightsError(
            f"{path.name} is not the published file of {card.title}: {reason}. Delete it and download or import it "
            "again.",
            f"{path}: SHA-256 {found}, expected {card.sha256}",
        )
    return found
