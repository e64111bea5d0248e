"""The service behind ``area/find``, ``area/map`` and ``area/suggest``: opens what is asked for, answers in messages.

Requests are stateless; rasters are open while a request lasts.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import shapely
from shapely.errors import ShapelyError
from shapely.geometry.base import BaseGeometry

from ...models.errors import OutputError, PromptError
from ...models.peft.card_records import ClassRecord, HeadKind
from ..adapters import AdapterService, LoadedAdapter, level_of, refuse_without_prompts, warnings
from ..area_messages import (
    FindParams,
    FindResult,
    FoundObject,
    MapClass,
    MapParams,
    MapResult,
    Suggestion,
    SuggestParams,
    SuggestResult,
)
from ..crops import clamp_level, level_for_object
from ..further_inputs import FurtherInputs
from ..messages import RasterInfo, RasterSpec
from ..progress import Progress
from ..raster_source import RasterSource
from ..store import EmbeddingStore
from ..tune_messages import LabelSource
from ..tuning.settings import Labels
from ..tuning.vectors import read_shapes
from .class_map import ALIGN, MAPPED, Mapped, Mapper
from .embeddings import CropEmbeddings, View
from .find import AreaObject, Finder
from .looking import InstanceLook, SemanticLook, refuse_other_head
from .map_file import MapFile, MapLegend, check_output
from .ranking import Ranked
from .reading import CropReader
from .suggest import Candidate, Labelled, Suggester
from .tiles import TilePlan

if TYPE_CHECKING:
    from ...models.promptable import PromptableModel

_LARGE = 0.5
"""Uncertainty or difference from which it is named as a reason."""


class Models(Protocol):
    """The part of ``ModelService`` that is used here."""

    def get(self, name: str, progress: Progress | None = None) -> PromptableModel:
        """Return a loaded model; raises ModelMissingError."""


class AreaService:
    """Applies adapters to areas. For one thread."""

    def __init__(self, models: Models, store: EmbeddingStore, adapters: AdapterService) -> None:
        """Join the parts.

        Args:
            models: gives loaded models by name.
            store: of embeddings.
            adapters: loads adapters.
        """
        self._models, self._store, self._adapters = models, store, adapters

    def find(self, params: FindParams, progress: Progress) -> FindResult:
        """Find all objects of an area.

        Args:
            params: what to look for, and where.
            progress: hears of the crops; may cancel.

        Raises:
            TuningError: the adapter is missing, damaged, for another model, or finds no objects.
            RasterError: the raster cannot be read.
            PromptError: the area is beyond the raster.
        """
        start = time.perf_counter()
        with self._view(params.raster, params.model, params.adapter, params.second, progress) as view:
            loaded = _required(view, HeadKind.INSTANCES)
            area = read_area(params.area)
            plan = TilePlan(view.source.frame, view.model.card.input_size, _level(view, params.level), area=area)
            look = InstanceLook(view.model, loaded, params.threshold)
            finder = Finder(plan, CropReader(view.source, view.further), look, progress)
            found = finder.find(area, params.outline, params.most)
            notes = list(warnings(loaded.card, view.source.info, plan.level))
        if found.cut_off:
            notes.append(
                f"{found.cut_off} more objects were found; the {params.most} surest are kept. Choose a smaller area, "
                "or a higher threshold."
            )
        objects = tuple(_message(item, loaded.card.classes) for item in found.objects)
        seconds = time.perf_counter() - start
        return FindResult(
            objects, loaded.card.name, plan.level, found.crops, found.skipped, seconds, _empty(found.crops, notes)
        )

    def map(self, params: MapParams, progress: Progress) -> MapResult:
        """Make a class map of an area. Files appear in one step, when everything is done.

        Args:
            params: where, and what to write.
            progress: hears of the crops; may cancel, which leaves nothing behind.

        Raises:
            TuningError: the adapter is missing, damaged, for another model, or makes no class maps.
            RasterError: the raster cannot be read.
            PromptError: the area is beyond the raster.
            OutputError: a file exists already, or cannot be written.
        """
        start = time.perf_counter()
        output, sure = _outputs(params)
        with self._view(params.raster, params.model, params.adapter, params.second, progress) as view:
            loaded = _required(view, HeadKind.SEMANTIC)
            area = read_area(params.area)
            size = view.model.card.input_size
            plan = TilePlan(view.source.frame, size, _level(view, params.level), area=area, align=ALIGN)
            mapper = Mapper(plan, CropReader(view.source, view.further), SemanticLook(view.model, loaded), progress)
            classes = tuple(MapClass(item.value, item.name, _hex(item), 0.0) for item in loaded.card.classes)
            tags = {"SAMTUNE_ADAPTER": loaded.card.name, "SAMTUNE_MODEL": view.model.card.name}
            legends = {output: MapLegend(classes, tags)}
            if sure is not None:
                legends[sure] = MapLegend(tags=tags | {"UNIT": "percent"}, averaged=True)
            mapped = _write(mapper, area, legends, progress)
            notes = list(warnings(loaded.card, view.source.info, plan.level))
        square = (view.source.frame.pixel_size * 2 ** max(plan.level, 0)) ** 2
        areas = [float(count) * square for count in mapped.pixels]
        legend_with_areas = tuple(
            MapClass(item.value, item.name, item.colour, covered) for item, covered in zip(classes, areas, strict=True)
        )
        return MapResult(
            str(output),
            str(sure or ""),
            legend_with_areas,
            plan.level,
            mapped.crops,
            mapped.skipped,
            time.perf_counter() - start,
            _empty(mapped.crops, notes),
        )

    def suggest(self, params: SuggestParams, progress: Progress) -> SuggestResult:
        """Say where labelling would teach the most.

        Args:
            params: what is labelled, and where to look.
            progress: hears of the crops; may cancel.

        Raises:
            TuningError: the labels cannot be read, or the adapter is missing, damaged, for another model, or does not
                answer clicks.
            RasterError: the raster cannot be read.
            PromptError: the area is beyond the raster.
        """
        start = time.perf_counter()
        with self._view(params.raster, params.model, params.adapter, params.second, progress) as view:
            if view.adapter is not None:
                refuse_without_prompts(view.adapter.card)
            labelled = _labelled(params.labels, view.source.info)
            area = read_area(params.area)
            plan = _plan_for(view, params, labelled, area)
            embeddings = CropEmbeddings(view, self._store, progress, params.crops + params.crops // 2)
            suggester = Suggester(view, embeddings, Labelled(labelled), progress)
            found = suggester.suggest(plan, area, params.count, params.crops)
            notes = list(warnings(view.adapter.card, view.source.info, plan.level)) if view.adapter else []
        if found.crops < plan.count:
            notes.append(f"{found.crops} of {plan.count} parts of the area were looked at.")
        if found.crops and not found.candidates:
            notes.append("The model outlines nothing here that is not labelled already. Try another level of detail.")
        suggestions = tuple(
            _suggestion(item, rank, labelled=bool(labelled))
            for item, rank in zip(found.candidates, found.ranks, strict=True)
        )
        seconds = time.perf_counter() - start
        return SuggestResult(suggestions, plan.level, found.crops, seconds, _empty(found.crops, notes))

    @contextlib.contextmanager
    def _view(self, spec: RasterSpec, name: str, adapter: str, second: str, progress: Progress) -> Iterator[View]:
        """Open a raster, with the bands that the adapter was tuned on where none are given."""
        progress.check()
        progress.report(-1.0, "Opening the raster")
        model = self._models.get(name, progress)
        loaded = self._adapters.get(adapter, model, progress) if adapter else None
        if loaded is not None and not spec.bands:
            spec = RasterSpec(spec.uri, loaded.card.inputs.rgb, spec.stretch)
        with contextlib.closing(RasterSource(spec)) as source:
            if loaded is None:
                yield View(source, model)
                return
            with contextlib.closing(FurtherInputs(loaded.card, source.info.spec.uri, second)) as further:
                yield View(source, model, loaded, further)


def read_area(text: str) -> BaseGeometry | None:
    """Read the area of a request.

    Args:
        text: hexadecimal WKB of polygons; empty for the whole raster.

    Raises:
        PromptError: it is damaged.
    """
    if not text:
        return None
    try:
        area = shapely.from_wkb(bytes.fromhex(text))
    except (ShapelyError, ValueError) as error:
        raise PromptError("The area cannot be read. Draw it again.", repr(error)) from error
    return area if area.is_valid else shapely.make_valid(area)


def _required(view: View, head: HeadKind) -> LoadedAdapter:
    if view.adapter is None:
        raise PromptError("There is no adapter to do this with. Choose one, or tune one first.")
    refuse_other_head(view.adapter.card, head)
    return view.adapter


def _level(view: View, asked: int | None) -> int:
    """Return the level asked for, or that of the adapter's training, or the raster's own."""
    level = asked
    if level is None and view.adapter is not None:
        level = level_of(view.adapter.card, view.source.info)
    return clamp_level(view.source.frame, view.model.card.input_size, level or 0)


def _plan_for(
    view: View, params: SuggestParams, labelled: Sequence[BaseGeometry], area: BaseGeometry | None
) -> TilePlan:
    frame, size = view.source.frame, view.model.card.input_size
    known = params.level is not None or (
        view.adapter is not None and level_of(view.adapter.card, view.source.info) is not None
    )
    if known:
        return TilePlan(frame, size, _level(view, params.level), area=area)
    if labelled:
        sizes = [max(right - left, top - bottom) for left, bottom, right, top in (item.bounds for item in labelled)]
        levels = Counter(level_for_object(frame, size, extent) for extent in sizes)
        return TilePlan(frame, size, min(levels, key=lambda level: (-levels[level], level)), area=area)
    plan = TilePlan(frame, size, 0, area=area)
    while plan.count > params.crops and plan.level < clamp_level(frame, size, plan.level + 1):
        plan = TilePlan(frame, size, plan.level + 1, area=area)
    return plan


def _labelled(source: LabelSource, info: RasterInfo) -> list[BaseGeometry]:
    if not source.path:
        return []
    labels = Labels(Path(source.path), source.layer, source.class_field, class_name=source.class_name)
    return [item.geometry for item in read_shapes(labels, info.crs_wkt).items]


def _outputs(params: MapParams) -> tuple[Path, Path | None]:
    output = Path(params.output).expanduser()
    sure = Path(params.confidence).expanduser() if params.confidence else None
    check_output(output)
    if sure is not None:
        check_output(sure)
        if sure.resolve() == output.resolve():
            raise OutputError("The map and its confidence cannot be one file. Give them different names.")
    return output, sure


def _write(mapper: Mapper, area: BaseGeometry | None, legends: Mapping[Path, MapLegend], progress: Progress) -> Mapped:
    """Map an area into the file of classes, and that of confidence if there is one."""
    with contextlib.ExitStack() as files:
        maps = [files.enter_context(MapFile(path, mapper.grid, legend)) for path, legend in legends.items()]
        mapped = mapper.map(area, maps[0], maps[1] if len(maps) > 1 else None)
        for number, file in enumerate(maps):
            progress.check()
            progress.report(MAPPED + (1 - MAPPED) * number / len(maps), f"Writing {file.path.name}")
            file.optimise()
        progress.check()
        for file in maps:
            file.publish()
    return mapped


def _message(item: AreaObject, classes: Sequence[ClassRecord]) -> FoundObject:
    label = classes[item.label].name if item.label < len(classes) else ""
    return FoundObject(item.outline.wkb_hex, label, item.score, float(item.outline.area))


def _suggestion(item: Candidate, rank: Ranked, *, labelled: bool) -> Suggestion:
    other = "unlike what is labelled" if labelled else "unlike the other suggestions"
    reasons = []
    if rank.difference >= _LARGE or rank.difference >= item.doubt:
        reasons.append(other)
    if item.doubt >= _LARGE or item.doubt > rank.difference:
        reasons.append("the model is unsure here")
    wkb = item.outline.wkb_hex
    return Suggestion(item.x, item.y, wkb, rank.rank, item.doubt, rank.difference, "; ".join(reasons))


def _hex(item: ClassRecord) -> str:
    return "#" + bytes(item.colour).hex()


def _empty(crops: int, notes: Sequence[str]) -> tuple[str, ...]:
    if crops:
        return tuple(notes)
    return (*notes, "The raster has no data in this area. Choose another one.")
