"""Frozen dataclasses to plain JSON values and back, strictly, by their annotations. Standard library only."""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ..card import JsonValue

_Record = TypeVar("_Record")

_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
"""JSON has no such numbers, rasters have (nodata is often NaN)."""


def to_plain(value: object) -> JsonValue:
    """Return a value as JSON has it.

    Args:
        value: None, booleans, numbers, strings, enums, tuples, lists, frozen sets, mappings with string keys, and
            dataclasses of those. Floats that are not finite become strings.

    Raises:
        TypeError: there is something else in it.
    """
    if isinstance(value, enum.Enum):
        return to_plain(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_key(name): to_plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list | frozenset):
        items = [to_plain(item) for item in value]
        return sorted(items, key=str) if isinstance(value, frozenset) else items
    if isinstance(value, float) and not math.isfinite(value):
        return next(text for text, number in _NOT_FINITE.items() if str(number) == str(value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{value!r} cannot be written into an adapter's card")


def _key(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name {name!r} is no text")
    return name


def record_from(cls: type[_Record], values: object) -> _Record:
    """Rebuild a dataclass from :func:`to_plain`; fields that are missing get their defaults.

    Args:
        cls: the dataclass.
        values: JSON object.

    Raises:
        TypeError: a value is of another type than its field, or a field without default is missing.
        ValueError: a name is no field's, or a value cannot be.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"{values!r} is no JSON object")
    hints = typing.get_type_hints(cls)
    known = {item.name for item in dataclasses.fields(typing.cast(Any, cls))}
    unknown = sorted(str(name) for name in set(values) - known)
    if unknown:
        raise ValueError(f"there is no {unknown[0]!r}; known: {', '.join(sorted(known))}")
    return cls(**{name: from_plain(hints[name], value) for name, value in values.items()})


def from_plain(hint: Any, value: Any) -> Any:  # noqa: ANN401 - whatever type the field has
    """Turn a JSON value into what an annotation says.

    Args:
        hint: a type as ``typing.get_type_hints`` gives it; a union that has lists in it stands for any JSON.
        value: JSON.

    Raises:
        TypeError: the value is of another type.
        ValueError: it is none of an enum's, or the wrong number of items.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _of_union(arguments, value)
    if origin in (tuple, frozenset):
        return _of_items(origin, arguments, value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise TypeError(f"{value!r} is no JSON object")
        return {_key(name): from_plain(arguments[1], item) for name, item in value.items()}
    return _of_type(hint, value)


def _of_union(members: tuple[Any, ...], value: Any) -> Any:  # noqa: ANN401 - as above
    if any(typing.get_origin(member) is list for member in members):
        return value
    if value is None and type(None) in members:
        return None
    return from_plain(next(member for member in members if member is not type(None)), value)


def _of_items(origin: Any, members: tuple[Any, ...], value: Any) -> Any:  # noqa: ANN401 - as above
    if not isinstance(value, list | tuple):
        raise TypeError(f"{value!r} is no list")
    if origin is frozenset or members[-1] is Ellipsis:
        return origin(from_plain(members[0], item) for item in value)
    if len(members) != len(value):
        raise ValueError(f"{value!r} must have {len(members)} items")
    return tuple(from_plain(member, item) for member, item in zip(members, value, strict=True))


def _of_type(hint: Any, value: Any) -> Any:  # noqa: ANN401 - as above
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return record_from(hint, value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    if hint is float and isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool) and type(value) is not hint:
        raise TypeError(f"{value!r} is no {hint.__name__}")
    return value
