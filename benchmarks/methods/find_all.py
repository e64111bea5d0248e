"""Find all on real imagery, the whole way: ``python benchmarks/find_all.py``.

Images of NWPU VHR-10 (``val.json``) with a class are laid side by side in one raster, and some in which there is none
of it. Images are drawn by the seed until there are enough objects to learn from; all of these lie in the labelled
extent, as where an analyst drew every one of an area. Then ``samtune find`` searches all other images. An object is
found where an outline has an IoU above 0.5 with it; each outline can find one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pyogrio
import rasterio
import shapely
import torch
from numpy.typing import NDArray
from samtune.engine.cli import main as samtune
from samtune.engine.progress import NullProgress
from samtune.engine.tune_ladder import Situation, recommended
from samtune.engine.tuning.run import tune
from samtune.engine.tuning.settings import Task, TuneSettings
from shapely.geometry.base import BaseGeometry
from skimage import io as images

from .data import NWPU, folder
from .polygons import Polygons, service

CRS = "EPSG:32633"
EAST, NORTH = 500_000, 5_000_000
"""Upper left corner of the raster; a metre a pixel."""

LEAST = 100
"""Pixels of an object that counts."""

EMPTY = 5
"""Images without the class that are searched too."""

THRESHOLD = 0.5
THRESHOLDS = (0.15, 0.3)
"""Chances from which on something counts as an object; the second is what is usual."""


@dataclass(frozen=True)
class Image:
    """One image with the outlines of one class, in its pixels."""

    path: Path
    outlines: tuple[BaseGeometry, ...]


def images_of(data: Path, kind: str) -> list[Image]:
    """Return all images of the validation part with the outlines of a class.

    Args:
        data: the folder.
        kind: the class, as the data set calls it.
    """
    root = folder(data, NWPU) / NWPU
    document = json.loads((root / "val.json").read_text(encoding="utf-8"))
    wanted = {record["id"] for record in document["categories"] if record["name"] == kind}
    outlines: dict[int, list[BaseGeometry]] = {record["id"]: [] for record in document["images"]}
    for record in document["annotations"]:
        if record["category_id"] in wanted:
            rings = [shapely.Polygon(np.reshape(ring, (-1, 2))) for ring in record["segmentation"] if len(ring) >= 6]
            shape = shapely.make_valid(shapely.union_all(rings))
            if shape.area >= LEAST:
                outlines[record["image_id"]].append(shape)
    return [
        Image(next(root.rglob(Path(record["file_name"]).name)), tuple(outlines[record["id"]]))
        for record in document["images"]
    ]


@dataclass(frozen=True)
class Ground:
    """Images side by side.

    Attributes:
        learnt: what is learnt from.
        extent: where everything of it is labelled, and
        area: what is searched, both vector files.
        sought: outlines there.
    """

    learnt: Polygons
    extent: Path
    area: Path
    sought: tuple[BaseGeometry, ...]


def ground(pictures: Sequence[Image], kind: str, objects: int, seed: int, place: Path) -> Ground:
    """Lay images out, and part them.

    Args:
        pictures: all there are.
        kind: the class.
        objects: to learn from, about.
        seed: of the draw.
        place: folder for the files.
    """
    rng = np.random.default_rng([seed, 7])
    holding = [image for image in pictures if image.outlines]
    empty = [image for image in pictures if not image.outlines]
    chosen = [holding[n] for n in rng.permutation(len(holding))]
    chosen += [empty[n] for n in rng.permutation(len(empty))[:EMPTY]]
    read = [np.maximum(images.imread(image.path)[..., :3], 1) for image in chosen]
    cell = max(max(picture.shape[:2]) for picture in read)
    columns = int(np.ceil(np.sqrt(len(read))))
    whole = np.zeros((3, cell * -(-len(read) // columns), cell * columns), np.uint8)
    boxes, shapes, known = [], [], 0
    for number, (image, picture) in enumerate(zip(chosen, read, strict=True)):
        top, left = (cell * part for part in divmod(number, columns))
        high, wide = picture.shape[:2]
        whole[:, top : top + high, left : left + wide] = picture.transpose(2, 0, 1)
        boxes.append(shapely.box(EAST + left, NORTH - top - high, EAST + left + wide, NORTH - top))
        shapes.append([_placed(outline, left, top) for outline in image.outlines])
        known = number + 1 if sum(map(len, shapes[:number])) < objects else known
    raster = _written(place / "images.tif", whole)
    learnt = tuple(shape for group in shapes[:known] for shape in group)
    polygons = Polygons(
        kind, raster, (1, 2, 3), learnt, (kind,) * len(learnt), rasterio.crs.CRS.from_string(CRS).to_wkt()
    )
    extent, area = (
        _boxes(place / f"{name}.gpkg", some) for name, some in (("extent", boxes[:known]), ("area", boxes[known:]))
    )
    return Ground(polygons, extent, area, tuple(shape for group in shapes[known:] for shape in group))


def _placed(outline: BaseGeometry, left: int, top: int) -> BaseGeometry:
    return shapely.transform(outline, lambda xy: xy * [1.0, -1.0] + np.array([EAST + left, NORTH - top]))


def _written(path: Path, whole: NDArray[np.uint8]) -> Path:
    _, height, width = whole.shape
    grid = rasterio.transform.Affine(1, 0, EAST, 0, -1, NORTH)
    with rasterio.open(path, "w", "GTiff", width, height, 3, CRS, grid, "uint8", nodata=0) as dataset:
        dataset.write(whole)
    return path


def _boxes(path: Path, boxes: Sequence[BaseGeometry]) -> Path:
    wkb = np.array([box.wkb for box in boxes], object)
    pyogrio.raw.write(path, wkb, [np.arange(len(wkb))], ["n"], geometry_type="Polygon", crs=CRS, driver="GPKG")
    return path


def matched(sought: Sequence[BaseGeometry], outlines: Sequence[BaseGeometry]) -> int:
    """Count objects that are found, each outline finding one at most; the best pairs first."""
    pairs = []
    tree = shapely.STRtree(outlines)
    for number, shape in enumerate(sought):
        for other in tree.query(shape, predicate="intersects").tolist():
            common = shape.intersection(outlines[other]).area
            pairs.append((common / (shape.area + outlines[other].area - common), number, other))
    objects: set[int] = set()
    used: set[int] = set()
    for share, number, other in sorted(pairs, reverse=True):
        if share > THRESHOLD and number not in objects and other not in used:
            objects.add(number)
            used.add(other)
    return len(objects)


def located(sought: Sequence[BaseGeometry], outlines: Sequence[BaseGeometry]) -> int:
    """Count objects in which the middle of an outline lies, however well it is drawn."""
    tree = shapely.STRtree([outline.centroid for outline in outlines])
    return sum(bool(len(tree.query(shape, predicate="contains"))) for shape in sought)


def found(adapter: Path, there: Ground, place: Path, threshold: float) -> list[BaseGeometry]:
    """Search, by the command line."""
    output = place / "found.gpkg"
    words = ["find", str(there.learnt.raster), "--adapter", str(adapter), "--area", str(there.area), "-o", str(output)]
    words += ["--threshold", str(threshold), "--device", "cpu", "--store-dir", str(place / "store"), "--overwrite"]
    with contextlib.redirect_stdout(io.StringIO()):
        status = samtune(words)
    if status not in (0, 3):
        raise SystemExit(f"samtune {' '.join(words)} ended with {status}")
    return [] if status else list(shapely.from_wkb(pyogrio.raw.read(output)[2]))


def run(kind: str, seed: int, args: argparse.Namespace, report: ModuleType) -> list[object]:
    """Learn and search once; return lines of the table."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        there = ground(images_of(args.data, kind), kind, args.objects, seed, place)
        count = len(there.learnt.shapes)
        rung = recommended(Situation(count, Task.INSTANCES))
        steps = 2 if args.quick else args.steps or rung.schedule.steps
        settings = TuneSettings(
            rasters=(there.learnt.raster,),
            labels=there.learnt.write(place / "learnt.gpkg"),
            output=place / "adapter.safetensors",
            methods=rung.methods,
            task=Task.INSTANCES,
            rgb=(1, 2, 3),
            extent=there.extent,
            schedule=type(rung.schedule)(**{**vars(rung.schedule), "steps": steps}),
            seed=seed,
        )
        begun = time.process_time()
        result = tune(settings, service(args.threads), NullProgress())
        worked = time.process_time() - begun
        rows: list[object] = []
        for threshold in THRESHOLDS:
            outlines = found(settings.output, there, place, threshold)
            right = matched(there.sought, outlines)
            places = located(there.sought, outlines)
            note = (
                f"of {len(there.sought)}; {right} by IoU > {THRESHOLD}; {len(outlines)} outlines; learnt from {count}, "
            )
            note += f"{steps} steps, {worked:.0f} s of processor time; own verdict: {result.verdict.value}"
            rows.append(report.Row(f"{kind}, seed {seed}, chance >= {threshold}: located", places, "", "", note))
            print(f"  {rows[-1]}", flush=True)
        return rows


def measure(args: argparse.Namespace, report: ModuleType) -> None:
    """Run everything and print the table.

    Args:
        args: those of benchmarks/find_all.py.
        report: the module of tables.
    """
    torch.set_num_threads(args.threads)
    rows = [
        row
        for kind in args.kinds
        for seed in range(1 if args.quick else args.seeds)
        for row in run(kind, seed, args, report)
    ]
    report.publish(
        "Find all on images of NWPU VHR-10 (val.json) that took no part",
        rows,
        args.json,
        command="python benchmarks/find_all.py --data DATA" + (f" --steps {args.steps}" if args.steps else ""),
        torch=torch.__version__,
    )
