"""The ladder of recommendations."""

from __future__ import annotations

import pytest
from samtune.engine.tune_ladder import Situation, recommended
from samtune.engine.tuning.settings import Task
from samtune.models.card import Architecture
from samtune.models.heads.instances import InstancesConfig
from samtune.models.loading import build
from samtune.models.peft.adapter import Adapter
from samtune.models.peft.lora import LoraConfig
from samtune.models.sam_modules import Sam


@pytest.fixture(scope="module")
def network() -> Sam:
    return build(Architecture.TINY)


def names(given: Situation) -> list[str]:
    return [config.method for config in recommended(given).methods]


@pytest.mark.parametrize(
    ("objects", "cheap", "expected"),
    [
        (1, True, ["mask_mix"]),
        (4, False, ["mask_mix"]),
        (5, True, ["decoder"]),
        (15, True, ["decoder"]),
        (16, True, ["lora", "decoder"]),
        (16, False, ["decoder"]),
        (50, True, ["lora", "decoder"]),
        (500, True, ["lora", "decoder"]),
        (500, False, ["decoder"]),
    ],
)
def test_what_is_tuned_grows_with_the_objects(objects: int, cheap: bool, expected: list[str]) -> None:
    assert names(Situation(objects, cheap_encoder=cheap)) == expected


def test_the_encoder_is_tuned_late_first_and_wholly_with_many() -> None:
    late, whole = (recommended(Situation(count)).methods[0] for count in (50, 51))
    assert isinstance(late, LoraConfig) and isinstance(whole, LoraConfig)
    assert (late.start, late.rank) == (0.5, 4)
    assert (whole.start, whole.rank) == (0.0, 8)


def test_other_tasks_and_other_data_have_methods_of_their_own() -> None:
    assert names(Situation(3, Task.SEMANTIC)) == ["semantic"]
    assert names(Situation(20, Task.SEMANTIC)) == ["semantic"], "on a processor what the encoder sees is kept"
    assert names(Situation(20, Task.SEMANTIC, processor=False)) == ["lora", "semantic"]
    assert names(Situation(3, Task.INSTANCES)) == [], "the task's head alone, which the trainer adds"
    assert names(Situation(30, Task.INSTANCES)) == []
    assert names(Situation(30, Task.INSTANCES, processor=False)) == ["lora"]
    assert names(Situation(3, bands=True)) == ["band_stem", "decoder"]
    assert names(Situation(3, bands=True, second=True)) == ["mm_adapter", "decoder"]
    assert names(Situation(30, Task.SEMANTIC, second=True)) == ["mm_adapter", "mfnet_head"]


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("more", [{}, {"bands": True}, {"second": True}])
@pytest.mark.parametrize("objects", [1, 10, 30, 100])
def test_every_recommendation_can_be_built(network: Sam, objects: int, task: Task, more: dict[str, bool]) -> None:
    rung = recommended(Situation(objects, task, **more))
    assert rung.reason.endswith(".")
    assert Adapter(network, rung.methods or (InstancesConfig(),)).parts
