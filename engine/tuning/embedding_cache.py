"""Embeddings of a frozen encoder, made once: in memory up to a limit, in temporary files beyond it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from ...models.errors import StoreError

DEFAULT_BYTES = 2 * 1024**3

Embedding = NDArray[np.float16]


class EmbeddingCache:
    """Keeps every embedding that was made until it is closed. Use as a context.

    Attributes:
        made: how many were made.
        on_disk: bytes of temporary files.
    """

    def __init__(self, most_bytes: int = DEFAULT_BYTES, folder: Path | None = None) -> None:
        """Begin empty.

        Args:
            most_bytes: kept in memory.
            folder: where temporary files go; None for the system's folder.
        """
        self._most, self._parent = most_bytes, folder
        self._memory: dict[Hashable, Embedding] = {}
        self._files: dict[Hashable, Path] = {}
        self._folder: TemporaryDirectory[str] | None = None
        self._bytes = 0
        self.made = 0
        self.on_disk = 0

    def __enter__(self) -> EmbeddingCache:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Delete the temporary files."""
        self.close()

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._memory) + len(self._files)

    def close(self) -> None:
        """Forget everything and delete the temporary files."""
        self._memory.clear()
        self._files.clear()
        self._bytes = self.on_disk = 0
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def get(self, key: Hashable, make: Callable[[], Embedding]) -> Embedding:
        """Return the embedding under a key, made first where there is none yet.

        Args:
            key: of the crop and how it is laid.
            make: makes it, (C, h, w) float16.

        Raises:
            StoreError: the disk is full.
        """
        if key in self._memory:
            return self._memory[key]
        if key in self._files:
            stored: Embedding = np.load(self._files[key], allow_pickle=False)
            return stored
        value = make()
        self.made += 1
        if self._bytes + value.nbytes <= self._most:
            self._memory[key] = value
            self._bytes += value.nbytes
        else:
            self._write(key, value)
        return value

    def _write(self, key: Hashable, value: Embedding) -> None:
        try:
            if self._folder is None:
                if self._parent is not None:
                    self._parent.mkdir(parents=True, exist_ok=True)
                self._folder = TemporaryDirectory(prefix="embeddings-", dir=self._parent)
            path = Path(self._folder.name) / f"{len(self._files)}.npy"
            np.save(path, value, allow_pickle=False)
        except OSError as error:
            raise StoreError(
                "The disk has no room for the embeddings to train on. Make room, or use fewer objects.", str(error)
            ) from error
        self._files[key] = path
        self.on_disk += value.nbytes
