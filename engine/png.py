"""Writing small PNG pictures with the standard library: one picture per crop does not justify a dependency."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """Write a picture as PNG.

    Args:
        picture: (H, W, 4) uint8 RGBA.

    Returns:
        The file's content.

    Raises:
        ValueError: the array is of another shape or type.
    """
    if picture.ndim != 3 or picture.shape[2] != 4 or picture.dtype != np.uint8:
        raise ValueError(f"picture must be (H, W, 4) uint8, not {picture.shape} {picture.dtype}")
    height, width = picture.shape[:2]
    rows = np.zeros((height, 1 + 4 * width), np.uint8)  # each row starts with its filter's number: 0 is none
    rows[:, 1:] = picture.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def thumbnail(picture: NDArray[np.uint8], valid: NDArray[np.bool_], side: int) -> NDArray[np.uint8]:
    """Shrink a picture by averaging; never enlarge it.

    Args:
        picture: (S, S, 3) uint8 RGB.
        valid: (S, S) bool; what is not valid becomes transparent.
        side: wanted side, pixels; at least 1.

    Returns:
        (n, n, 4) uint8 RGBA, n is the smaller of S and side.
    """
    size = len(picture)
    side = min(side, size)
    starts = np.arange(side) * size // side
    weights = valid.astype(np.float32)
    total = _sums(np.dstack([picture * weights[..., None], weights]), starts)
    count = np.diff(np.append(starts, size))
    colour = total[..., :3] / np.maximum(total[..., 3:], 1e-9)
    alpha = 255.0 * total[..., 3:] / (count[:, None] * count[None, :])[..., None]
    return np.rint(np.concatenate([colour, alpha], axis=2)).astype(np.uint8)


def _sums(values: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = np.add.reduceat(values, starts, axis=0)
    sums: NDArray[np.float32] = np.add.reduceat(rows, starts, axis=1)
    return sums
