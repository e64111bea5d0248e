"""Small made-up ground: rasters with objects on them, and the polygons of those."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyogrio.raw
import rasterio
import shapely
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from samtune.engine.crops import RasterFrame
from samtune.engine.device import DeviceChoice
from samtune.engine.model_service import ModelService
from samtune.engine.tuning.settings import Labels, Schedule, TuneSettings
from samtune.models import registry
from samtune.models.peft.selective import DecoderConfig

CRS = "EPSG:32633"
LEFT, TOP, PIXEL = 500_000.0, 5_300_000.0, 0.5


@dataclass(frozen=True)
class Ground:
    """A raster and its labels."""

    raster: Path
    labels: Path
    frame: RasterFrame
    circles: tuple[tuple[float, float, float], ...]

    def settings(self, output: Path, **changes: object) -> TuneSettings:
        """Return short settings for it."""
        given: dict[str, object] = {
            "rasters": (self.raster,),
            "labels": Labels(self.labels, class_field="kind"),
            "output": output,
            "methods": (DecoderConfig(),),
            "level": 0,
            "schedule": Schedule(steps=2, batch=1, objects=2, prompts=2, checks=1),
        }
        return TuneSettings(**(given | changes))


def service(size: int = 128) -> ModelService:
    """Return the shipped model on the processor, on crops of a quarter of its usual side, for speed."""
    card = replace(registry.card("tiny"), input_size=size)
    return ModelService(Path("nowhere"), DeviceChoice("cpu", "", 1), {"tiny": card})


def make_ground(folder: Path, size: int = 512, each: int = 4, bands: int = 3, seed: int = 0) -> Ground:
    """Write a raster with striped discs on striped ground, which a model that was never shown any cannot tell."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    picture = np.stack([96 + 40 * np.sin(columns / (3 + band)) for band in range(bands)])
    circles = []
    step = size / each
    for row in range(each):
        for column in range(each):
            x, y = (column + 0.5) * step + rng.uniform(-0.1, 0.1) * step, (row + 0.5) * step
            radius = rng.uniform(0.12, 0.25) * step
            inside = (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 < radius**2
            for band in range(bands):
                picture[band][inside] = (96 + 40 * np.sin(rows / (3 + band)))[inside]
            circles.append((x, y, radius))
    picture += rng.normal(0, 4, picture.shape)
    raster = folder / "ground.tif"
    write_raster(raster, np.clip(picture, 0, 255).astype(np.uint8))
    labels = folder / "labels.gpkg"
    shapes = [shapely.Point(LEFT + x * PIXEL, TOP - y * PIXEL).buffer(r * PIXEL) for x, y, r in circles]
    write_shapes(labels, shapes, ["disc" if index % 2 else "ring" for index in range(len(shapes))])
    return Ground(raster, labels, RasterFrame(size, size, (LEFT, PIXEL, 0, TOP, 0, -PIXEL)), tuple(circles))


def write_raster(path: Path, values: np.ndarray, crs: str = CRS, pixel: float = PIXEL, **options: object) -> Path:
    """Write (C, H, W) values, north up, the first corner where all made-up ground begins."""
    grid = Affine(pixel, 0, LEFT, 0, -pixel, TOP)
    profile = {"driver": "GTiff", "count": len(values), "dtype": values.dtype, "crs": crs, "transform": grid}
    with rasterio.open(path, "w", height=values.shape[1], width=values.shape[2], **profile, **options) as dataset:
        dataset.write(values)
        if len(values) > 3:  # a fourth band of bytes would be taken for transparency
            dataset.colorinterp = [ColorInterp.undefined] * len(values)
    return path


def write_shapes(path: Path, shapes: list[object], kinds: list[str] | None = None, crs: str = CRS) -> Path:
    """Write geometries with a field ``kind``."""
    geometry = np.array([shapely.to_wkb(shape) for shape in shapes], object)
    columns = np.array(kinds or ["thing"] * len(shapes), object)
    kind = "Unknown" if len({shape.geom_type for shape in shapes}) > 1 else shapes[0].geom_type
    pyogrio.raw.write(path, geometry, [columns], ["kind"], geometry_type=kind, crs=crs)
    return path
