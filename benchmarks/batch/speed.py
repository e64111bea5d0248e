"""Tiles per second of a job, against the bare network on the same tiles.

Both take turns in one process, so that what else the machine does hits both: bare, job, bare, job, ..., bare. Each turn
of the job stands against the bare ones before and after it. The bare network gets pictures that lie ready; the job
reads, computes, shapes, and writes its store, its file and its output.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from samtune.engine.batch_messages import BatchTask
from samtune.engine.crops import Crop
from samtune.engine.device import choose
from samtune.engine.messages import RasterSpec
from samtune.engine.model_service import ModelService
from samtune.engine.raster_source import RasterSource

from .base import ROOT, Counting, Options, run_job, spec_of
from .scenes import mosaic, prompts_file

AIM = ">= 0.9"


def pictures_of(raster: Path, size: int, tiles: int) -> list[tuple[Any, Any]]:
    """Read the tiles of a raster of one row."""
    source = RasterSource(RasterSpec(str(raster), bands=(1, 2, 3)))
    read = [source.read(Crop(0, size, size // 2 * number, 0), lambda: None) for number in range(tiles)]
    return [(source.picture(pixels), pixels.valid) for pixels in read]


def bare(model: Any, pictures: list[tuple[Any, Any]], points: int) -> float:
    """Return tiles per second of the network alone, with so many decoded points per tile."""
    size = model.card.input_size
    place, label = np.array([[size / 2, size / 2]], np.float32), np.ones(1, np.int64)
    begun = time.perf_counter()
    for image, valid in pictures:
        embedding = model.encode(image, valid)
        for _ in range(points):
            model.decode(embedding, place, label)
    return len(pictures) / (time.perf_counter() - begun)


def measure(options: Options) -> list[Any]:
    """Compare jobs with the bare network."""
    torch.set_num_threads(1)
    rounds, tiles = (1, 4) if options.quick else (6, 16)
    models = ModelService(ROOT / "models", choose("cpu", 1))
    model = models.get("tiny")
    half = model.card.input_size // 2
    raster = mosaic(options.folder / "speed.vrt", half * (tiles + 1), 2 * half)
    pictures = pictures_of(raster, 2 * half, tiles)
    points = prompts_file(options.folder / "speed.gpkg", raster, [(half * (n + 1), half) for n in range(tiles)])
    bare(model, pictures[:1], 1)
    rows = []
    for name, decoded in (("encoder", 0), ("encoder and decoder", 1)):
        ratios, bares, jobs = [], [bare(model, pictures, decoded)], []
        for number in range(rounds):
            output = options.folder / f"speed-{number}.gpkg" if decoded else None
            task = BatchTask.PROMPTS if decoded else BatchTask.EMBEDDINGS
            # A fixed level: objects that reach over their crop are not asked for again, which bare would not do.
            spec = spec_of(raster, task, output, points if decoded else None, level=0)
            counting = Counting()
            run_job(options.folder, spec, counting, models)
            jobs.append(counting.rate())
            bares.append(bare(model, pictures, decoded))
            ratios.append(jobs[-1] / ((bares[-2] + bares[-1]) / 2))
        note = f"{rounds} rounds of {tiles} tiles; {options.report.spread(ratios)}; tiles a second: bare "
        note += f"{statistics.median(bares):.3g}, job {statistics.median(jobs):.3g}"
        rows.append(options.report.Row(f"speed: job / bare {name}", statistics.median(ratios), "x", AIM, note))
    return rows
