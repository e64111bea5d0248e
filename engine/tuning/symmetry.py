"""The eight ways to lay a square: turned by quarters, and mirrored. Overhead imagery has no up."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

COUNT = 8

_Scalar = TypeVar("_Scalar", bound=np.generic)


def lay(array: NDArray[_Scalar], way: int, axes: tuple[int, int]) -> NDArray[_Scalar]:
    """Lay an array.

    Args:
        array: of any shape, square in ``axes``.
        way: 0 to 7: quarters to turn by, plus 4 for mirrored first. 0 leaves it as it is.
        axes: rows and columns.

    Returns:
        A copy, contiguous.
    """
    turned: NDArray[Any] = np.flip(array, axes[1]) if way >= COUNT // 2 else array
    return np.ascontiguousarray(np.rot90(turned, way % (COUNT // 2), axes))
