"""Packing of labelled sets, with regions from classical segmentation as extra noisy layers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from skimage import draw, io, measure, segmentation

from .pack import write_entry

Layer = tuple[str, NDArray[np.uint16]]

# scale and smallest region (pixels) of felzenszwalb's segmentation, fine to coarse
FELZENSZWALB = {"felz-fine": (60.0, 60), "felz-middle": (300.0, 200), "felz-coarse": (1200.0, 600)}
_SMALLEST = 40


@dataclass(frozen=True)
class Job:
    """One image to pack: its set, its name there, and how to read it with its labels."""

    source: str
    name: str
    read: Callable[[], tuple[NDArray[np.uint8], list[Layer]]]

    @property
    def entry_name(self) -> str:
        """Its name in the pack."""
        return f"{self.source}-{self.name}"


def pool_jobs(pool: Path, *, nwpu_part: str = "train") -> list[Job]:
    """List the images of a pool folder.

    Its sets are ``nwpu``, ``water``, ``roads``, ``coast`` and ``bsds``, those that are there.

    Args:
        pool: the folder.
        nwpu_part: ``train`` or ``val``; with ``val`` only those images are listed, since they are for evaluation.
    """
    jobs = list(_nwpu_jobs(pool / "nwpu", nwpu_part)) if (pool / "nwpu").is_dir() else []
    if nwpu_part == "val":
        return jobs
    for source in ("water", "roads", "coast"):
        jobs.extend(_binary_jobs(pool / source, source))
    jobs.extend(_bsds_jobs(pool / "bsds"))
    return jobs


def image_jobs(folder: Path, source: str, bands: tuple[int, ...]) -> list[Job]:
    """List the rasters of a folder, which nobody has labelled; their regions serve as masks.

    Args:
        folder: of 8-bit rasters.
        source: name of the set.
        bands: three band numbers, counted from 1, taken as RGB.
    """
    return [
        Job(source, path.stem, partial(_read_unlabelled, path, bands))
        for path in sorted(folder.glob("*"))
        if path.suffix.lower() in {".tif", ".tiff", ".png", ".jpg"}
    ]


def _read_unlabelled(path: Path, bands: tuple[int, ...]) -> tuple[NDArray[np.uint8], list[Layer]]:
    with rasterio.open(path) as dataset:
        return np.ascontiguousarray(np.moveaxis(dataset.read(list(bands)), 0, -1), np.uint8), []


def pack_job(job: Job, folder: Path, *, regions: bool) -> None:
    """Read, segment and write one image.

    Args:
        job: the image.
        folder: the pack.
        regions: whether to add the felzenszwalb layers.
    """
    image, layers = job.read()
    if regions:
        layers = layers + region_layers(image)
    write_entry(folder, job.entry_name, job.source, image, layers)


def region_layers(image: NDArray[np.uint8]) -> list[Layer]:
    """Return felzenszwalb's regions at three scales, as noisy class-agnostic masks of an (H, W, 3) uint8 image."""
    layers: list[Layer] = []
    for kind, (scale, smallest) in FELZENSZWALB.items():
        regions = segmentation.felzenszwalb(image, scale=scale, sigma=0.8, min_size=smallest)
        layers.append((kind, (regions + 1).astype(np.uint16)))
    return layers


def components(mask: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Number the connected parts (8-neighbourhood) of a mask from 1; parts of under 40 pixels become 0."""
    parts = measure.label(mask, connectivity=2)  # type: ignore[no-untyped-call]
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    keep = np.flatnonzero(sizes >= _SMALLEST)
    table = np.zeros(len(sizes), np.uint16)
    table[keep] = np.arange(1, len(keep) + 1)
    return table[parts]


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image file as (H, W, 3) uint8."""
    image = np.asarray(io.imread(path))
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    return np.ascontiguousarray(image[..., :3], np.uint8)


def _nwpu_jobs(folder: Path, part: str) -> Iterator[Job]:
    document = json.loads((folder / f"{part}.json").read_text(encoding="utf-8"))
    outlines: dict[int, list[list[list[float]]]] = {}
    for annotation in document["annotations"]:
        outlines.setdefault(annotation["image_id"], []).append(annotation["segmentation"])
    for record in document["images"]:
        path = folder / "images" / Path(record["file_name"]).name
        yield Job("nwpu", path.stem, partial(_read_coco, path, outlines.get(record["id"], [])))


def _read_coco(path: Path, objects: list[list[list[float]]]) -> tuple[NDArray[np.uint8], list[Layer]]:
    image = read_rgb(path)
    shape = (image.shape[0], image.shape[1])
    masks = [polygon_mask(polygons, shape) for polygons in objects]
    labels = np.zeros(shape, np.uint16)
    # Large objects first: a vehicle on a bridge stays visible.
    for number, mask in enumerate(sorted(masks, key=lambda mask: -int(mask.sum())), start=1):
        labels[mask] = number
    return image, [("instance", labels)]


def polygon_mask(polygons: list[list[float]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Fill COCO polygons (flat lists x, y, x, y ... in pixels) into an (H, W) mask."""
    mask = np.zeros(shape, np.bool_)
    for flat in polygons:
        corners = np.asarray(flat, float).reshape(-1, 2) - 0.5
        mask[draw.polygon(corners[:, 1], corners[:, 0], shape)] = True  # type: ignore[no-untyped-call]
    return mask


def _binary_jobs(folder: Path, source: str) -> Iterator[Job]:
    masks = {path.stem: path for path in (folder / "masks").glob("*")} if folder.is_dir() else {}
    for path in sorted((folder / "images").glob("*")):
        if path.stem in masks:
            yield Job(source, path.stem, partial(_read_binary, path, masks[path.stem]))


def _read_binary(path: Path, mask_path: Path) -> tuple[NDArray[np.uint8], list[Layer]]:
    mask = np.asarray(io.imread(mask_path)) > 0
    if mask.ndim == 3:
        mask = np.asarray(mask.any(axis=2))
    layers = [("part", components(mask)), ("class", mask.astype(np.uint16)), ("part", components(~mask))]
    return read_rgb(path), layers


def _bsds_jobs(folder: Path) -> Iterator[Job]:
    for path in sorted((folder / "images").glob("*")) if folder.is_dir() else ():
        labels = folder / "labels" / f"{path.stem}.png"
        yield Job("bsds", path.stem, partial(_read_bsds, path, labels))


def _read_bsds(path: Path, labels_path: Path) -> tuple[NDArray[np.uint8], list[Layer]]:
    labels = np.asarray(io.imread(labels_path)).astype(np.uint16)
    return read_rgb(path), [("segment", labels[..., channel] + 1) for channel in range(labels.shape[2])]
