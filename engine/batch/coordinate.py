"""Doing a job: look at its rasters, plan their units, have them done, and write what came of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from ...models import registry
from ...models.errors import PromptError, RasterError, TuningError
from ..batch_messages import BatchState, BatchTask
from ..messages import RasterInfo
from ..progress import Progress
from .claim import Claim
from .executors import Executor
from .items import JobHeader, JobRaster, RasterMark, Unit, UnitResult
from .job_file import JobFile
from .planning import area_in, level_for, plan_of, prompt_units, tile_units
from .rasters import look_at, place_of, usable_together
from .spec import refuse_changed
from .status import Meter
from .worker import Order, Setup

_BEYOND = "It lies beyond the job's area, or beyond all prompts: there is nothing to do in it."


class Coordinator:
    """One run of a job, from looking at its rasters to having its units done. The only one to write the job file."""

    def __init__(self, job: JobFile, claim: Claim, setup: Setup, progress: Progress, root: str = "") -> None:
        """Join the parts.

        Args:
            job: open.
            claim: on it.
            setup: where the work is done; its header is the job's, with the adapter's path as it is here.
            progress: hears of the work; may cancel.
            root: folder where the rasters are now; empty for where they were, or beside the job file.
        """
        self._job, self._claim, self._setup, self._progress, self._root = job, claim, setup, progress, root
        self._broken: set[int] = set()
        self._size = registry.card(job.header.spec.model).input_size

    @property
    def header(self) -> JobHeader:
        """Of the job, with the adapter's path as it is here."""
        return self._setup.header

    def look(self) -> list[JobRaster]:
        """Look at every raster that there is something to do with: is it there, usable, the same as before?

        Returns:
            The usable rasters, with the places where they are now.

        Raises:
            RasterError: one is not the one that the job was begun with.
        """
        refuse_changed(self.header, self.header.spec.adapter)
        usable = []
        rasters = self._job.rasters()
        taken = self._taken()
        for number, raster in enumerate(rasters):
            self._progress.check()
            self._progress.report(-1.0, f"Looking at raster {number + 1} of {len(rasters)}")
            there = replace(raster, uri=place_of(raster, self._job.path, self._root))
            try:
                found = self._known(raster, there) if raster.fingerprint else self._new(there, taken)
            except (RasterError, PromptError, TuningError) as error:
                if isinstance(error, RasterChangedError):
                    raise
                self._job.set_raster(self._claim, replace(raster, mark=RasterMark.BROKEN, problem=error.user_text))
            else:
                usable.append(found)
        return usable

    def _known(self, raster: JobRaster, there: JobRaster) -> JobRaster:
        """Check that a raster is the one that it was; one without further units need not be there."""
        if not self._job.pending(raster.number, most=1):
            return there
        if raster.info is None:
            raise RasterError("The raster was not looked at yet. Resume the job.")
        _refuse_missing(there.uri)
        info, fingerprint = look_at(there.uri, raster.info.spec.bands, raster.info.spec.stretch)
        if fingerprint != raster.fingerprint:
            raise RasterChangedError(
                f"The raster {Path(there.uri).name} changed since this job was begun: half of its objects would be of "
                "one picture, half of another. Put the former file back, or make the job anew.",
                f"{there.uri}: {raster.fingerprint} {fingerprint}",
            )
        if raster.mark is not RasterMark.PLANNED:
            self._job.set_raster(self._claim, replace(raster, mark=RasterMark.PLANNED, problem=""))
        return replace(there, info=info, mark=RasterMark.PLANNED, problem="")

    def _new(self, there: JobRaster, taken: set[int]) -> JobRaster:
        """Open a raster for the first time and plan its units."""
        _refuse_missing(there.uri)
        header, wanted = self.header, self.header.spec.rasters
        info, fingerprint = look_at(there.uri, wanted.bands, wanted.stretch)
        first = not any(raster.fingerprint for raster in self._job.rasters())
        usable_together(info, header.crs_wkt, first=first)
        if first:
            self._setup = replace(self._setup, header=replace(header, crs_wkt=info.crs_wkt))
            self._job.set_header(self._claim, replace(self._job.header, crs_wkt=info.crs_wkt))
        planned = replace(
            there,
            mark=RasterMark.PLANNED,
            problem="",
            fingerprint=fingerprint,
            info=info,
            level=level_for(self.header.spec, info, self._size),
        )
        units = list(self._units(planned, info, taken))
        taken.update(number for unit in units for number in unit.features)
        kept = replace(planned, problem="" if units else _BEYOND)
        self._job.plan_raster(self._claim, kept, units)
        return kept

    def _units(self, raster: JobRaster, info: RasterInfo, taken: set[int]) -> Iterator[Unit]:
        header, area = self.header, self._job.area
        if header.spec.task is BatchTask.PROMPTS:
            free = (feature for feature in self._job.all_features() if feature.number not in taken)
            yield from prompt_units(free, header.prompts_crs, info, self._size, area_in(area, info))
            return
        try:
            levels = header.spec.options.levels if header.spec.task is BatchTask.AUTOMATIC else 1
            for coarser in range(levels):
                plan = plan_of(header, area, raster, self._size, coarser)
                yield from tile_units(plan, header.spec.options.tiles, coarser)
        except PromptError:  # the area lies elsewhere
            return

    def _taken(self) -> set[int]:
        """Return the prompts that lie on rasters which were planned before."""
        rows = self._job.stream("SELECT content FROM unit WHERE content LIKE '{\"features%'")
        return {number for row in rows for number in json.loads(str(row[0]))["features"]}

    def run(self, rasters: list[JobRaster], make: Callable[[Setup], Executor]) -> None:
        """Have all units done that are not.

        Args:
            rasters: as :meth:`look` returns them.
            make: makes the executor, once there is work for it.

        Raises:
            SamTuneError: the work cannot go on; what is done is kept.
            CancelledByUser: likewise.
        """
        if not any(self._job.pending(raster.number, most=1) for raster in rasters):
            return
        self._job.put(self._claim, state=BatchState.WAITING.value, run="{}")
        meter = Meter.of(self._job)

        def tick(tiles: int) -> None:
            meter.add(tiles)
            self._progress.report(meter.fraction, meter.sentence)
            self._claim.beat(meter.record())

        def done(result: UnitResult) -> None:
            if result.problem:
                self._give_up(result)
            else:
                self._job.commit(self._claim, result, meter.record())

        make(self._setup).run(self._orders(rasters), done, tick, self._progress)

    def _orders(self, rasters: list[JobRaster]) -> Iterator[Order]:
        for raster in rasters:
            after = 0
            while units := self._job.pending(raster.number, after):
                for unit in units:
                    if raster.number in self._broken:
                        break
                    yield Order(unit, raster, tuple(self._job.features(unit.features)))
                after = units[-1].number

    def _give_up(self, result: UnitResult) -> None:
        """Note that a raster failed half-way; its other units are left for the next time."""
        number = self._job.raster_of(result.unit)
        if number in self._broken:
            return
        self._broken.add(number)
        (raster,) = (item for item in self._job.rasters() if item.number == number)
        self._job.set_raster(self._claim, replace(raster, mark=RasterMark.BROKEN, problem=result.problem))


class RasterChangedError(RasterError):
    """A raster is not the one that a job was begun with."""


def _refuse_missing(uri: str) -> None:
    if Path(uri).is_absolute() and not uri.startswith("/vsi") and not Path(uri).exists():
        raise RasterError(
            f"There is no file {uri}. Put it back, or say where the rasters are now (--root), and resume."
        )


def adapter_place(adapter: str, job: Path, root: str) -> str:
    """Find an adapter's file again: under a root, beside the job file, or where it was.

    Args:
        adapter: path when the job was made; empty for none.
        job: path of the job file.
        root: folder given for moved files; empty for none.
    """
    if not adapter:
        return ""
    name = Path(adapter).name
    places = [*([Path(root) / name] if root else []), job.parent / name, Path(adapter).expanduser()]
    return str(next((place for place in places if place.is_file()), Path(adapter).expanduser()))
