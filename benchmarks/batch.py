"""Measure batch jobs: speed against the bare network, memory against the raster's size, and results after kill -9.

Speed: the tiles of a job against the same network on the same tiles, read beforehand, timed before and after in the
same process. Memory: the peak of a job on a virtual raster of real imagery, 40,000 pixels wide against 4,000; each is
stopped after the same number of tiles. Kills: a job whose process is killed at random moments and resumed, against one
that was left alone, feature by feature.

    python benchmarks/batch.py [--json] [--quick] [--kills N] [--only speed,memory,kills]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "docs" / "sample" / "neon_osbs.tif"


def make_importable() -> None:
    """Have this checkout found as ``samtune``, and nothing in this folder found as a package of the same name."""
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [place for place in sys.path if place != here]
    spec = importlib.util.spec_from_file_location("samtune_bootstrap", ROOT / "engine" / "bootstrap.py")
    if spec is None or spec.loader is None:
        raise SystemExit("engine/bootstrap.py is missing")
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    bootstrap.make_importable(ROOT)


def mosaic(path: Path, side: int, source: Path = SAMPLE) -> Path:
    """Describe a square raster of the sample tile (or another raster), side by side."""
    import rasterio

    with rasterio.open(source) as tile:
        step, profile = tile.width, tile.profile
        wkt, place = tile.crs.to_wkt(), ", ".join(repr(value) for value in tile.transform.to_gdal())
    lines = [f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><SRS>{escaped(wkt)}</SRS>']
    lines.append(f"<GeoTransform>{place}</GeoTransform>")
    for band in range(1, profile["count"] + 1):
        lines.append(f'<VRTRasterBand dataType="Byte" band="{band}">')
        for y in range(0, side, step):
            for x in range(0, side, step):
                wide, high = min(step, side - x), min(step, side - y)
                lines.append(
                    f'<SimpleSource><SourceFilename relativeToVRT="0">{source}</SourceFilename><SourceBand>{band}'
                    f'</SourceBand><SourceProperties RasterXSize="{step}" RasterYSize="{step}" DataType="Byte"/>'
                    f'<SrcRect xOff="0" yOff="0" xSize="{wide}" ySize="{high}"/>'
                    f'<DstRect xOff="{x}" yOff="{y}" xSize="{wide}" ySize="{high}"/></SimpleSource>'
                )
        lines.append("</VRTRasterBand>")
    lines.append("</VRTDataset>")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def escaped(text: str) -> str:
    """Return a text as XML takes it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


class Counting:
    """Notes when each tile was done, and stops after so many."""

    def __init__(self, most: int) -> None:
        """Begin.

        Args:
            most: tiles; then the job is cancelled.
        """
        self.times: list[float] = []
        self._most = most

    def report(self, _fraction: float, message: str) -> None:
        """Count the reports of tiles."""
        if " tiles" in message:
            self.times.append(time.perf_counter())

    def check(self) -> None:
        """Stop when there are enough."""
        from samtune.models.errors import CancelledByUser

        if len(self.times) >= self._most:
            raise CancelledByUser

    @property
    def rate(self) -> float:
        """Tiles per second; the first one brought the loading with it."""
        return (len(self.times) - 1) / (self.times[-1] - self.times[0])


def job_spec(raster: Path, task: str, points: Path | None, output: Path | None) -> Any:
    """Return a job on one raster."""
    from samtune.engine.batch_messages import (
        BatchOptions,
        BatchOutputs,
        BatchRasters,
        BatchSpec,
        BatchTask,
        VectorSource,
    )

    return BatchSpec(
        BatchTask(task),
        BatchRasters((str(raster),)),
        prompts=VectorSource(str(points) if points else ""),
        outputs=BatchOutputs(str(output) if output else ""),
        options=BatchOptions(tiles=2),
    )


def run_job(folder: Path, spec: Any, threads: int, most: int) -> Counting:
    """Do a job with a store of its own, up to so many tiles."""
    from samtune.engine.batch.items import Machine
    from samtune.engine.batch.service import BatchService
    from samtune.engine.batch_messages import BatchRunParams
    from samtune.models.errors import CancelledByUser

    counting = Counting(most)
    name = f"{time.monotonic_ns()}"
    store = str(folder / f"store-{name}")
    # Jobs are stopped long before a large raster's embeddings would fill any disk.
    service = BatchService(Machine(store_dir=store, device="cpu", threads=threads, store_bytes=1 << 50))
    try:
        service.run(BatchRunParams(str(folder / f"{name}.samjob"), spec), counting)
    except CancelledByUser:
        return counting
    return counting


def bare(raster: Path, threads: int, tiles: int, points: int) -> float:
    """Return tiles per second of the network alone, with so many decoded points per tile."""
    import numpy as np
    import torch
    from samtune.engine.crops import Crop
    from samtune.engine.device import choose
    from samtune.engine.messages import RasterSpec
    from samtune.engine.model_service import ModelService
    from samtune.engine.raster_source import RasterSource

    model = ModelService(ROOT / "models", choose("cpu", threads)).get("tiny")
    torch.set_num_threads(threads)
    source = RasterSource(RasterSpec(str(raster)))
    size = model.card.input_size
    pictures = []
    for number in range(tiles + 1):
        pixels = source.read(Crop(0, size, size // 2 * number, 0), lambda: None)
        pictures.append((source.picture(pixels), pixels.valid))
    begun = 0.0
    place, label = np.array([[size / 2, size / 2]], np.float32), np.ones(1, np.int64)
    for number, (image, valid) in enumerate(pictures):
        if number == 1:
            begun = time.perf_counter()
        embedding = model.encode(image, valid)
        for _ in range(points):
            model.decode(embedding, place, label)
    return tiles / (time.perf_counter() - begun)


def speed(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Compare jobs with the bare network."""
    tiles, threads = (6 if quick else 60), max(1, len(os.sched_getaffinity(0)) - 1)
    raster = mosaic(folder / "speed.vrt", 256 * (tiles + 6))
    found: dict[str, Any] = {"tiles": tiles, "threads": threads}
    before = bare(raster, threads, tiles, 0)
    embeddings = run_job(folder, job_spec(raster, "embeddings", None, None), threads, tiles + 1).rate
    after = bare(raster, threads, tiles, 0)
    found["encode"] = {"bare": [before, after], "job": embeddings, "ratio": embeddings / ((before + after) / 2)}
    points = prompts_file(folder / "speed.gpkg", raster, [(256 * (n + 1), 256) for n in range(tiles + 2)])
    before = bare(raster, threads, tiles, 1)
    prompts = run_job(folder, job_spec(raster, "prompts", points, folder / "speed-out.gpkg"), threads, tiles + 1).rate
    after = bare(raster, threads, tiles, 1)
    found["encode and decode"] = {"bare": [before, after], "job": prompts, "ratio": prompts / ((before + after) / 2)}
    return found


def prompts_file(path: Path, raster: Path, pixels: list[tuple[float, float]]) -> Path:
    """Write points at places of a raster, in pixels."""
    import numpy as np
    import pyogrio
    import rasterio
    import shapely

    with rasterio.open(raster) as dataset:
        places = [dataset.transform @ pixel for pixel in pixels]
        crs = dataset.crs.to_wkt()
    wkb = np.array([shapely.Point(place).wkb for place in places], object)
    pyogrio.raw.write(path, wkb, [np.arange(len(wkb))], ["number"], geometry_type="Point", crs=crs, driver="GPKG")
    return path


def peak_bytes(arguments: list[str]) -> int:
    """Run this file in a process of its own and return its peak memory."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def memory(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Compare peaks on a small and a large raster."""
    tiles = "6" if quick else "80"
    found = {}
    small = mosaic(folder / "memory-4000.vrt", 4_000)
    # of the small one: a description of ten thousand tiles would take more memory itself than anything that is measured
    large = mosaic(folder / "memory-40000.vrt", 40_000, small)
    for side, raster in ((4_000, small), (40_000, large)):
        found[str(side)] = peak_bytes(["--child", "memory", str(raster), str(folder), tiles])
    return {"bytes": found, "tiles": int(tiles), "ratio": found["40000"] / found["4000"]}


def child_memory(raster: Path, folder: Path, tiles: int) -> None:
    """Do part of a job and print the peak memory."""
    import resource

    run_job(folder, job_spec(raster, "embeddings", None, None), 1, tiles)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def child_job(job: Path, folder: Path) -> None:
    """Go on with a job, in small units: more moments to be killed at."""
    from samtune.engine.batch import planning
    from samtune.engine.batch.items import Machine
    from samtune.engine.batch.service import BatchService
    from samtune.engine.batch_messages import BatchRunParams
    from samtune.engine.progress import NullProgress

    planning.PROMPTS_PER_UNIT = 2
    service = BatchService(Machine(store_dir=str(folder / "store"), device="cpu", threads=1))
    service.run(BatchRunParams(str(job)), NullProgress())


def contents(path: Path) -> list[str]:
    """Return a file's features but for their times, in an order of their own."""
    import pyogrio

    facts, _, geometries, values = pyogrio.raw.read(path)
    kept = [column for name, column in zip(facts["fields"], values, strict=True) if name != "time"]
    return sorted(repr((bytes(wkb), *row)) for wkb, row in zip(geometries, zip(*kept, strict=True), strict=True))


def kills(folder: Path, number: int, *, quick: bool) -> dict[str, Any]:
    """Kill a job's process at random moments, resume it, and compare with one that was left alone."""
    from samtune.engine.batch.service import make_job

    side, prompts = (1_000, 12) if quick else (3_000, 60)
    raster = mosaic(folder / "kills.vrt", side)
    rng = random.Random(0)
    points = prompts_file(
        folder / "kills.gpkg",
        raster,
        [(rng.uniform(50, side - 50), rng.uniform(50, side - 50)) for _ in range(prompts)],
    )
    whole, killed = folder / "whole.samjob", folder / "killed.samjob"
    for path in (whole, killed):
        make_job(path, replace(job_spec(raster, "prompts", points, path.with_suffix(".out.gpkg"))))
    begun = time.monotonic()
    subprocess.run([sys.executable, __file__, "--child", "job", str(whole), str(folder)], check=True)
    lasts, done = time.monotonic() - begun, 0
    while done < number:
        command = [sys.executable, __file__, "--child", "job", str(killed), str(folder)]
        process = subprocess.Popen(command)
        try:
            process.wait(rng.uniform(0.0, lasts))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            done += 1
        if process.wait() == 0:  # done before it was killed: make the outputs again while kills are left
            killed.with_suffix(".out.gpkg").unlink()
    subprocess.run([sys.executable, __file__, "--child", "job", str(killed), str(folder)], check=True)
    first, second = (contents(path.with_suffix(".out.gpkg")) for path in (whole, killed))
    return {"kills": done, "features": len(first), "equal": first == second}


def sections(args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what was asked for, one by one."""
    if "speed" in args.only:
        yield "speed", speed(folder, quick=args.quick)
    if "memory" in args.only:
        yield "memory", memory(folder, quick=args.quick)
    if "kills" in args.only and args.kills:
        yield "kills", kills(folder, args.kills, quick=args.quick)


def main() -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="few tiles, to see whether it runs; figures mean little")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--only", type=lambda text: text.split(","), default=["speed", "memory", "kills"])
    parser.add_argument("--child", nargs="+", default=[], help=argparse.SUPPRESS)
    args = parser.parse_args()
    make_importable()
    if args.child:
        kind, *rest = args.child
        if kind == "memory":
            child_memory(Path(rest[0]), Path(rest[1]), int(rest[2]))
        else:
            child_job(Path(rest[0]), Path(rest[1]))
        return 0
    with tempfile.TemporaryDirectory() as name:
        found = {}
        for section, figures in sections(args, Path(name)):
            found[section] = figures
            if not args.json:
                print(section, json.dumps(figures, indent=2), flush=True)
    if args.json:
        print(json.dumps(found, indent=2))
    return 0 if found.get("kills", {}).get("equal", True) else 1


if __name__ == "__main__":
    sys.exit(main())
