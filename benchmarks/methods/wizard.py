"""From ten polygons to an adapter, on a processor: ``python benchmarks/wizard.py``.

The whole chain as the wizard's engine side does it, with ``tiny`` and two threads: read the polygons, hold every block
of ground out once, train, measure, check on other imagery, write the adapter and its report. Then base and adapter are
measured once more on the polygons that took no part at all, as ``samtune adapter compare`` does: that gain is the one
in the table. The rungs are those of the ladder, with their own schedules. Holding out, which trains five times, is left
out by ``--gain-only``.

Without ``--data`` the set is the built-up areas of the Landsat scene that ships with SamTune. With it, a folder as for
benchmarks/methods.py: also buildings on a raster of heights above ground, and water bodies on Sentinel-2 (``tiny`` has
seen these images, but outlines the bodies badly by clicks), whose images are laid out side by side in one raster.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import rasterio
import rasterio.features
import shapely.geometry
import torch
from samtune.engine.adapter_compare import Comparing
from samtune.engine.adapters import AdapterService
from samtune.engine.area_messages import CompareParams
from samtune.engine.messages import RasterSpec
from samtune.engine.model_service import ModelService
from samtune.engine.progress import NullProgress
from samtune.engine.tune_ladder import DECODER, INSTANT, Situation, rungs
from samtune.engine.tune_messages import LabelSource
from samtune.engine.tuning.run import tune
from samtune.engine.tuning.settings import TuneSettings

from .data import Scene, water_scenes
from .polygons import Polygons, read, sample, service

OBJECTS = 10
HOLD_OUT = 0.2
MOST = 15
"""Polygons measured in the end."""

AIM_GAIN = 0.10
AIM_SECONDS = {DECODER: 300.0, INSTANT: 20.0}
WEAK = 0.5
"""IoU of the base after one click below which it is called weak."""

GRID = rasterio.transform.Affine(1, 0, 0, 0, -1, 0)
"""Of a raster of images side by side: a metre a pixel, y upwards."""

WATERS = 36
"""Images of water bodies."""

HEIGHTS = "methods/opengeos_dsm_hag_buildings"


@dataclass(frozen=True)
class Figure:
    """What one run gave.

    Attributes:
        before: IoU after one click of the base, on polygons that took no part.
        after: of the adapter.
        verdict: of the run's own hold-out,
        own: with the gain it found there and the 95 % interval, mean of the IoU after clicks and for the box, and
        follows: whether its answers fit the polygons where they lie.
        seconds: from the polygons to the report, by the clock.
        worked: processor seconds of all threads in that time.
    """

    before: float
    after: float
    verdict: str
    own: tuple[float, float, float]
    follows: bool
    seconds: float
    worked: float


def sets(data: Path | None, folder: Path) -> Iterator[Polygons]:
    """Yield sets of polygons of one class each, with more of them than are learnt from.

    Args:
        data: where the sets lie that do not ship; None for the one that does.
        folder: for rasters that are made.
    """
    whole = sample()
    yield whole.only([n for n, kind in enumerate(whole.kinds) if kind == "built"])
    if data is None:
        return
    root = data / HEIGHTS
    found = read("heights", root / "hag.tif", root / "buildings.shp", "", (1,))
    yield Polygons(found.name, found.raster, found.bands, found.shapes, ("building",) * len(found.shapes), found.crs)
    water = water_scenes(data, WATERS, np.random.default_rng(0))
    yield side_by_side(water, "sentinel2_water", "water", folder)


def side_by_side(scenes: Sequence[Scene], name: str, kind: str, folder: Path) -> Polygons:
    """Lay images out in one raster, with the outlines of their objects.

    Args:
        scenes: of one size.
        name: of the set.
        kind: class of the objects.
        folder: for the raster.
    """
    cell = len(scenes[0].image)
    columns = int(np.ceil(np.sqrt(len(scenes))))
    side = cell * columns
    picture = np.zeros((3, side, side), np.uint8)
    shapes = []
    for number, scene in enumerate(scenes):
        top, left = (cell * place for place in divmod(number, columns))
        picture[:, top : top + cell, left : left + cell] = scene.image.transpose(2, 0, 1)
        for mask in scene.masks:
            parts = rasterio.features.shapes(mask.astype(np.uint8), mask)
            largest = max((shapely.geometry.shape(shape) for shape, _ in parts), key=lambda shape: shape.area)
            shapes.append(shapely.transform(largest, lambda xy, x=left, y=top: (xy + np.array([x, y])) * [1.0, -1.0]))
    path = folder / f"{name}.tif"
    with rasterio.open(path, "w", "GTiff", side, side, 3, "EPSG:32633", GRID, "uint8") as dataset:
        dataset.write(picture)
        crs = dataset.crs.to_wkt()
    return Polygons(name, path, (1, 2, 3), tuple(shapes), (kind,) * len(shapes), crs)


def run(found: Polygons, rung: str, seed: int, folder: Path, models: ModelService, args: argparse.Namespace) -> Figure:
    """Tune on ten polygons, measure on the others."""
    order = np.random.default_rng([seed, 3]).permutation(len(found.shapes)).tolist()
    learnt, rest = found.only(sorted(order[:OBJECTS])), found.only(sorted(order[OBJECTS:]))
    chosen = next(one for one in rungs(Situation(OBJECTS)) if one.name == rung)
    schedule = chosen.schedule if not args.quick else type(chosen.schedule)(**{**vars(chosen.schedule), "steps": 2})
    settings = TuneSettings(
        rasters=(found.raster,),
        labels=learnt.write(folder / "learnt.gpkg"),
        output=folder / "adapter.safetensors",
        methods=chosen.methods,
        rgb=found.bands,
        schedule=schedule,
        hold_out=0.0 if args.gain_only else HOLD_OUT,
        seed=seed,
    )
    began, idle = time.monotonic(), time.process_time()
    result = tune(settings, models, NullProgress())
    seconds, worked = time.monotonic() - began, time.process_time() - idle
    kept = rest.write(folder / "rest.gpkg")
    params = CompareParams(
        RasterSpec(str(found.raster), found.bands),
        settings.model,
        "",
        str(settings.output),
        LabelSource(str(kept.path), class_field=kept.class_field),
        most=4 if args.quick else MOST,
        pictures=0,
    )
    compared = Comparing(models, AdapterService()).compare(params, NullProgress())
    row = next(row for row in compared.figures if row.name == "iou_1_click" and not row.group)
    own = result.gain or (float("nan"),) * 3
    return Figure(row.before, row.after, result.verdict.value, own, bool(result.follows), seconds, worked)


def rows_of(
    found: Polygons, rung: str, figures: list[Figure], report: ModuleType, args: argparse.Namespace
) -> list[object]:
    """Return the lines of a set and a rung."""
    before = statistics.fmean(figure.before for figure in figures)
    gains = [figure.after - figure.before for figure in figures]
    name = f"{found.name}, {found.kinds[0]}, {rung}"
    verdicts = ", ".join(f"{figure.verdict} ({figure.own[0]:+.3f})" for figure in figures)
    gain = ", ".join(f"{value:+.3f}" for value in gains)
    aim = f">= {AIM_GAIN}" if before < WEAK and rung == DECODER else ""
    seconds = max(figure.seconds for figure in figures)
    worked = f"{max(figure.worked for figure in figures):.0f} s of processor time"
    gained = report.Row(
        f"{name}: gain after 1 click", statistics.fmean(gains), "IoU", aim, f"base {before:.3f}; {gain}"
    )
    if args.gain_only:
        return [gained]
    return [
        gained,
        report.Row(f"{name}: time", seconds, "s", f"<= {AIM_SECONDS[rung]:g}", f"{worked}; own verdicts: {verdicts}"),
    ]


def measure(args: argparse.Namespace, report: ModuleType) -> None:
    """Run everything and print the table.

    Args:
        args: those of benchmarks/wizard.py.
        report: the module of tables.
    """
    torch.set_num_threads(args.threads)
    models = service(args.threads)
    seeds = range(1 if args.quick else args.seeds)
    rows: list[object] = []
    hashes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as place:
        for found in sets(args.data, Path(place)):
            if args.sets and found.name not in args.sets:
                continue
            hashes[f"{found.name}, {found.kinds[0]}"] = f"SHA-256 {found.digest()}, {len(found.shapes)} polygons"
            for rung in (DECODER, INSTANT):
                figures = []
                for seed in seeds:
                    with tempfile.TemporaryDirectory() as name:
                        figures.append(run(found, rung, seed, Path(name), models, args))
                    print(f"  {found.name}, {rung}, seed {seed}: {figures[-1]}", flush=True)
                rows += rows_of(found, rung, figures, report, args)
    report.publish(
        f"Ten polygons, {args.threads} threads: IoU after one click on polygons that took no part, and seconds in all",
        rows,
        args.json,
        command="python benchmarks/wizard.py" + " --data DATA" * bool(args.data) + " --gain-only" * args.gain_only,
        data=hashes,
        seeds=f"0 to {len(seeds) - 1}",
        torch=torch.__version__,
    )
