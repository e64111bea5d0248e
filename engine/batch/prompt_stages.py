"""Each feature of a vector file becomes one object, through the same steps as a click in QGIS."""

from __future__ import annotations

from dataclasses import dataclass, replace

import shapely

from ...models.errors import PromptError, RasterError
from ..crops import RasterFrame, level_for_object
from ..ground import outline_options
from ..messages import Empty, RasterInfo, SegmentParams, SegmentResult
from ..progress import NullProgress
from ..provenance import prompt_kind
from ..segment_work import Answered, Asked
from ..segmenter import Segmenter
from .features import moved, prompts_of
from .items import BatchObject, Feature, JobHeader, JobRaster, Unit, UnitResult

MAX_RAISES = 2
"""How often an object that reaches over its crop is asked for again one level coarser, as in QGIS."""

BATCH = 1
"""Each object is decoded by itself; an encoded crop serves all objects in it."""


@dataclass(frozen=True)
class _Refused:
    """A feature that no object was made of, and why."""

    feature: Feature
    why: str


@dataclass(frozen=True)
class _Step:
    feature: Feature
    asked: Asked


@dataclass(frozen=True)
class _Answer:
    feature: Feature
    answered: Answered


class PromptStages:
    """Segments the prompts that lie on one raster. Its parts are :class:`Feature`."""

    def __init__(self, segmenter: Segmenter, header: JobHeader, raster: JobRaster, info: RasterInfo) -> None:
        """Join the parts.

        Args:
            segmenter: opens the raster and runs the model.
            header: of the job.
            raster: of the job; its level is that of points where the user fixed none.
            info: of the raster as it lies here.
        """
        spec, options = header.spec, header.spec.options
        self._segmenter, self._info = segmenter, info
        self._prompts_crs, self._fixed = header.prompts_crs, options.level is not None
        self._level = raster.level or 0
        self._common = SegmentParams(
            info.spec,
            spec.model,
            self._level,
            outline=outline_options(info, options.simplify, options.min_hole, options.min_part),
            adapter=spec.adapter,
            second=raster.second,
        )
        self._frame = RasterFrame(info.width, info.height, info.transform)
        self._size = segmenter.input_size(spec.model)

    @property
    def batch(self) -> int:
        """How many features are computed at once."""
        return BATCH

    def read(self, part: Feature) -> _Step | _Refused:
        """Find a feature's crop and read it."""
        shape = moved(shapely.from_wkb(part.wkb), self._prompts_crs, self._info.crs_wkt)
        points, box = prompts_of(shape)
        level = self._level
        if box and not self._fixed:
            x0, y0, x1, y1 = shape.bounds
            level = max(level_for_object(self._frame, self._size, max(x1 - x0, y1 - y0)), 0)
        params = replace(self._common, level=level, points=points, box=box)
        try:
            return _Step(part, self._segmenter.ask(params, NullProgress(), ahead=True))
        except PromptError as error:
            return _Refused(part, error.user_text)

    def compute(self, parts: list[_Step | _Refused]) -> list[_Answer | _Refused]:
        """Run the model."""
        return [self._answer(part) for part in parts]

    def _answer(self, part: _Step | _Refused) -> _Answer | _Refused:
        if isinstance(part, _Refused):
            return part
        try:
            return _Answer(part.feature, self._segmenter.answer(part.asked))
        except (PromptError, RasterError) as error:  # no data here; a file that is gone has stopped the reading
            return _Refused(part.feature, error.user_text)

    def shape(self, part: Feature, computed: _Answer | _Refused) -> BatchObject | _Refused:
        """Trace the outline; look again with a wider view while the object reaches over the crop."""
        if isinstance(computed, _Refused):
            return computed
        asked = computed.answered.asked.params
        result = self._segmenter.outline(computed.answered)
        for _ in range(0 if self._fixed else MAX_RAISES):
            if result.empty is not Empty.NONE or not result.touches_edge or result.level >= self._info.max_level:
                break
            wider = self._segmenter.segment(replace(asked, level=result.level + 1), NullProgress())
            if wider.empty is not Empty.NONE:
                break
            result = wider
        if result.empty is not Empty.NONE:
            return _Refused(part, result.message)
        return _object(part, asked, result)

    def finish(self, unit: Unit, shaped: list[BatchObject | _Refused], skipped: int) -> UnitResult:  # noqa: ARG002 - the interface
        """Gather the objects, and say of which features none was made."""
        objects = tuple(item for item in shaped if isinstance(item, BatchObject))
        refused = [item for item in shaped if isinstance(item, _Refused)]
        return UnitResult(
            unit.number, objects, notes=tuple(f"Feature {item.feature.number}: {item.why}" for item in refused)
        )


def _object(feature: Feature, asked: SegmentParams, result: SegmentResult) -> BatchObject:
    kind = prompt_kind(points=bool(asked.points), box=bool(asked.box))
    wkb = bytes.fromhex(result.wkb)
    return BatchObject(wkb, feature.label, result.score, kind, feature.number, result.adapter)
