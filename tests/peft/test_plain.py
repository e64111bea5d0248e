"""Dataclasses to JSON and back by their annotations."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samtune.models.errors import TuningError
from samtune.models.peft.lora import LoraConfig, Projection
from samtune.models.peft.plain import from_plain, record_from, to_plain
from samtune.models.peft.registry import config_from_json
from samtune.models.peft.sites import Layer


class Mode(enum.Enum):
    FAST = "fast"
    SLOW = "slow"


@dataclass(frozen=True)
class Inner:
    mode: Mode
    pair: tuple[int, float] = (0, 0.0)


@dataclass(frozen=True)
class Outer:
    inner: Inner
    many: tuple[Inner, ...] = ()
    kinds: frozenset[Mode] = frozenset()
    share: float = 0.5
    on: bool = False
    name: str | None = None
    table: dict[str, float] = field(default_factory=dict)


FULL = Outer(Inner(Mode.SLOW, (1, 2.0)), (Inner(Mode.FAST),), frozenset(Mode), 1.0, True, "x", {"a": 1.5})


def test_nested_records_come_back() -> None:
    values = json.loads(json.dumps(to_plain(FULL)))
    assert record_from(Outer, values) == FULL
    assert values["kinds"] == ["fast", "slow"]


def test_whole_numbers_serve_as_floats() -> None:
    found = record_from(Outer, {"inner": {"mode": "fast", "pair": [1, 2]}, "share": 1, "table": {"a": 2}})
    assert isinstance(found.share, float)
    assert isinstance(found.inner.pair[1], float)
    assert isinstance(found.table["a"], float)


@pytest.mark.parametrize(
    "change",
    [
        {"share": "much"},
        {"share": True},
        {"on": 1},
        {"name": 3},
        {"inner": None},
        {"inner": {}},
        {"inner": {"mode": "medium"}},
        {"inner": {"mode": "fast", "pair": [1]}},
        {"inner": {"mode": "fast", "pair": [1, 2, 3]}},
        {"inner": {"mode": "fast", "pair": [1.5, 2]}},
        {"many": {"mode": "fast"}},
        {"many": ["fast"]},
        {"kinds": "fast"},
        {"table": [1]},
        {"table": {"a": "b"}},
        {"other": 1},
    ],
)
def test_other_types_are_refused(change: dict[str, object]) -> None:
    values = to_plain(FULL)
    with pytest.raises((TypeError, ValueError)):
        record_from(Outer, {**values, **change})  # type: ignore[dict-item]


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(TypeError, match="no JSON object"):
        record_from(Outer, [])
    with pytest.raises(TypeError, match="no text"):
        to_plain({1: 2})


def test_any_json_stays_as_it_is() -> None:
    anything = None | bool | int | float | str | list[int] | dict[str, int]
    for value in (None, 1, "nan", [1, {"a": None}]):
        assert from_plain(anything, value) == value


shares = st.floats(0, 1, exclude_max=True)
configs = st.builds(
    LoraConfig,
    rank=st.integers(1, 64),
    alpha=st.floats(0.125, 64),
    layers=st.lists(st.sampled_from(Layer), unique=True).map(tuple),
    projections=st.lists(st.sampled_from(Projection), unique=True).map(tuple),
    start=shares,
    stop=st.floats(0, 1),
)


@given(configs)
def test_settings_come_back_through_text(config: LoraConfig) -> None:
    assert config_from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"method": 3},
        {"method": "lora2"},
        {"method": "lora", "rank": 4.0},
        {"method": "lora", "rank": True},
        {"method": "lora", "layers": "attn.qkv"},
        {"method": "lora", "layers": ["attn.k"]},
        {"method": "lora", "projections": [7]},
        {"method": "lora", "alpha": None},
        {"method": "bitfit", "rank": 4},
    ],
)
def test_settings_that_no_method_has(values: dict[str, object]) -> None:
    with pytest.raises(TuningError, match=r"unknown|cannot be used"):
        config_from_json(values)  # type: ignore[arg-type]
