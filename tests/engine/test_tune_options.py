"""Methods and settings as they are typed."""

from __future__ import annotations

import pytest
from samtune.engine.tune_options import index_from, method_names, methods_from, schedule_from
from samtune.engine.tuning.settings import Index, Schedule
from samtune.models.errors import TuningError
from samtune.models.peft.contract import MethodConfig
from samtune.models.peft.lora import LoraConfig, Projection
from samtune.models.peft.persam import MaskMixConfig
from samtune.models.peft.registry import METHODS
from samtune.models.peft.selective import DecoderConfig
from samtune.models.peft.sites import Layer


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_can_be_named(name: str) -> None:
    assert methods_from(name, ()) == (METHODS[name](),)
    assert methods_from(name.replace("_", "-").upper(), ()) == (METHODS[name](),)
    assert name in method_names()


def test_several_methods_keep_their_order_and_settings() -> None:
    found = methods_from("late-lora, decoder", ["lora.rank=8", "late-lora.alpha=16"])
    assert found == (LoraConfig(rank=8, alpha=16.0, start=0.5), DecoderConfig())
    assert methods_from("mask_mix", ()) == (MaskMixConfig(),)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("lora.rank=2", LoraConfig(rank=2)),
        ("lora.alpha=0.5", LoraConfig(alpha=0.5)),
        ("lora.layers=qkv,lin1", LoraConfig(layers=(Layer.QKV, Layer.LIN1))),
        ("lora.layers=attn.proj", LoraConfig(layers=(Layer.PROJ,))),
        ("lora.projections=q,K", LoraConfig(projections=(Projection.Q, Projection.K))),
        ("lora.projections=", LoraConfig(projections=())),
    ],
)
def test_values_take_the_type_of_their_setting(setting: str, expected: MethodConfig) -> None:
    assert methods_from("lora", [setting]) == (expected,)


@pytest.mark.parametrize(
    ("names", "settings", "words"),
    [
        ("", [], "at least one method"),
        ("lora,guess", [], "no tuning method 'guess'"),
        ("lora", ["decoder.rank=3"], "not among those chosen"),
        ("lora", ["lora.depth=3"], "no setting 'depth'"),
        ("lora", ["lora.rank=many"], "invalid literal"),
        ("lora", ["lora.layers=qkv,head"], "none of qkv, proj"),
        ("lora", ["rank=3"], "should look like"),
        ("lora", ["lora.rank"], "should look like"),
    ],
)
def test_what_is_wrong_is_said(names: str, settings: list[str], words: str) -> None:
    with pytest.raises(TuningError, match=words):
        methods_from(names, settings)


def test_the_schedule_is_set_apart() -> None:
    settings = ["lora.rank=2", "schedule.rate=1e-4", "schedule.objects=10", "schedule.prompts=none"]
    assert schedule_from(Schedule(steps=7), settings) == Schedule(steps=7, rate=1e-4, objects=10)
    assert methods_from("lora", settings) == (LoraConfig(rank=2),)
    with pytest.raises(TuningError, match="at least 1"):
        schedule_from(Schedule(), ["schedule.batch=0"])
    with pytest.raises(TuningError, match="no setting"):
        schedule_from(Schedule(), ["schedule.speed=fast"])


def test_indices() -> None:
    assert index_from("ndvi=4,3") == Index("ndvi", 4, 3)
    for text in ("ndvi", "ndvi=4", "=4,3", "ndvi=a,b"):
        with pytest.raises(TuningError, match="should look like"):
            index_from(text)
