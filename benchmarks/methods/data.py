"""The labelled data of the tables, read from a folder that the user names; nothing of it belongs to the project."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from samtune.engine.evaluate.labels import Labelled
from samtune.engine.pretrain.pool import polygon_mask
from samtune.models.tiny import MEAN, STD
from skimage import io, measure

SIDE = 256
LEVIR = "methods/levir_dsifn_change_samples"
NWPU = "pool/nwpu"
WATER = "pool/water"
LANDSAT = "methods/landsat7_nc_multispectral"
ENMAP = "methods/enmap_potsdam_hyperspectral"
SENTINEL = "methods/s2_cropland_10band_2tiles"

UNKNOWN = -1


class NoDataError(SystemExit):
    """The folder with the data was not named, or lacks something; the program ends and says what."""


@dataclass(frozen=True)
class Scene:
    """A crop with objects.

    Attributes:
        name: for tables.
        image: (S, S, 3) uint8.
        masks: (M, S, S) bool.
        place: which image it was cut from; training and test share none.
    """

    name: str
    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    place: str


def folder(data: Path | None, *names: str) -> Path:
    """Return the folder with the data, after a look whether it holds what is wanted.

    Raises:
        NoDataError: it does not.
    """
    wanted = ", ".join(names)
    if data is None:
        raise NoDataError(f"This table needs --data FOLDER with {wanted} in it; see benchmarks/README.md.")
    missing = [name for name in names if not (data / name).exists()]
    if missing:
        raise NoDataError(f"{data} lacks {', '.join(missing)}; this table needs {wanted}, see benchmarks/README.md.")
    return data


def fingerprint(arrays: Sequence[NDArray[np.generic]]) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 of what was really used, in order."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(str((array.shape, array.dtype.str)).encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:12]


def normalised(images: NDArray[np.uint8]) -> torch.Tensor:
    """Turn (B, S, S, 3) uint8 into the encoder's (B, 3, S, S) float32."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() - mean) / std


def change_objects(data: Path, part: str, least: int = 60, greatest: int = 20_000) -> list[Scene]:
    """Return the later images of LEVIR or DSIFN with what is new in them, mostly houses.

    Args:
        data: the folder.
        part: ``LEVIR`` or ``DSIFN``.
        least: objects of fewer pixels are left out.
        greatest: and of more.
    """
    root = data / LEVIR / f"samples_{part}"
    found = []
    for path in sorted((root / "label").glob("*.png")):
        label = io.imread(path)
        parts = measure.label((label if label.ndim == 2 else label[..., 0]) > 127, connectivity=1)
        masks = [parts == region.label for region in measure.regionprops(parts) if least <= region.area <= greatest]
        if masks:
            image = io.imread(root / "B" / path.name)[..., :3]
            found.append(Scene(f"{part} {path.stem}", image.astype(np.uint8), np.stack(masks), path.stem))
    return found


def close_ups(scenes: Sequence[Scene], window: int = 64, zoom: int = 2) -> list[Scene]:
    """Return one crop around each object, magnified, as the plugin would show a small object to the model.

    Args:
        scenes: with any number of objects; those larger than the window are left out.
        window: side of the crop in image pixels.
        zoom: input pixels of an image pixel.
    """
    found = []
    for scene in scenes:
        for mask in scene.masks:
            rows, columns = np.nonzero(mask)
            if max(np.ptp(rows), np.ptp(columns)) >= window:
                continue
            start = [
                int(np.clip((places.min() + places.max() + 1 - window) // 2, 0, length - window))
                for places, length in zip((rows, columns), mask.shape, strict=True)
            ]
            part = (slice(start[0], start[0] + window), slice(start[1], start[1] + window))
            grown = torch.nn.functional.interpolate(
                torch.from_numpy(scene.image[part].copy()).permute(2, 0, 1)[None].float(),
                scale_factor=zoom,
                mode="bilinear",
                align_corners=False,
            )
            image = grown[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
            found.append(Scene(scene.name, image, mask[part].repeat(zoom, 0).repeat(zoom, 1)[None], scene.place))
    return found


def pictures(data: Path, part: str) -> list[NDArray[np.uint8]]:
    """Return the earlier images of LEVIR or DSIFN, (S, S, 3) uint8: ground that nobody labelled."""
    paths = sorted((data / LEVIR / f"samples_{part}" / "A").glob("*.png"))
    return [io.imread(path)[:SIDE, :SIDE, :3].astype(np.uint8) for path in paths]


def nwpu_scenes(data: Path, part: str = "val", least: int = 100) -> list[Scene]:
    """Return 256 px crops of NWPU VHR-10, one around each group of objects, at the images' own resolution.

    Args:
        data: the folder.
        part: ``val`` or ``train``.
        least: objects of fewer pixels are left out.
    """
    document = json.loads((data / NWPU / f"{part}.json").read_text(encoding="utf-8"))
    names = {record["id"]: record["name"] for record in document["categories"]}
    listed: dict[int, list[tuple[str, list[list[float]]]]] = {}
    for record in document["annotations"]:
        entry = (names[record["category_id"]], record["segmentation"])
        listed.setdefault(record["image_id"], []).append(entry)
    found: list[Scene] = []
    for record in document["images"]:
        path = next((data / NWPU).rglob(Path(record["file_name"]).name))
        image = io.imread(path)[..., :3].astype(np.uint8)
        masks = [(name, polygon_mask(outline, image.shape[:2])) for name, outline in listed.get(record["id"], [])]
        found.extend(_cut(image, masks, record["file_name"], least))
    return found


def _cut(
    image: NDArray[np.uint8], masks: Sequence[tuple[str, NDArray[np.bool_]]], place: str, least: int
) -> Iterator[Scene]:
    """Yield a crop per class around its first object that fits, with all objects of the class that lie in it whole."""
    if min(image.shape[:2]) < SIDE:
        return
    for name in dict.fromkeys(name for name, _ in masks):
        own = [mask for other, mask in masks if other == name and mask.sum() >= least]
        for mask in own:
            rows, columns = np.nonzero(mask)
            if max(np.ptp(rows), np.ptp(columns)) >= SIDE - 16:
                continue
            top = int(np.clip((rows.min() + rows.max() - SIDE) // 2, 0, image.shape[0] - SIDE))
            left = int(np.clip((columns.min() + columns.max() - SIDE) // 2, 0, image.shape[1] - SIDE))
            window = (slice(top, top + SIDE), slice(left, left + SIDE))
            whole = [other[window] for other in own if other[window].sum() == other.sum()]
            yield Scene(name, image[window], np.stack(whole), place)
            break


def water_scenes(data: Path, most: int, rng: np.random.Generator) -> list[Scene]:
    """Return random 256 px crops of Sentinel-2 with the largest water body in each."""
    paths = sorted((data / WATER / "images").glob("*"))
    found: list[Scene] = []
    for index in rng.permutation(len(paths)):
        image = io.imread(paths[index])[..., :3].astype(np.uint8)
        label = io.imread(next((data / WATER / "masks").glob(f"{paths[index].stem}.*"))) > 0
        if min(image.shape[:2]) < SIDE or label.shape[:2] != image.shape[:2]:
            continue
        top, left = (int(rng.integers(0, length - SIDE + 1)) for length in image.shape[:2])
        window = (slice(top, top + SIDE), slice(left, left + SIDE))
        parts = measure.label(label[window] if label.ndim == 2 else label[window][..., 0], connectivity=1)
        regions = [r for r in measure.regionprops(parts) if 400 <= r.area <= 0.6 * SIDE * SIDE]
        if regions:
            largest = max(regions, key=lambda region: region.area)
            found.append(Scene("water", image[window], (parts == largest.label)[None], paths[index].stem))
        if len(found) == most:
            break
    return found


@dataclass(frozen=True)
class Bands:
    """Ground with many bands and a class map.

    Attributes:
        name: of the set.
        values: (C, H, W) float32, NaN where there is no data.
        rgb: the three bands shown as red, green and blue.
        second: three bands that the image does not show, as a second modality.
        classes: (H, W) int64, ``UNKNOWN`` where nothing is known.
        groups: (H, W) int64: labelled pixels of one number are on the same side of a split.
        zoom: how many input pixels a pixel is shown as.
    """

    name: str
    values: NDArray[np.float32]
    rgb: tuple[int, int, int]
    second: tuple[int, int, int]
    classes: NDArray[np.int64]
    groups: NDArray[np.int64]
    zoom: int


def landsat(data: Path) -> Bands:
    """Return Landsat 7 over North Carolina with 34 labelled polygons, each a group of its own."""
    root = data / LANDSAT
    with rasterio.open(root / "landsat_multiband.tif") as dataset:
        values = dataset.read().astype(np.float32)
        values[values == dataset.nodata] = np.nan
        shape, grid = dataset.shape, dataset.transform
    labelled = Labelled(root / "landsat_multiband.tif", root / "landsat96_polygons.shp", "id", least=1)
    classes = np.full(shape, UNKNOWN, np.int64)
    groups = np.full(shape, UNKNOWN, np.int64)
    for number, target in enumerate(labelled.targets()):
        classes[target.mask] = int(float(target.label)) - 1
        groups[target.mask] = number
    if not (classes >= 0).any():
        raise NoDataError(f"No polygon of {root} lies on its raster ({grid}).")
    # Blue, green, red, near and short-wave infrared lie in this order.
    return Bands("Landsat", values, (2, 1, 0), (3, 4, 4), classes, groups, 4)


def enmap(data: Path) -> Bands:
    """Return EnMAP over Potsdam: 18 tiles of 32 px with 224 bands, laid side by side; each tile is a group."""
    root = data / ENMAP
    paths = sorted((root / "images").glob("*.tif"))
    columns = 6
    values = np.full((224, 32 * (len(paths) // columns), 32 * columns), np.nan, np.float32)
    classes = np.full(values.shape[1:], UNKNOWN, np.int64)
    groups = np.full(values.shape[1:], UNKNOWN, np.int64)
    for number, path in enumerate(paths):
        row, column = divmod(number, columns)
        window = (slice(32 * row, 32 * row + 32), slice(32 * column, 32 * column + 32))
        with rasterio.open(path) as dataset:
            tile = dataset.read().astype(np.float32)
        with rasterio.open(root / "labels" / path.name) as dataset:
            label = dataset.read(1).astype(np.int64)
        tile[tile <= -30_000] = np.nan
        values[(slice(None), *window)] = tile
        classes[window], groups[window] = label - 1, number  # 0 is unlabelled, and so becomes UNKNOWN
    # About 640, 550 and 470 nm, and 860, 1650 and 2200 nm.
    return Bands("EnMAP", values, (44, 28, 12), (72, 140, 190), classes, groups, 8)


def sentinel(data: Path) -> Bands:
    """Return Sentinel-2 over fields: two tiles of 256 px side by side, 10 bands; groups are blocks of 64 px."""
    tiles, maps = [], []
    for number in (1, 2):
        with rasterio.open(data / SENTINEL / "imgs" / f"{number}.tif") as dataset:
            tiles.append(dataset.read().astype(np.float32))
        with rasterio.open(data / SENTINEL / "masks" / f"{number}.tif") as dataset:
            maps.append(dataset.read(1).astype(np.int64))
    values, label = np.concatenate(tiles, axis=2), np.concatenate(maps, axis=1)
    classes = np.where((label >= 40) & (label <= 240), label // 40 - 1, UNKNOWN)
    rows, columns = np.indices(label.shape) // 64
    return Bands("Sentinel-2", values, (2, 1, 0), (6, 3, 8), classes, rows * 8 + columns, 4)
