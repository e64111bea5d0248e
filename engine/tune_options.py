"""From the words of a command line to methods and their settings: ``lora``, ``late-lora``, ``lora.rank=8``."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ..models.peft.contract import MethodConfig, TuningError
from ..models.peft.lora import LoraConfig
from ..models.peft.registry import METHODS
from .tuning.settings import Index, Schedule

SettingsT = TypeVar("SettingsT")

SCHEDULE = "schedule"
"""What ``--set schedule.rate=1e-4`` begins with."""

PRESETS: Mapping[str, MethodConfig] = {
    "late_lora": LoraConfig(start=0.5),
    "wide_lora": LoraConfig(rank=8, alpha=8.0),
}
"""Names for methods with certain settings."""

HEAD = "head"
"""Named as a method: the task's own head, which is tuned in any case; by itself, nothing else is."""

_TRUE, _FALSE = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})


def method_names() -> list[str]:
    """Return what can be given as a method, presets last."""
    return [*METHODS, *(name.replace("_", "-") for name in PRESETS), HEAD]


def methods_from(names: str, settings: Sequence[str]) -> tuple[MethodConfig, ...]:
    """Return the configurations of methods.

    Args:
        names: separated by commas; ``-`` and ``_`` are the same.
        settings: ``METHOD.KEY=VALUE``; those of ``schedule`` are left to :func:`schedule_from`.

    Raises:
        TuningError: there is no such method or setting, or a value cannot be used.
    """
    chosen_names = [part.strip() for part in names.split(",") if part.strip()]
    found = {_key(name): _method(name) for name in chosen_names if _key(name) != HEAD}
    if not chosen_names:
        raise TuningError(f"Name at least one method. There are: {', '.join(method_names())}.")
    for text in settings:
        owner, key, value = _split(text)
        if owner == SCHEDULE:
            continue
        chosen = [name for name, config in found.items() if owner in {name, _key(config.method)}]
        if not chosen:
            raise TuningError(f"--set {text}: the method {owner} is not among those chosen ({', '.join(found)}).")
        found[chosen[0]] = with_setting(found[chosen[0]], key, value, text)
    return tuple(found.values())


def words_of(methods: Sequence[MethodConfig], schedule: Schedule) -> tuple[str, list[str]]:
    """Return what would be typed for methods and a schedule: the reverse of the two functions around this one.

    Args:
        methods: none for the task's head alone.
        schedule: its steps are an option of their own.

    Returns:
        The names, and ``METHOD.KEY=VALUE`` for all that differs from the methods' and the schedule's defaults.
    """
    named = [(config.method, config, METHODS[config.method]()) for config in methods]
    told: list[tuple[str, Any, Any]] = [*named, (SCHEDULE, schedule, Schedule(steps=schedule.steps))]
    settings = [
        f"{name}.{item.name}={_typed(getattr(given, item.name))}"
        for name, given, usual in told
        for item in dataclasses.fields(given)
        if getattr(given, item.name) != getattr(usual, item.name)
    ]
    return ",".join(name for name, _, _ in named) or HEAD, settings


def _typed(value: object) -> str:
    if isinstance(value, tuple | frozenset):
        return ",".join(_typed(item) for item in value)
    if isinstance(value, enum.Enum):
        return value.name.lower()
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def schedule_from(schedule: Schedule, settings: Sequence[str]) -> Schedule:
    """Return a schedule with the settings that begin with ``schedule``.

    Args:
        schedule: to begin with.
        settings: ``METHOD.KEY=VALUE``; others are left alone.

    Raises:
        TuningError: there is no such setting, or its value cannot be used.
    """
    for text in settings:
        owner, key, value = _split(text)
        if owner == SCHEDULE:
            schedule = with_setting(schedule, key, value, text)
    return schedule


def index_from(text: str) -> Index:
    """Return a normalised difference of two bands from ``NAME=A,B``.

    Raises:
        TuningError: it is written otherwise.
    """
    name, _, bands = text.partition("=")
    numbers = bands.split(",")
    if not name or len(numbers) != 2 or not all(number.strip().isdigit() for number in numbers):
        raise TuningError(f"--index {text} should look like ndvi=4,3: a name, and two band numbers.")
    return Index(name.strip(), int(numbers[0]), int(numbers[1]))


def with_setting(settings: SettingsT, key: str, value: str, text: str) -> SettingsT:
    """Return settings (a frozen dataclass) with one of them changed.

    Args:
        settings: to begin with.
        key: name of the setting.
        value: as typed: numbers, ``true`` and ``false``, names, lists separated by commas.
        text: the whole option, for the message.

    Raises:
        TuningError: there is no such setting, or the value cannot be used.
    """
    hints = typing.get_type_hints(type(settings))
    known = [item.name for item in dataclasses.fields(typing.cast("Any", settings))]
    if key not in known:
        raise TuningError(f"--set {text}: there is no setting {key!r}. There are: {', '.join(known) or 'none'}.")
    try:
        return dataclasses.replace(typing.cast("Any", settings), **{key: _parsed(hints[key], value)})
    except (ValueError, TypeError) as error:
        raise TuningError(f"--set {text}: {error}.") from error


def _method(name: str) -> MethodConfig:
    key = _key(name)
    if key in PRESETS:
        return PRESETS[key]
    for method, config in METHODS.items():
        if _key(method) == key:
            return config()
    raise TuningError(f"There is no tuning method {name!r}. There are: {', '.join(method_names())}.")


def _key(name: str) -> str:
    return name.strip().lower().replace("-", "_")


def _split(text: str) -> tuple[str, str, str]:
    left, equals, value = text.partition("=")
    owner, dot, key = left.partition(".")
    if not equals or not dot:
        raise TuningError(f"--set {text} should look like lora.rank=8: a method, a setting and its value.")
    return _key(owner), key.strip(), value.strip()


def _parsed(hint: Any, text: str) -> object:  # noqa: ANN401 - whatever type the field has
    """Read a value of a field's type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if text.lower() in {"none", ""}:
            return None
        return _parsed(next(argument for argument in arguments if argument is not type(None)), text)
    if origin in (tuple, frozenset):
        return origin(_parsed(arguments[0], part.strip()) for part in text.split(",") if part.strip())
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _member(hint, text)
    if hint is bool:
        if text.lower() not in _TRUE | _FALSE:
            raise ValueError(f"{text!r} is neither true nor false")
        return text.lower() in _TRUE
    return hint(text)


def _member(kind: type[enum.Enum], text: str) -> enum.Enum:
    for member in kind:
        if text.lower() in {member.name.lower(), str(member.value).lower()}:
            return member
    raise ValueError(f"{text!r} is none of {', '.join(member.name.lower() for member in kind)}")
