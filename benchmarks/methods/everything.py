"""Everything outlined: what a rule keeps and what it loses. ``python benchmarks/everything.py --data DATA``.

Labelled images say how many of their objects are found; nobody has labelled everything, so what is found besides is
only counted. A good rule finds as many labelled objects as keeping all would, with few outlines that lie on each other.
The answers are the same for all rules: each crop is asked about once (once for the answers to points alone, once with
boxes), and the rules choose. The sample rasters go through real jobs, with the shipped rule.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pyogrio
import rasterio
import shapely
import torch
from numpy.typing import NDArray
from samtune.engine.batch.items import Machine
from samtune.engine.batch.service import BatchService
from samtune.engine.batch_messages import (
    BatchOptions,
    BatchOutputs,
    BatchRasters,
    BatchRunParams,
    BatchSpec,
    BatchTask,
)
from samtune.engine.progress import NullProgress
from samtune.models.card import Automatic
from samtune.models.everything import Candidates, candidates, grid
from samtune.models.promptable import PromptableModel
from skimage import io

from .data import NWPU, fingerprint, folder, polygon_mask
from .polygons import SAMPLE, service

POINTS = 12
LEAST = 100
"""Pixels of a labelled object that counts."""

CELL = 4
GENERATOR = Automatic()
"""The published one, for SAM's own weights."""

LOOSE = Automatic(iou=0.35, stability=0.0, overlap=0.5, agreement=0.01)
RULES = (
    ("points: all", replace(GENERATOR, iou=0.0, stability=0.0)),
    ("points: as published", GENERATOR),
    ("boxes: all", LOOSE),
    *(
        (
            f"boxes: agreement {agreement}, stability {stability}",
            replace(LOOSE, agreement=agreement, stability=stability),
        )
        for agreement in (0.6, 0.7, 0.8)
        for stability in (0.0, 0.3, 0.5)
    ),
    ("boxes: agreement 0.7, stability 0.3, IoU 0.5", replace(LOOSE, iou=0.5, agreement=0.7, stability=0.3)),
)
SAMPLES = (("neon_osbs.tif", ()), ("landsat_raleigh.tif", (4, 3, 2)))


@dataclass(frozen=True)
class Shown:
    """A labelled image as the model sees it.

    Attributes:
        image: (S, S, 3) uint8, and
        valid: (S, S), where it is.
        masks: (M, S / 4, S / 4) bool of the objects that lie in it as a whole.
    """

    image: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    masks: NDArray[np.bool_]


@dataclass
class Tally:
    """What a rule kept so far.

    Attributes:
        kept: outlines.
        within: of each, the share that lies in the one that holds most of it.
        hit: best IoU of each labelled object.
    """

    kept: int = 0
    within: list[float] = field(default_factory=list)
    hit: list[float] = field(default_factory=list)

    def add(self, found: NDArray[np.bool_], masks: NDArray[np.bool_]) -> None:
        """Count what was kept of one image: (N, h, w), with (M, h, w) objects."""
        flat, truth = (part.reshape(len(part), part[0].size if len(part) else 0) for part in (found, masks))
        flat, truth = flat.astype(np.float32), truth.astype(np.float32)
        self.kept += len(flat)
        if not len(flat):
            self.hit.extend([0.0] * len(truth))
            return
        both, area = truth @ flat.T, flat.sum(axis=1)
        self.hit.extend((both / (truth.sum(axis=1)[:, None] + area - both)).max(axis=1).tolist())
        shared = flat @ flat.T
        np.fill_diagonal(shared, 0)
        self.within.extend((shared / area[:, None]).max(axis=1).tolist())


def nwpu_images(data: Path, size: int, most: int) -> Iterator[Shown]:
    """Yield labelled images, cut or filled up at their lower right; which ones is drawn with seed 0."""
    document = json.loads((data / NWPU / "val.json").read_text(encoding="utf-8"))
    outlines: dict[int, list[list[list[float]]]] = {}
    for record in document["annotations"]:
        outlines.setdefault(record["image_id"], []).append(record["segmentation"])
    for number in np.random.default_rng(0).permutation(len(document["images"])).tolist():
        record = document["images"][number]
        pixels = io.imread(next((data / NWPU).rglob(Path(record["file_name"]).name)))[:size, :size, :3]
        image, valid = np.zeros((size, size, 3), np.uint8), np.zeros((size, size), bool)
        image[: pixels.shape[0], : pixels.shape[1]] = pixels
        valid[: pixels.shape[0], : pixels.shape[1]] = True
        whole = [polygon_mask(outline, (record["height"], record["width"])) for outline in outlines[record["id"]]]
        masks = [mask for mask in whole if mask.sum() >= LEAST and not (mask[size:].any() or mask[:, size:].any())]
        if masks:
            yield Shown(image, valid, np.stack([_small(mask, size) for mask in masks]))
            most -= 1
        if not most:
            return


def _small(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Return a mask in the cells of the model's answers."""
    filled = np.zeros((size, size), bool)
    part = mask[:size, :size]
    filled[: part.shape[0], : part.shape[1]] = part
    return filled[CELL // 2 :: CELL, CELL // 2 :: CELL]


def asked(model: PromptableModel, shown: Shown, side: int) -> tuple[Candidates, Candidates]:
    """Return all answers to points, and all answers to their boxes."""
    points = grid(len(shown.valid), side)
    columns, rows = points.astype(np.int64).T
    points = points[shown.valid[rows, columns]]
    embedding = model.encode(shown.image, shown.valid)
    everything = replace(GENERATOR, iou=0.0, stability=0.0, overlap=1.0)
    return (
        candidates(model, embedding, points, everything, shown.valid),
        candidates(model, embedding, points, LOOSE, shown.valid),
    )


def job(service_: BatchService, name: str, bands: Sequence[int], side: int) -> tuple[int, float, float]:
    """Outline everything in a sample raster; return objects, objects per km2, and the median of what lies in others."""
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "all.gpkg"
        spec = BatchSpec(
            BatchTask.AUTOMATIC,
            BatchRasters((str(SAMPLE / name),), bands=tuple(bands)),
            outputs=BatchOutputs(str(output)),
            options=BatchOptions(points=side),
        )
        service_.run(BatchRunParams(str(Path(place) / "all.samjob"), spec), NullProgress())
        shapes = shapely.from_wkb(pyogrio.raw.read(output)[2])
    with rasterio.open(SAMPLE / name) as dataset:
        ground = (dataset.bounds.right - dataset.bounds.left) * (dataset.bounds.top - dataset.bounds.bottom) / 1e6
    within = [
        max((shapely.intersection(one, other).area / one.area for other in shapes if other is not one), default=0.0)
        for one in shapes
    ]
    return len(shapes), len(shapes) / ground, float(np.median(within)) if within else 0.0


def measure(args: argparse.Namespace, report: ModuleType) -> None:
    """Run everything and print the table.

    Args:
        args: ``quick``, ``json``, ``data``, ``images`` and ``only``.
        report: the module of tables.
    """
    torch.set_num_threads(1)
    models = service(1)
    model, began = models.get("tiny"), time.process_time()
    side = 4 if args.quick else POINTS
    rows: list[object] = []
    facts: dict[str, object] = {}
    if args.only == "labelled" or (args.only is None and args.data is not None):
        images = list(nwpu_images(folder(args.data, NWPU), model.card.input_size, 1 if args.quick else args.images))
        rows.extend(_rules(model, images, side, report))
        facts["labelled"] = (
            f"{len(images)} images of NWPU VHR-10's val.json drawn with seed 0, {sum(len(s.masks) for s in images)} "
            f"objects, data {fingerprint([part for s in images for part in (s.image, s.masks)])}"
        )
    if args.only != "labelled":
        with tempfile.TemporaryDirectory() as store:
            service_ = BatchService(Machine(store_dir=store, device="cpu", threads=1), models)
            for name, bands in SAMPLES:
                count, density, within = job(service_, name, bands, side)
                note = f"{count} objects; half lie to less than {within:.2f} in another one"
                rows.append(report.Row(f"{name}, as shipped", density, "/km2", "", note))
    report.publish(
        "Segment everything",
        rows,
        args.json,
        command=" ".join(
            [
                "python benchmarks/everything.py",
                *(["--data DATA"] if args.data else []),
                *([f"--only {args.only}"] if args.only else []),
                "--quick" if args.quick else f"--images {args.images}",
            ]
        ),
        model=f"tiny, SHA-256 {model.card.sha256[:12]}, rule {model.card.automatic}",
        points=f"{side} a side",
        **facts,
        torch=f"{torch.__version__}, 1 thread",
        processor_minutes=round((time.process_time() - began) / 60, 1),
    )


def _rules(model: PromptableModel, images: Sequence[Shown], side: int, report: ModuleType) -> Iterator[object]:
    tallies = [Tally() for _ in RULES]
    for number, shown in enumerate(images):
        once, twice = asked(model, shown, side)
        for tally, (_, rule) in zip(tallies, RULES, strict=True):
            found = (twice if rule.agreement else once).chosen(rule)
            tally.add((found.logits > 0).cpu().numpy(), shown.masks)
        print(f"  image {number + 1} of {len(images)}", flush=True)
    for tally, (name, _) in zip(tallies, RULES, strict=True):
        hits = np.array(tally.hit)
        note = (
            f"IoU > 0.7: {100 * (hits > 0.7).mean():.0f} %; {tally.kept / len(images):.1f} outlines an image; half lie "
            f"to less than {np.median(tally.within or [0.0]):.2f} in another one"
        )
        yield report.Row(f"{name}: objects found", 100 * float((hits > 0.5).mean()), "%", "", note)
