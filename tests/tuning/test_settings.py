"""The settings of a run: refusals, and the way through JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from samtune.engine.tuning.settings import Bands, Index, Labels, Schedule, Task, TuneSettings
from samtune.models.peft.contract import TuningError
from samtune.models.peft.lora import LoraConfig, Projection
from samtune.models.peft.selective import DecoderConfig

SETTINGS = TuneSettings(
    rasters=(Path("a.tif"), Path("b.tif")),
    labels=Labels(Path("roofs.gpkg"), "roofs", "kind", "kind <> 'shed'"),
    output=Path("out") / "roofs.safetensors",
    methods=(DecoderConfig(), LoraConfig(rank=8, projections=(Projection.Q,), start=0.5)),
    bands=(4, 5),
    rgb=(4, 3, 2),
    indices=(Index("ndvi", 4, 3),),
    second=Path("height.tif"),
    extent=Path("extent.gpkg"),
    level=-1,
    schedule=Schedule(steps=7, rate=1e-3),
)


def test_settings_survive_json() -> None:
    text = json.dumps(SETTINGS.to_json())
    assert TuneSettings.from_json(json.loads(text)) == SETTINGS
    plain = replace(SETTINGS, bands=Bands.ALL, second=None, extent=None, level=None, task=Task.PROMPTABLE, indices=())
    assert TuneSettings.from_json(json.loads(json.dumps(plain.to_json()))) == plain


@pytest.mark.parametrize("missing", ["rasters", "labels", "methods", "output"])
def test_incomplete_settings_are_refused(missing: str) -> None:
    values = SETTINGS.to_json()
    del values[missing]
    with pytest.raises(TuningError, match="cannot be read"):
        TuneSettings.from_json(values)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rasters": ()}, "raster"),
        ({"methods": ()}, "method"),
        ({"hold_out": 0.7}, "held out"),
        ({"hold_out": -0.1}, "held out"),
    ],
)
def test_senseless_settings_are_refused(change: dict[str, object], text: str) -> None:
    with pytest.raises(TuningError, match=text):
        replace(SETTINGS, **change)


@pytest.mark.parametrize("change", [{"steps": 0}, {"batch": 0}, {"objects": -1}, {"rate": 0.0}, {"prompts": -2}])
def test_senseless_schedules_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(TuningError):
        replace(SETTINGS.schedule, **change)


def test_the_work_folder_lies_beside_the_output() -> None:
    assert SETTINGS.work_folder == Path("out") / "roofs.run"
    assert replace(SETTINGS, folder=Path("elsewhere")).work_folder == Path("elsewhere")


def test_bands_are_wanted_only_where_there_are_more_than_three() -> None:
    assert SETTINGS.wants_bands
    assert not replace(SETTINGS, bands=Bands.RGB, indices=()).wants_bands
    assert replace(SETTINGS, bands=Bands.RGB).wants_bands
