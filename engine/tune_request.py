"""From a run as the user wants it to settings, and from settings to the command line that does the same."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path

from ..models import registry
from ..models.peft.contract import TuningError
from .device import DeviceChoice, DeviceKind
from .tune_ladder import Rung, Situation, recommended, rung_of
from .tune_messages import TuneInputs, TuneParams
from .tune_options import SCHEDULE, methods_from, schedule_from, words_of
from .tuning.settings import Bands, Labels, Schedule, Task, TuneSettings


def settings_of(params: TuneParams, rung: Rung | None) -> TuneSettings:
    """Return the settings of a run.

    Args:
        params: as the user wants it.
        rung: what is taken where the user chose no methods, and whose schedule is taken; None: the usual schedule.

    Raises:
        TuningError: a method or an option cannot be used, or something is missing.
    """
    inputs = params.inputs
    methods = methods_from(",".join(params.methods or (() if rung is None else rung.names)), params.options)
    schedule = schedule_from(Schedule() if rung is None else rung.schedule, params.options)
    if params.steps:
        schedule = dataclasses.replace(schedule, steps=params.steps)
    found = TuneSettings(
        rasters=tuple(Path(raster) for raster in inputs.rasters),
        labels=labels_of(inputs),
        output=Path(params.output),
        methods=methods,
        task=Task(params.task.value),
        model=inputs.model,
        rgb=inputs.rgb,
        bands=inputs.further or Bands.RGB,
        second=Path(inputs.second) if inputs.second else None,
        extent=Path(inputs.extent) if inputs.extent else None,
        level=inputs.level,
        schedule=schedule,
        hold_out=params.hold_out,
        seed=params.seed,
        folder=Path(params.folder),
        notes=params.notes,
        keep_general=params.keep_general,
        previous=Path(params.previous) if params.previous else None,
    )
    return dataclasses.replace(found, command=command_of(found))


def labels_of(inputs: TuneInputs) -> Labels:
    """Return where the labels are."""
    given = inputs.labels
    return Labels(Path(given.path), given.layer, given.class_field, class_name=given.class_name)


def situation_of(params: TuneParams, objects: int, device: DeviceChoice) -> Situation:
    """Return what a recommendation depends on.

    Args:
        params: the run.
        objects: usable ones.
        device: that it is to run on.
    """
    inputs = params.inputs
    processor = device.name == DeviceKind.CPU.value
    return Situation(
        objects,
        Task(params.task.value),
        cheap_encoder=not processor or inputs.model == registry.DEFAULT_MODEL,
        bands=bool(inputs.further),
        second=bool(inputs.second),
        processor=processor,
    )


def chosen_rung(params: TuneParams, situation: Situation) -> Rung | None:
    """Return the rung that a run's methods are, the recommended one where none are named, None where they are no rung.

    Args:
        params: the run.
        situation: what the recommendation depends on.

    Raises:
        TuningError: there is no such method; or an option is of a method that nobody named.
    """
    if params.methods:
        return rung_of(params.methods, situation)
    if any(not text.startswith(f"{SCHEDULE}.") for text in params.options):
        raise TuningError("An option changes a method that is named. Name the methods, or leave the option out.")
    return recommended(situation)


def command_of(settings: TuneSettings) -> str:
    """Return the command line that does a run again, from its beginning and without asking.

    Args:
        settings: the run.
    """
    names, changed = words_of(settings.methods, settings.schedule)
    words = ["samtune", "tune", *(str(path) for path in settings.rasters), str(settings.labels.path)]
    words += [f"--output={settings.output}", *_data(settings)]
    words += [f"--head={settings.task.value}", f"--method={names}", *(f"--set={text}" for text in changed)]
    words += [f"--model={settings.model}", f"--steps={settings.schedule.steps}", f"--seed={settings.seed}"]
    words += _valued({"--previous": settings.previous, "--note": settings.notes, "--folder": settings.folder})
    words += ["--keep-general"] * settings.keep_general + ["--full-precision"] * (not settings.amp)
    return shlex.join([*words, "--no-estimate"])


def _data(settings: TuneSettings) -> list[str]:
    labels = settings.labels
    further = settings.bands if isinstance(settings.bands, tuple) else ()
    words = _valued(
        {
            "--class-field": labels.class_field,
            "--class": labels.class_name,
            "--layer": labels.layer,
            "--where": labels.where,
            "--extent": settings.extent,
            "--bands": ",".join(str(number) for number in settings.rgb),
            "--further": "all" if settings.bands is Bands.ALL else ",".join(str(number) for number in further),
            "--second": settings.second,
            "--level": settings.level,
        }
    )
    words += [f"--index={index.name}={index.first},{index.second}" for index in settings.indices]
    return [*words, f"--least={settings.least}", f"--hold-out={settings.hold_out}"]


def _valued(options: Mapping[str, object]) -> list[str]:
    """Return options as one word each, so that no value is taken for an option; those without a value are left out."""
    return [f"{name}={value}" for name, value in options.items() if value not in {None, ""}]
