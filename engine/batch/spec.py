"""What a user may ask of a job: read from a manifest, checked before anything is made."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...models import registry
from ...models.errors import OutputError, PromptError, ProtocolError, SamTuneError, TuningError
from ...models.peft.adapter_card import AdapterCard, HeadKind, read_card
from ...models.peft.card_records import ClassRecord
from ..about import version
from ..area_messages import MapClass
from ..batch_messages import BatchSpec, BatchTask
from ..wire import from_wire
from .formats import check_outputs
from .items import JobHeader, Prompts

_PATHS = {"paths", "path", "second", "adapter", "vector", "maps"}
"""Keys of a manifest whose values are paths, relative to the manifest."""


def read_manifest(path: Path) -> BatchSpec:
    """Read a job from a TOML file: the fields of :class:`BatchSpec` as keys and tables.

    Args:
        path: of the file; paths in it are relative to its folder.

    Raises:
        OutputError: it is missing, no TOML, or says things that no job has.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return from_wire(BatchSpec, _absolute(values, path.resolve().parent))
    except OSError as error:
        raise OutputError(f"The manifest {path} cannot be read. Check the path.", str(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OutputError(f"The manifest {path} is no TOML file: {error}.") from error
    except ProtocolError as error:
        raise OutputError(
            f"The manifest {path} says something that no job has: {error.details.replace('BatchSpec.', '')}."
        ) from error


def _absolute(values: Any, folder: Path, key: str = "") -> Any:  # noqa: ANN401 - what TOML holds
    if isinstance(values, dict):
        return {name: _absolute(value, folder, name) for name, value in values.items()}
    if isinstance(values, list):
        return [_absolute(value, folder, key) for value in values]
    if key in _PATHS and isinstance(values, str) and values:
        expanded = Path(values).expanduser()
        return str(folder / expanded) if (folder / expanded).exists() or key in {"vector", "maps"} else values
    return values


def complete(spec: BatchSpec) -> tuple[BatchSpec, AdapterCard | None]:
    """Check a job and fill in what follows from its adapter.

    Args:
        spec: as the user wants it.

    Returns:
        With model and bands filled in, and the adapter's card.

    Raises:
        SamTuneError: it contradicts itself, or its outputs cannot be written.
    """
    card = read_card(Path(spec.adapter).expanduser()) if spec.adapter else None
    _check_head(spec, card)
    _check_options(spec)
    if spec.task is BatchTask.PROMPTS and not spec.prompts.path:
        raise PromptError("This task needs prompts: a vector file of points, boxes or polygons, each one object.")
    if spec.task is not BatchTask.PROMPTS and spec.prompts.path:
        raise PromptError(f"The task {spec.task.value} takes no prompts. Leave them out, or choose the task prompts.")
    check_outputs(spec.task, spec.outputs)
    if card is not None and not spec.rasters.bands:
        spec = replace(spec, rasters=replace(spec.rasters, bands=card.inputs.rgb))
    return spec, card


_HEADS = {BatchTask.FIND: HeadKind.INSTANCES, BatchTask.MAP: HeadKind.SEMANTIC}


def _check_head(spec: BatchSpec, card: AdapterCard | None) -> None:
    wanted = _HEADS.get(spec.task)
    if wanted is None:
        if card is not None and card.head is HeadKind.SEMANTIC:
            raise TuningError(f"The adapter {card.name} makes class maps. Choose the task map, or another adapter.")
        return
    kinds = {HeadKind.INSTANCES: "find all objects", HeadKind.SEMANTIC: "make class maps"}
    if card is None or card.head is not wanted:
        named = f"{card.name} was" if card else "none is given that was"
        not_so = "not " if card else ""
        raise TuningError(
            f"The task {spec.task.value} needs an adapter, and {named} {not_so}tuned to {kinds[wanted]}. Tune one, or "
            "choose another task."
        )


def _check_options(spec: BatchSpec) -> None:
    options = spec.options
    lengths = (options.simplify, options.min_hole, options.min_part)
    if not all(0 <= value < float("inf") for value in lengths):
        raise PromptError("Tolerances and least areas must be 0 or more.")
    if not all(0 <= value <= 1 for value in (options.threshold, options.iou, options.stability)):
        raise PromptError("Thresholds must be from 0 to 1.")
    if not (1 <= options.points <= 128 and 1 <= options.levels <= 4 and 1 <= options.tiles <= 64):
        raise PromptError("Points per side are 1 to 128, levels 1 to 4, tiles per side of a unit 1 to 64.")


def header_of(spec: BatchSpec, card: AdapterCard | None, prompts: Prompts) -> JobHeader:
    """Write down what is decided with a job.

    Args:
        spec: completed.
        card: of its adapter.
        prompts: read.

    Raises:
        SamTuneError: there is no such model, or the adapter is for another one.
    """
    model = registry.card(spec.model)
    if card is not None and card.base.name != model.name:
        raise TuningError(f"The adapter {card.name} is for the model {card.base.name}. Choose that model.")
    return JobHeader(
        spec=spec,
        version=version(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model_hash=model.sha256,
        adapter_hash=file_hash(Path(spec.adapter).expanduser()) if spec.adapter else "",
        adapter_name=card.name if card else "",
        fields=prompts.fields,
        prompts_crs=prompts.crs_wkt,
        classes=tuple(MapClass(item.value, item.name, _hex(item), 0.0) for item in card.classes) if card else (),
    )


def _hex(record: ClassRecord) -> str:
    return "#" + bytes(record.colour).hex()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        TuningError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise TuningError(f"The adapter file {path} cannot be read. Put it back, or name where it is.") from error


def refuse_changed(header: JobHeader, adapter: str) -> None:
    """Refuse to go on with other weights than those that a job was begun with.

    Args:
        header: of the job.
        adapter: where its adapter is now; empty for none.

    Raises:
        SamTuneError: the model or the adapter is another one now.
    """
    model = registry.card(header.spec.model)
    if model.sha256 != header.model_hash:
        raise SamTuneError(
            f"The model {model.name} is not the one that this job was begun with: half of its objects would come from "
            "one, half from the other. Install the SamTune that began it "
            f"({header.version}), or make the job anew."
        )
    if adapter and file_hash(Path(adapter)) != header.adapter_hash:
        raise TuningError(
            f"The adapter file {adapter} changed since this job was begun: half of its objects would come from one, "
            "half from the other. Put the former file back, or make the job anew."
        )
