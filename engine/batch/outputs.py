"""Writing a job's outputs, and remembering which files are its own, so that it may replace those and no others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from ...models.errors import OutputError
from ..batch_messages import BatchOutputs, BatchState, BatchTask
from ..ground import outline_options
from ..progress import Progress
from ..provenance import raster_name
from ..vector_output import output_errors
from .claim import Claim
from .finals import finished_objects
from .formats import check_outputs
from .items import JobRaster, RasterMark
from .job_file import JobFile
from .map_polygons import map_objects
from .maps import CLASSES, CONFIDENCE, map_paths, write_map
from .output import Finished, write_vector


class OutputWriter:
    """Makes a job's outputs from its file."""

    def __init__(self, job: JobFile, claim: Claim, outputs: BatchOutputs, progress: Progress) -> None:
        """Join the parts.

        Args:
            job: its units done, as far as they can be.
            claim: on it.
            outputs: what to write.
            progress: hears of the work; may cancel.
        """
        self._job, self._claim, self._outputs, self._progress = job, claim, outputs, progress
        self._written: dict[str, list[int]] = json.loads(str(job.get("written", "{}")))
        self._announced: dict[str, list[int]] = json.loads(str(job.get("announced", "{}")))

    def check(self) -> None:
        """Refuse outputs that cannot be written.

        Raises:
            OutputError: one exists that this job did not write, or that somebody changed since, or the like.
        """
        check_outputs(
            self._job.header.spec.task,
            self._outputs,
            ours=tuple(filter(self._is_ours, {**self._written, **self._announced})),
        )

    def _is_ours(self, path: str) -> bool:
        """Tell whether a file is as this job wrote it, though it was killed before it could say that it had."""
        return _stamp(Path(path)) in (self._written.get(path), self._announced.get(path))

    def _announce(self, made: Path, path: Path) -> None:
        """Note a finished file before it takes its place: moving it changes neither its size nor its time."""
        self._announced[str(path)] = _stamp(made)
        self._job.put(self._claim, announced=json.dumps(self._announced))

    def write(self) -> None:
        """Write everything, and note that the job is finished.

        Raises:
            OutputError: a file cannot be written; the job file is as it was, and resuming tries again.
            CancelledByUser: from ``progress.check``.
        """
        job, outputs = self._job, self._outputs
        self.check()
        job.put(self._claim, state=BatchState.WRITING.value)
        if outputs.maps:
            self._write_maps(Path(outputs.maps))
        if outputs.vector and job.header.spec.task is not BatchTask.MAP:
            self._write_vector(finished_objects(job, self._progress.check))
        elif outputs.vector and outputs.maps:
            self._write_vector(self._polygons(Path(outputs.maps)))
        elif outputs.vector:
            self._write_polygons_alone()
        job.put(self._claim, state=BatchState.FINISHED.value)

    def _write_vector(self, found: Iterable[Finished]) -> None:
        path, outputs = Path(self._outputs.vector), self._outputs
        self._progress.report(-1.0, f"Writing {path.name}")
        mine = outputs.overwrite or self._is_ours(outputs.vector)
        objects = self._counted(found)
        count = write_vector(
            path, outputs.layer, objects, self._job.header, self._progress.check, self._announce, overwrite=mine
        )
        self._note(path, objects=count)

    def _write_polygons_alone(self) -> None:
        """Write the polygons of class maps that nobody wants: those are made beside them, and go."""
        path = Path(self._outputs.vector)
        with output_errors(path), TemporaryDirectory(prefix=".samtune-", dir=path.parent) as folder:
            maps = map_paths(Path(folder), self._job.rasters(), CLASSES)
            for raster in self._planned():
                self._progress.report(-1.0, f"Mapping {raster_name(raster.uri)}")
                write_map(self._job, raster, maps[raster.number], None, self._progress)
                self._claim.beat()
            self._write_vector(self._polygons(Path(folder)))

    def _counted(self, objects: Iterable[Finished]) -> Iterable[Finished]:
        for item in objects:
            self._progress.check()
            self._claim.beat()
            yield item

    def _polygons(self, folder: Path) -> Iterator[Finished]:
        """Yield the polygons of all class maps in a folder."""
        header, now = self._job.header, datetime.now(UTC).isoformat(timespec="milliseconds")
        paths = map_paths(folder, self._job.rasters(), CLASSES)
        for raster in self._job.rasters():
            if raster.info is None or not paths[raster.number].exists():
                continue
            least = outline_options(raster.info, 0.0, 0.0, header.spec.options.min_part).min_part
            for item in map_objects(paths[raster.number], header, least, self._progress.check):
                yield Finished(raster, item, now)

    def _note(self, path: Path, **values: object) -> None:
        self._written[str(path)] = _stamp(path)
        self._job.put(self._claim, written=json.dumps(self._written), **values)

    def _planned(self) -> list[JobRaster]:
        """Return the rasters that there is something of."""
        return [raster for raster in self._job.rasters() if raster.mark is RasterMark.PLANNED and raster.tiles]

    def _write_maps(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"The folder {folder} cannot be made. Choose another one.", str(error)) from error
        rasters = self._job.rasters()
        paths, sure = map_paths(folder, rasters, CLASSES), map_paths(folder, rasters, CONFIDENCE)
        for raster in self._planned():
            self._write_map(raster, paths[raster.number], sure[raster.number])

    def _write_map(self, raster: JobRaster, path: Path, sure: Path) -> None:
        wanted = [path, sure] if self._outputs.confidence else [path]
        if all(self._is_ours(str(item)) for item in wanted) and not self._outputs.overwrite:
            return
        for item in wanted:
            if item.exists():
                if not (self._outputs.overwrite or self._is_ours(str(item))):
                    raise OutputError(f"{item} exists. Choose another folder, or say that it may be replaced.")
                item.unlink()
        self._progress.report(-1.0, f"Writing {path.name}")
        confidence = sure if self._outputs.confidence else None
        write_map(self._job, raster, path, confidence, self._progress, self._announce)
        for item in wanted:
            self._note(item)
        self._job.set_output(self._claim, raster.number, str(path))


def _stamp(path: Path) -> list[int]:
    """Return size and time of a file; empty where there is none."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def absolute(outputs: BatchOutputs) -> BatchOutputs:
    """Return outputs with whole paths, so that they mean the same wherever the job is resumed from."""
    return replace(
        outputs,
        vector=str(Path(outputs.vector).expanduser().absolute()) if outputs.vector else "",
        maps=str(Path(outputs.maps).expanduser().absolute()) if outputs.maps else "",
    )
