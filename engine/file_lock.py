"""One process at a time: a lock that the operating system lets go when its process ends, however that ends."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt

    def _lock(stream: BinaryIO) -> None:
        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(stream: BinaryIO) -> None:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


_TAKEN = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold a lock while the context lasts, if nobody else holds it.

    Args:
        path: of a file that exists only for this; it is made and stays, because deleting it would let two in at once.

    Yields:
        Whether the lock is ours. The caller decides what it means that it is not.
    """
    with path.open("ab") as stream:
        try:
            _lock(stream)
            ours = True
        except OSError as error:
            # Any other failure means that this file system knows no locks: then better without than not at all.
            ours = error.errno not in _TAKEN
        yield ours
