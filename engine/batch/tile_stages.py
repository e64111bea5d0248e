"""Everything, all objects, or a class map, tile by tile: read, look, trace, and join within the unit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...models import registry
from ...models.errors import RasterError
from ..areas.find import contributed, on_ground, within
from ..areas.joining import Rules
from ..areas.looking import Candidate, FindLook, InstanceLook, MapLook, SemanticLook
from ..areas.pieces import Piece
from ..areas.reading import CropReader
from ..areas.tiles import Tile, TilePlan
from ..batch_messages import BatchTask
from ..further_inputs import FurtherInputsKeeper
from ..ground import outline_options
from ..raster_source import RasterSource
from ..tuning.reading import CropInputs
from .fragments import own_ground, packed
from .fragments import part as parted
from .items import BatchObject, Ground, JobHeader, JobRaster, MapBlock, Unit, UnitResult
from .map_blocks import packed as packed_answer
from .pipeline import Stages
from .planning import area_in, plan_of

if TYPE_CHECKING:
    from .worker import Worker

PROMPT_KINDS = {BatchTask.FIND: "find", BatchTask.AUTOMATIC: "automatic"}
"""Of the tasks that make objects of tiles."""


def tile_stages(worker: Worker, raster: JobRaster) -> Stages:
    """Make the stages of a raster.

    Args:
        worker: has the model.
        raster: of the job, as it lies here.

    Raises:
        SamTuneError: the raster, the model or the adapter cannot be used.
    """
    setup, spec = worker.setup, worker.setup.header.spec
    if raster.info is None:
        raise RasterError("The raster was not looked at yet. Resume the job.", raster.uri)
    model = worker.models.get(spec.model)
    source = RasterSource(raster.info.spec)
    loaded = worker.adapters.get(spec.adapter, model) if spec.adapter else None
    further = FurtherInputsKeeper().get(loaded.card, source, raster.second) if loaded else None
    reader = CropReader(source, further)
    context = ObjectContext(setup.header, setup.area, raster, model.card.input_size)
    if spec.task is BatchTask.MAP and loaded is not None:
        return MapStages(reader, SemanticLook(model, loaded))
    if spec.task is BatchTask.FIND and loaded is not None:
        names = tuple(item.name for item in loaded.card.classes)
        return ObjectStages(context, reader, InstanceLook(model, loaded, spec.options.threshold), names)
    from .everything import EverythingLook

    return ObjectStages(context, reader, EverythingLook(model, loaded, spec.options), ())


class _Reading:
    """Reads tiles."""

    def __init__(self, reader: CropReader) -> None:
        self._reader = reader

    def read(self, part: Tile) -> CropInputs | None:
        """Read a tile; None where it has no data."""
        return self._reader.read(part.crop, _never)


def _never() -> None:
    """Nobody cancels here: the pipeline looks for that between tiles."""


@dataclass(frozen=True)
class ObjectContext:
    """What turns pieces of one raster into objects of the job.

    Attributes:
        header: of the job.
        area: to which it is limited.
        raster: of the job, opened.
        size: of the model's input, pixels.
    """

    header: JobHeader
    area: Ground
    raster: JobRaster
    size: int

    @property
    def rules(self) -> Rules:
        """When two pieces are of one object."""
        if self.header.spec.task is BatchTask.FIND:
            return Rules()
        # Of everything, parts lie in wholes; two tiles' outlines of one object differ as much as two of one tile may.
        return Rules(registry.card(self.header.spec.model).automatic.overlap, contained=None)

    def plan(self, coarser: int = 0) -> TilePlan:
        """Return the tiles of the raster at its level, or of one above it."""
        return plan_of(self.header, self.area, self.raster, self.size, coarser)

    def objects(self, pieces: list[tuple[Piece, str]], plan: TilePlan, coarser: int) -> Iterator[BatchObject]:
        """Yield the objects that joined pieces are, if they lie in the area and are of the level's size.

        Args:
            pieces: joined, with the names of their classes.
            plan: that they were found in.
            coarser: levels of the plan above the raster's own.
        """
        header, info = self.header, self.raster.info
        if info is None:
            raise RasterError("The raster was not looked at yet. Resume the job.", self.raster.uri)
        options = header.spec.options
        outline = outline_options(info, options.simplify, options.min_hole, options.min_part)
        names = {id(piece): name for piece, name in pieces}
        sized = [piece for piece, _ in pieces if self._of_level(piece, coarser)]
        for piece in within(sized, plan, area_in(self.area, info)):
            made = on_ground(piece, plan, info.crs_wkt, outline)
            if made is not None and made.outline.area >= outline.min_part:
                kind = PROMPT_KINDS[header.spec.task]
                label = names[id(piece)] or header.spec.class_name
                yield BatchObject(made.outline.wkb, label, made.score, kind, adapter=header.adapter_name)

    def _of_level(self, piece: Piece, coarser: int) -> bool:
        """Each object belongs to one level: the finest at which its longer side is no more than half a tile."""
        left, top, right, bottom = piece.outline.bounds
        side, half = max(right - left, bottom - top), self.size / 2
        last = coarser == self.header.spec.options.levels - 1
        return (coarser == 0 or side > half / 2) and (last or side <= half)


class ObjectStages(_Reading):
    """Objects of one raster. Its parts are tiles."""

    def __init__(self, context: ObjectContext, reader: CropReader, look: FindLook, classes: tuple[str, ...]) -> None:
        """Join the parts.

        Args:
            context: makes objects of pieces.
            reader: of the raster.
            look: the model.
            classes: names of them; none where objects have no class.
        """
        super().__init__(reader)
        self._context, self._look, self._classes = context, look, classes
        self._plans = {coarser: context.plan(coarser) for coarser in range(context.header.spec.options.levels)}

    @property
    def batch(self) -> int:
        """How many tiles the model is given at once."""
        return self._look.batch

    def compute(self, parts: list[CropInputs]) -> list[tuple[CropInputs, list[Candidate]]]:
        """Look at tiles."""
        return list(zip(parts, self._look.look(parts, _never), strict=True))

    def shape(self, part: Tile, computed: tuple[CropInputs, list[Candidate]]) -> list[Piece]:
        """Trace what a tile shows."""
        inputs, candidates = computed
        valid = None if inputs.valid.all() else inputs.valid
        plan = next(plan for plan in self._plans.values() if plan.level == part.crop.level)
        found = [contributed(plan, part, candidate, valid) for candidate in candidates]
        return [piece for piece in found if piece is not None]

    def finish(self, unit: Unit, shaped: list[list[Piece]], skipped: int) -> UnitResult:  # noqa: ARG002 - the interface
        """Join within the unit; keep in pieces what neighbours may have too."""
        context, plan = self._context, self._plans[unit.coarser]
        pieces = [piece for pieces in shaped for piece in pieces]
        joined, kept = parted(pieces, own_ground(plan, unit.block), context.rules, _never)
        named = [(piece, self._name(piece)) for piece in joined]
        fragments = tuple(packed(piece, self._name(piece)) for piece in kept)
        return UnitResult(unit.number, tuple(context.objects(named, plan, unit.coarser)), fragments)

    def _name(self, piece: Piece) -> str:
        return self._classes[piece.label] if self._classes else ""


class MapStages(_Reading):
    """Answers for the class map of one raster. Its parts are tiles."""

    def __init__(self, reader: CropReader, look: MapLook) -> None:
        """Join the parts.

        Args:
            reader: of the raster.
            look: the model.
        """
        super().__init__(reader)
        self._look = look

    @property
    def batch(self) -> int:
        """How many tiles the model is given at once."""
        return self._look.batch

    def compute(self, parts: list[CropInputs]) -> list[tuple[CropInputs, NDArray[np.float32]]]:
        """Look at tiles."""
        return list(zip(parts, self._look.look(parts, _never), strict=True))

    def shape(self, part: Tile, computed: tuple[CropInputs, NDArray[np.float32]]) -> MapBlock:
        """Pack what a tile answered."""
        return packed_answer(part, *computed)

    def finish(self, unit: Unit, shaped: list[MapBlock], skipped: int) -> UnitResult:  # noqa: ARG002 - the interface
        """Keep the answers."""
        return UnitResult(unit.number, blocks=tuple(shaped))
