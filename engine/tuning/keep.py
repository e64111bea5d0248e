"""Arrays at hand, the last used ones first, up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class Keep(Generic[_Value]):
    """Remembers what is costly to make again."""

    def __init__(self, size_of: Callable[[_Value], int], most: int) -> None:
        """Begin empty.

        Args:
            size_of: bytes of a value.
            most: bytes kept at most; the last one is kept whatever its size.
        """
        self._size_of, self._most = size_of, most
        self._values: OrderedDict[Hashable, _Value] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable, make: Callable[[], _Value]) -> _Value:
        """Return what is kept under a key, made first where it is not there."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = make()
        self._values[key] = value
        self._bytes += self._size_of(value)
        while self._bytes > self._most and len(self._values) > 1:
            _, old = self._values.popitem(last=False)
            self._bytes -= self._size_of(old)
        return value

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self._bytes = 0
