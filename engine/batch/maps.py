"""Class maps from the job file: one cloud-optimised GeoTIFF per raster, blended from what the tiles answered."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ...models import registry
from ...models.errors import OutputError
from ..areas.class_map import Mapper
from ..areas.map_file import MapFile, MapLegend
from ..progress import Progress
from .items import JobRaster
from .job_file import JobFile
from .map_blocks import StoredLook, StoredTiles
from .output import Announce
from .planning import area_in, plan_of

CLASSES, CONFIDENCE = "classes", "confidence"


def map_paths(folder: Path, rasters: list[JobRaster], kind: str) -> dict[int, Path]:
    """Return a file name for each raster's map, by the raster's number; equal names of rasters get numbers.

    Args:
        folder: of the maps.
        rasters: of the job.
        kind: :data:`CLASSES` or :data:`CONFIDENCE`.
    """
    taken: set[str] = set()
    paths = {}
    for raster in rasters:
        stem = Path(raster.uri).stem or f"raster{raster.number}"
        name = stem if stem.lower() not in taken else f"{stem}_{raster.number}"
        taken.add(name.lower())
        paths[raster.number] = folder / f"{name}_{kind}.tif"
    return paths


def write_map(
    job: JobFile,
    raster: JobRaster,
    output: Path,
    confidence: Path | None,
    progress: Progress,
    announce: Announce | None = None,
) -> None:
    """Write the class map of a raster. Files appear in one step.

    Args:
        job: with the raster's units done.
        raster: of the job, opened.
        output: for the classes; must not exist.
        confidence: for the confidence; None for nowhere.
        progress: hears of the work; may cancel.
        announce: told of each finished file just before it takes its place; None for nobody.

    Raises:
        OutputError: a file exists, or cannot be written.
    """
    header = job.header
    if raster.info is None:
        raise OutputError(f"The raster {raster.uri} was not looked at yet. Resume the job.")
    plan = plan_of(header, job.area, raster, registry.card(header.spec.model).input_size)
    mapper = Mapper(plan, StoredTiles(job, raster), StoredLook(len(header.classes)), progress)
    tags = {"SAMTUNE_ADAPTER": header.adapter_name, "SAMTUNE_MODEL": header.spec.model}
    with contextlib.ExitStack() as files:
        classes = files.enter_context(MapFile(output, mapper.grid, MapLegend(header.classes, tags)))
        sure = None
        if confidence is not None:
            legend = MapLegend(tags=tags | {"UNIT": "percent"}, averaged=True)
            sure = files.enter_context(MapFile(confidence, mapper.grid, legend))
        mapper.map(area_in(job.area, raster.info), classes, sure)
        for file in (classes, sure):
            if file is not None:
                file.optimise()
        for file in (classes, sure):
            if file is not None:
                if announce is not None:
                    announce(file.made, file.path)
                file.publish()
