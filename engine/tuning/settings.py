"""What a tuning run depends on, as plain values that can be written down and read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ...models.card import JsonValue
from ...models.peft.contract import MethodConfig, Scope, TuningError
from ...models.peft.registry import config_from_json
from .symmetry import COUNT


class Task(StrEnum):
    """What the adapter is to do."""

    PROMPTABLE = "promptable"
    SEMANTIC = "semantic"
    INSTANCES = "instances"


class Bands(StrEnum):
    """Which bands the encoder is given besides the three it always sees."""

    RGB = "rgb"
    ALL = "all"


@dataclass(frozen=True)
class Labels:
    """Where the labelled polygons are.

    Attributes:
        path: any vector file that GDAL reads.
        layer: in it; empty for its only or first one.
        class_field: attribute with the class; empty when all polygons are of one class.
        where: only polygons for which this OGR attribute filter holds, such as ``kind = 'roof'``; empty for all.
        class_name: name of the class where there is no field; empty: the layer's name.
    """

    path: Path
    layer: str = ""
    class_field: str = ""
    where: str = ""
    class_name: str = ""


@dataclass(frozen=True)
class Index:
    """A normalised difference of two bands, (first - second) / (first + second), as a further band.

    Attributes:
        name: such as ``ndvi``.
        first: band number, from 1.
        second: band number, from 1.
    """

    name: str
    first: int
    second: int


@dataclass(frozen=True)
class Schedule:
    """How long and how hard to train.

    Attributes:
        steps: optimiser steps.
        batch: crops per step and process.
        accumulate: parts that a step's batch is computed in, one after the other, to save memory.
        objects: most objects of a crop in a step (promptable); None: 25 on a GPU, 5 on a processor.
        prompts: prompts of an object in a step, with the first (promptable); None: 8 on a GPU, 6 on a processor.
        rate: peak learning rate; None: by method and model, see :func:`.rates.default_rate`.
        warm_up: share of the steps in which the rate rises.
        decay: weight decay.
        clip: largest norm of the gradient.
        patience: end early after this many checks on the hold-out without a gain; 0: never.
        checks: how often the hold-out is measured during the run, at most.
        save_every: steps between checkpoints.
        ways: in how many of the eight ways crops are laid; with fewer, fewer embeddings are to be made.
    """

    steps: int = 200
    batch: int = 2
    accumulate: int = 1
    objects: int | None = None
    prompts: int | None = None
    rate: float | None = None
    warm_up: float = 0.1
    decay: float = 0.01
    clip: float = 1.0
    patience: int = 4
    checks: int = 8
    save_every: int = 50
    ways: int = COUNT

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            TuningError: a number is too small.
        """
        positive = {"steps": self.steps, "batch": self.batch, "accumulate": self.accumulate, "checks": self.checks}
        positive |= {"objects": self.objects or 1, "prompts": self.prompts or 1, "save_every": self.save_every}
        for name, value in positive.items():
            if value < 1:
                raise TuningError(f"The number of {name} must be at least 1, not {value}.")
        if not 1 <= self.ways <= COUNT:
            raise TuningError(f"The number of ways must be from 1 to {COUNT}, not {self.ways}.")
        if self.rate is not None and not self.rate > 0:
            raise TuningError(f"The learning rate must be above 0, not {self.rate}.")


def run_folder(adapter: Path) -> Path:
    """Return the folder of the run that made an adapter, where it was not put elsewhere."""
    return adapter.with_name(f"{adapter.stem}.run")


@dataclass(frozen=True)
class TuneSettings:
    """A tuning run.

    Attributes:
        rasters: one or several of the same kind.
        labels: the polygons.
        output: the adapter's file.
        methods: the tuning methods; a head's settings may be among them, else the task's default is added. A head may
            be all there is.
        task: what the adapter is to do.
        model: name of the base.
        rgb: one or three band numbers shown as red, green and blue; empty for the raster's default.
        bands: which bands are given besides, for methods that take bands.
        indices: further bands computed from two.
        second: a raster of another kind on the same ground (height, radar, ...), for methods with a second stream.
        extent: polygons within which everything is labelled; None: only the surroundings of each object are known.
        level: fixed level; None: by each object's size, as the plugin chooses it.
        schedule: how long and how hard.
        hold_out: share of the objects kept for measuring, in blocks of ground; 0 for none.
        least: objects of fewer raster pixels are left out.
        seed: of everything drawn.
        amp: compute in half precision where the hardware does.
        recompute: keep fewer activations and compute them again (slower, less memory); None: only when memory is short.
        folder: where the run's checkpoints and records go; None: beside the output, ``NAME.run``.
        command: the command line that started the run, for the records.
        notes: free text for the card.
        keep_general: distil from the base on unlabelled ground, so that other objects are outlined as well as before.
        previous: an adapter to go on with, protecting its task; None begins a separate one.
    """

    rasters: tuple[Path, ...]
    labels: Labels
    output: Path
    methods: tuple[MethodConfig, ...]
    task: Task = Task.PROMPTABLE
    model: str = "tiny"
    rgb: tuple[int, ...] = ()
    bands: Bands | tuple[int, ...] = Bands.RGB
    indices: tuple[Index, ...] = ()
    second: Path | None = None
    extent: Path | None = None
    level: int | None = None
    schedule: Schedule = Schedule()
    hold_out: float = 0.2
    least: int = 16
    seed: int = 0
    amp: bool = True
    recompute: bool | None = None
    folder: Path | None = None
    command: str = ""
    notes: str = ""
    keep_general: bool = False
    previous: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be a run.

        Raises:
            TuningError: a setting is missing or out of range.
        """
        if not self.rasters:
            raise TuningError("Name at least one raster to tune on.")
        if not self.methods and self.task is Task.PROMPTABLE:
            raise TuningError("Choose at least one method to tune with.")
        if not 0 <= self.hold_out <= 0.5:
            raise TuningError(f"The share that is held out must be from 0 to 0.5, not {self.hold_out}.")
        if self.task is Task.PROMPTABLE and any(config.scope is Scope.HEAD for config in self.methods):
            raise TuningError("A head for classes or instances needs --head semantic or instances.")

    @property
    def work_folder(self) -> Path:
        """Where checkpoints and records go."""
        return self.folder or run_folder(self.output)

    @property
    def wants_bands(self) -> bool:
        """Whether more bands than the three shown are to be read."""
        return self.bands is not Bands.RGB or bool(self.indices)

    def to_json(self) -> dict[str, JsonValue]:
        """Return the settings as JSON values."""
        values = {item.name: _plain(getattr(self, item.name)) for item in dataclasses.fields(self)}
        values["methods"] = [config.to_json() for config in self.methods]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, JsonValue]) -> TuneSettings:
        """Rebuild from :meth:`to_json`.

        Raises:
            TuningError: a value is missing or wrong.
        """
        try:
            return cls(**_rebuilt(dict(values)))
        except (KeyError, TypeError, ValueError) as error:
            raise TuningError("The settings of the tuning run cannot be read. Start it anew.", repr(error)) from error


def _plain(value: object) -> JsonValue:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Labels | Index | Schedule):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, StrEnum):
        return value.value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return None  # methods, which write themselves


def _rebuilt(values: dict[str, JsonValue]) -> dict[str, Any]:
    found: dict[str, Any] = dict(values)
    found["rasters"] = tuple(Path(str(path)) for path in _list(values["rasters"]))
    found["methods"] = tuple(config_from_json(_object(item)) for item in _list(values["methods"]))
    labels = _object(values["labels"])
    found["labels"] = Labels(Path(str(labels["path"])), **{k: str(v) for k, v in labels.items() if k != "path"})
    found["schedule"] = Schedule(**_object(values.get("schedule", {})))  # type: ignore[arg-type]
    found["indices"] = tuple(Index(**_object(item)) for item in _list(values.get("indices", [])))  # type: ignore[arg-type]
    found["task"] = Task(str(values.get("task", Task.PROMPTABLE)))
    bands = values.get("bands", Bands.RGB.value)
    found["bands"] = tuple(_list(bands)) if isinstance(bands, list) else Bands(str(bands))
    found["rgb"] = tuple(_list(values.get("rgb", [])))
    for name in ("output", "second", "extent", "folder", "previous"):
        if values.get(name) is not None:
            found[name] = Path(str(values[name]))
    return found


def _list(value: JsonValue) -> list[JsonValue]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


def _object(value: JsonValue) -> dict[str, JsonValue]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is no object")
    return value
