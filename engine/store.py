"""The embedding store: what the image encoder made of a crop, kept in memory and on disk.

Two engine processes may share the folder: files are written under another name and moved into place, verified on
reading, and evicted by the time of their last use. A file that anything else put into the folder is never touched.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

from safetensors import SafetensorError

from ..models.errors import StoreError
from .crops import Crop
from .messages import RasterSpec
from .paths import chosen
from .store_files import FORMAT, StoredCrop, age, claim, pack, remove, touch, unpack

_log = logging.getLogger(__name__)

MEMORY_BYTES = 256 * 1024**2
DISK_BYTES = 4 * 1024**3
RECOUNT_EVERY = 64
"""Files written between two counts of the folder, which another process may be filling too."""

KEEP_SHARE = 0.9
"""Share of the cap that eviction leaves, so that it does not run at every write."""

RETRY_SECONDS = 60.0
"""Time after a failed write until the next one is tried: space may have been freed."""

STALE_SECONDS = 3600.0
"""Age at which a half-written file belongs to a process that died."""

_OURS = re.compile(r"[0-9a-f]{64}\.safetensors")
_HALF = re.compile(r"writing-.*\.tmp")


@dataclass(frozen=True)
class EmbeddingKey:
    """Everything that an embedding depends on.

    Attributes:
        raster: the raster's fingerprint.
        bands: band numbers shown as RGB.
        stretch: (low, high) per band.
        crop: level, input size and window.
        model: SHA-256 of the base model's weights.
        encoder_adapter: SHA-256 of what an adapter changes in the image encoder; empty where it leaves that alone.
    """

    raster: str
    bands: tuple[int, ...]
    stretch: tuple[tuple[float, float], ...]
    crop: Crop
    model: str
    encoder_adapter: str = ""

    @classmethod
    def of(cls, fingerprint: str, spec: RasterSpec, crop: Crop, model: str, encoder_adapter: str = "") -> EmbeddingKey:
        """Make the key of a crop.

        Args:
            fingerprint: of the raster.
            spec: completed: bands and stretch are set.
            crop: of that raster.
            model: SHA-256 of the base model's weights.
            encoder_adapter: hash of what an adapter changes in embeddings; empty where it changes none.

        Returns:
            The key.
        """
        return cls(fingerprint, spec.bands, spec.stretch, crop, model, encoder_adapter)

    @property
    def digest(self) -> str:
        """64 hexadecimal digits; the file name."""
        return hashlib.sha256(repr((FORMAT, *astuple(self))).encode()).hexdigest()


class EmbeddingStore:
    """Embeddings by key: a memory tier before a disk tier. Safe to use from several threads and processes.

    Attributes:
        folder: of the disk tier; None for memory only.
        warning: why the disk tier is not used or not written to, in words for the user; empty while all is well.
    """

    def __init__(self, folder: Path | None, disk_bytes: int = DISK_BYTES, memory_bytes: int = MEMORY_BYTES) -> None:
        """Open or make a store.

        Args:
            folder: made if absent; None for memory only.
            disk_bytes: size cap of the disk tier; 0 switches it off.
            memory_bytes: size cap of the memory tier.

        Raises:
            StoreError: the folder holds other things, or cannot be made.
        """
        self.folder = folder if disk_bytes > 0 else None
        self.warning = ""
        self._retry_at = 0.0
        self._disk_bytes = disk_bytes
        self._memory_bytes = memory_bytes
        self._memory: OrderedDict[str, StoredCrop] = OrderedDict()
        self._in_memory = 0
        self._on_disk = 0
        self._writes = 0
        self._lock = threading.RLock()
        if self.folder is not None:
            claim(self.folder)

    def get(self, key: EmbeddingKey) -> tuple[StoredCrop, str] | None:
        """Look an embedding up.

        Args:
            key: of the crop.

        Returns:
            What is stored and where it came from (``memory`` or ``disk``), or None.
        """
        digest = key.digest
        with self._lock:
            found = self._memory.get(digest)
            if found is not None:
                self._memory.move_to_end(digest)
                return found, "memory"
        read = self._read(digest)
        if read is None:
            return None
        self._remember(digest, read)
        return read, "disk"

    def has(self, key: EmbeddingKey) -> bool:
        """Tell whether an embedding is there, without reading it.

        Args:
            key: of the crop.
        """
        digest = key.digest
        with self._lock:
            if digest in self._memory:
                return True
        return self.folder is not None and self._path(self.folder, digest).is_file()

    def put(self, key: EmbeddingKey, crop: StoredCrop) -> None:
        """Keep an embedding, in memory and on disk. A full disk is no error: see :attr:`warning`.

        Args:
            key: of the crop.
            crop: what to keep.
        """
        digest = key.digest
        self._remember(digest, crop)
        if self.folder is None or time.monotonic() < self._retry_at:
            return
        try:
            self._write(digest, crop)
        except OSError as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            if not self.warning:
                self.warning = (
                    f"Embeddings cannot be saved in {self.folder} (disk full?). SamTune goes on without; free some "
                    "space, or choose another folder in the settings."
                )
                _log.warning("%s %s", self.warning, error)
        else:
            self.warning = ""

    def disk_usage(self) -> int:
        """Return the size of the disk tier in bytes, counted now."""
        return sum(size for _, size, _ in self._files())

    def clear(self) -> int:
        """Remove every embedding, in memory and on disk.

        Returns:
            Bytes freed on disk.
        """
        with self._lock:
            self._memory.clear()
            self._in_memory = 0
            freed = 0
            for path, size, _ in list(self._files()):
                freed += size if remove(path) else 0
            self._on_disk = 0
            return freed

    def _remember(self, digest: str, crop: StoredCrop) -> None:
        with self._lock:
            old = self._memory.pop(digest, None)
            self._in_memory += crop.nbytes - (old.nbytes if old else 0)
            self._memory[digest] = crop
            while self._in_memory > self._memory_bytes and len(self._memory) > 1:
                self._in_memory -= self._memory.popitem(last=False)[1].nbytes

    def _path(self, folder: Path, digest: str) -> Path:
        return folder / digest[:2] / f"{digest}.safetensors"

    def _read(self, digest: str) -> StoredCrop | None:
        if self.folder is None:
            return None
        path = self._path(self.folder, digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("The stored embedding %s cannot be read: %s", path, error)
            return None
        try:
            crop = unpack(data, digest)
        except (SafetensorError, ValueError, KeyError) as error:
            _log.warning("The stored embedding %s is damaged and is made again: %s", path, error)
            remove(path)
            return None
        touch(path)
        return crop

    def _write(self, digest: str, crop: StoredCrop) -> None:
        folder = self.folder
        if folder is None:
            return
        path = self._path(folder, digest)
        data = pack(crop, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix="writing-", suffix=".tmp", dir=path.parent)
        half = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            half.replace(path)
        except BaseException:
            remove(half)
            raise
        with self._lock:
            self._on_disk += len(data)
            if self._writes % RECOUNT_EVERY == 0 or self._on_disk > self._disk_bytes:
                self._evict(folder, keep=path)
            self._writes += 1

    def _evict(self, folder: Path, keep: Path) -> None:
        """Count the folder; over the cap, remove what was used longest ago. The file just written stays."""
        files = sorted(self._files(), key=lambda item: item[2])
        self._on_disk = sum(size for _, size, _ in files)
        if self._on_disk <= self._disk_bytes:
            return
        for path, size, _ in files:
            if self._on_disk <= KEEP_SHARE * self._disk_bytes:
                break
            if path != keep and remove(path):
                self._on_disk -= size
        for path in folder.glob("??/writing-*.tmp"):
            if _HALF.fullmatch(path.name) and age(path) > STALE_SECONDS:
                remove(path)

    def _files(self) -> Iterator[tuple[Path, int, float]]:
        """Yield path, size and time of last use of every embedding on disk."""
        if self.folder is None:
            return
        for path in self.folder.glob("??/*.safetensors"):
            if not _OURS.fullmatch(path.name):
                continue
            try:
                status = path.stat()
            except OSError:
                continue  # another process has just evicted it
            yield path, status.st_size, status.st_mtime


def open_store(setting: str, default: Path, disk_bytes: int = DISK_BYTES) -> EmbeddingStore:
    """Open the store in the folder of the settings or in the default one.

    Args:
        setting: folder that the user chose; empty for the default.
        default: folder used then.
        disk_bytes: size cap of the disk tier; 0 switches it off.

    Returns:
        The store. Where the default folder is of no use it works in memory alone and has a warning.

    Raises:
        StoreError: the folder that the user chose cannot be used.
    """
    try:
        return EmbeddingStore(chosen(setting, default), disk_bytes)
    except StoreError as error:
        if setting:
            raise
        store = EmbeddingStore(None)
        store.warning = (
            f"{error.user_text} Until then each part of a raster is encoded anew after a restart of the engine."
        )
        _log.warning("%s %s", store.warning, error.details)
        return store
