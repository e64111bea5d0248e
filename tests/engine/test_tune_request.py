"""Runs as the user wants them become settings, and settings become a command line that says the same."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from samtune.engine.commands import tune as command
from samtune.engine.device import DeviceChoice
from samtune.engine.tune_ladder import INSTANT, Situation, recommended, rung_of, rungs
from samtune.engine.tune_messages import LabelSource, TuneInputs, TuneParams, TuneTask
from samtune.engine.tune_options import methods_from, words_of
from samtune.engine.tune_request import chosen_rung, command_of, settings_of, situation_of
from samtune.engine.tuning.settings import Bands, Index, Schedule, Task, TuneSettings
from samtune.models.errors import TuningError
from samtune.models.peft.lora import LoraConfig, Projection
from samtune.models.peft.registry import METHODS
from samtune.models.peft.sites import Layer

CPU, GPU = DeviceChoice("cpu", "", 1), DeviceChoice("cuda", "", 1)
PARAMS = TuneParams(
    TuneInputs(
        ("/data/a b.tif", "/data/c.tif"),
        LabelSource("/data/drawn.gpkg", "objects", "class", "roof; really"),
        rgb=(4, 3, 2),
        extent="/data/extent.gpkg",
        level=0,
        model="tiny",
    ),
    TuneTask.PROMPTABLE,
    "/runs/one/adapter.safetensors",
    "/runs/one",
    notes='-- it\'s "mine"',
    seed=7,
)


def parsed(line: str, device: DeviceChoice = CPU) -> TuneSettings:
    words = shlex.split(line)
    assert words[:2] == ["samtune", "tune"]
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return command._settings(parser.parse_args(words[1:]), device)


def assert_repeats(settings: TuneSettings) -> None:
    found = parsed(command_of(settings))
    assert replace(found, command="") == replace(settings, command="")


@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize("task", list(TuneTask))
@pytest.mark.parametrize("objects", [1, 10, 30, 100])
def test_every_recommended_run_is_repeated_by_its_command(objects: int, task: TuneTask, device: DeviceChoice) -> None:
    for inputs in (
        PARAMS.inputs,
        replace(PARAMS.inputs, further=(5, 6)),
        replace(PARAMS.inputs, second="/data/height.tif"),
    ):
        params = replace(PARAMS, task=task, inputs=inputs)
        rung = chosen_rung(params, situation_of(params, objects, device))
        settings = settings_of(params, rung)
        assert settings.schedule == rung.schedule
        assert settings.command.startswith("samtune tune")
        assert_repeats(settings)


def test_settings_that_are_no_rung_are_repeated_too() -> None:
    params = replace(
        PARAMS,
        methods=("lora", "decoder"),
        options=("lora.layers=qkv,lin1", "lora.projections=k", "schedule.rate=3e-05", "schedule.batch=3"),
        steps=77,
        keep_general=True,
        previous="/data/before.safetensors",
        hold_out=0.35,
    )
    assert chosen_rung(params, situation_of(params, 3, CPU)) is None
    settings = settings_of(params, None)
    assert settings.methods[0] == LoraConfig(layers=(Layer.QKV, Layer.LIN1), projections=(Projection.K,))
    assert settings.schedule == Schedule(steps=77, batch=3, rate=3e-5)
    assert_repeats(settings)
    assert_repeats(replace(settings, bands=Bands.ALL, indices=(Index("ndvi", 4, 3),), amp=False, least=9))
    assert_repeats(replace(settings, labels=replace(settings.labels, where="kind = 'roof'"), task=Task.PROMPTABLE))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_setting_of_a_method_can_be_typed(name: str) -> None:
    config = METHODS[name]()
    assert words_of([config], Schedule()) == (name, [])
    values = {field: _other(value) for field, value in vars(config).items()}
    changed = replace(config, **values)
    names, typed = words_of([changed], Schedule())
    assert methods_from(names, typed) == (changed,)


def _other(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 + 1e-7
    return value


def test_a_rung_is_recognised_by_its_methods() -> None:
    given = Situation(10)
    for rung in rungs(given):
        assert rung_of(rung.names, given) == rung
    assert rung_of(("decoder", "norm"), given) is None
    assert recommended(Situation(2)).name == INSTANT
    chosen = replace(PARAMS, methods=("mask-mix",))
    found = settings_of(chosen, chosen_rung(chosen, situation_of(chosen, 10, CPU)))
    assert found.schedule.steps == rungs(given)[0].schedule.steps


def test_further_bands_and_the_second_raster_make_their_rungs_possible() -> None:
    able = {rung.name: rung.possible for rung in rungs(Situation(10, bands=True))}
    assert (able["bands"], able["streams"], able["decoder"]) == (True, False, True)


def test_options_of_methods_that_nobody_named_are_refused() -> None:
    params = replace(PARAMS, options=("lora.rank=8",))
    with pytest.raises(TuningError, match="Name the methods"):
        chosen_rung(params, situation_of(params, 10, CPU))
    only = replace(PARAMS, options=("schedule.batch=3",))
    rung = chosen_rung(only, situation_of(only, 10, CPU))
    assert settings_of(only, rung).schedule.batch == 3


def test_the_heads_own_name_tunes_nothing_else(tmp_path: Path) -> None:
    assert methods_from("head", ()) == ()
    assert [config.method for config in methods_from("late-lora,head", ())] == ["lora"]
    with pytest.raises(TuningError, match="at least one method"):
        settings_of(replace(PARAMS, methods=("head",)), None)
