"""From drawn outlines to everything found: what the ladder recommends, tuned, then applied to ground without labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from samtune.engine.adapters import AdapterService
from samtune.engine.area_messages import FindParams
from samtune.engine.areas.service import AreaService
from samtune.engine.messages import RasterSpec
from samtune.engine.progress import NullProgress
from samtune.engine.store import EmbeddingStore
from samtune.engine.tune_ladder import Situation, recommended
from samtune.engine.tuning.run import tune
from samtune.engine.tuning.settings import Labels, Task, TuneSettings
from scipy import ndimage
from shapely import affinity
from shapely.geometry.base import BaseGeometry

from ..tuning.ground import LEFT, PIXEL, TOP, service, write_raster, write_shapes

SIZE, DRAWN = 640, 384


@dataclass(frozen=True)
class Village:
    """Roofs among ponds and plots; those of one corner are drawn."""

    raster: Path
    labels: Path
    extent: Path
    roofs: tuple[BaseGeometry, ...]


def noise(rng: np.random.Generator, sigma: float) -> NDArray[np.float64]:
    found = ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), sigma)
    return found / found.std()


def scattered(
    rng: np.random.Generator, count: int, taken: list[BaseGeometry], sides: tuple[float, float]
) -> list[BaseGeometry]:
    """Return turned rectangles that keep away from each other and from what is taken, which they are added to."""
    found = []
    while len(found) < count:
        x, y = rng.uniform(24, SIZE - 24, 2)
        wide, high = rng.uniform(*sides), rng.uniform(*sides) * 0.75
        box = affinity.rotate(shapely.box(x - wide / 2, y - high / 2, x + wide / 2, y + high / 2), rng.uniform(0, 180))
        if not any(box.distance(other) < 5 for other in taken):
            taken.append(box)
            found.append(box)
    return found


def on_map(shape: BaseGeometry) -> BaseGeometry:
    return shapely.transform(shape, lambda xy: np.column_stack([LEFT + xy[:, 0] * PIXEL, TOP - xy[:, 1] * PIXEL]))


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory) -> Village:
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("village")
    texture = 10 * noise(rng, 30) + 8 * noise(rng, 6) + 5 * noise(rng, 1.5)
    picture = np.array([100.0, 112.0, 78.0])[:, None, None] + texture
    taken: list[BaseGeometry] = []
    roofs = scattered(rng, 80, taken, (26, 36))
    ponds = [box.buffer(-6).buffer(6) for box in scattered(rng, 20, taken, (18, 40))]
    plots = scattered(rng, 20, taken, (18, 50))
    for shape in (*ponds, *plots, *roofs):
        inside = rasterize([shape], (SIZE, SIZE)).astype(bool)
        colours = [(46, 66, 86)] * len(ponds) if shape in ponds else [(128, 140, 70)]
        if shape in roofs:
            colours = [(170, 90, 70), (190, 180, 170), (110, 105, 110)]
            shadow = rasterize([affinity.translate(shape, 3, 3)], (SIZE, SIZE)).astype(bool) & ~inside
            picture[:, shadow] *= 0.6
        colour = np.array(colours[rng.integers(len(colours))]) + rng.normal(0, 8, 3)
        picture[:, inside] = colour[:, None] + 0.5 * texture[inside]
    picture = ndimage.gaussian_filter(picture, (0, 0.7, 0.7)) + rng.normal(0, 3, picture.shape)
    raster = write_raster(folder / "village.tif", np.clip(picture, 0, 255).astype(np.uint8))
    corner = shapely.box(0, 0, DRAWN, DRAWN)
    known = [on_map(roof) for roof in roofs if corner.contains(roof.centroid)]
    labels = write_shapes(folder / "roofs.gpkg", known, ["roof"] * len(known))
    extent = write_shapes(folder / "extent.gpkg", [on_map(corner)])
    return Village(raster, labels, extent, tuple(on_map(roof) for roof in roofs))


def iou(one: BaseGeometry, other: BaseGeometry) -> float:
    both = one.intersection(other).area
    return both / (one.area + other.area - both)


def found_and_invented(answers: list[BaseGeometry], truths: list[BaseGeometry]) -> tuple[int, int]:
    """Return how many truths an answer fits, and how many answers fit none."""
    table = np.array([[iou(answer, truth) for truth in truths] for answer in answers]).reshape(-1, len(truths))
    return int((table > 0.5).any(axis=0).sum()), int((~(table > 0.5).any(axis=1)).sum())


def test_what_was_drawn_in_a_corner_is_found_in_the_rest(village: Village, tmp_path: Path) -> None:
    rung = recommended(Situation(30, Task.INSTANCES))
    models = service(256)
    settings = TuneSettings(
        rasters=(village.raster,),
        labels=Labels(village.labels, class_field="kind"),
        output=tmp_path / "roofs.safetensors",
        methods=rung.methods,
        task=Task.INSTANCES,
        extent=village.extent,
        schedule=replace(rung.schedule, steps=40, checks=1),
    )
    tune(settings, models, NullProgress())
    areas = AreaService(models, EmbeddingStore(tmp_path / "store", 10**9), AdapterService())
    params = FindParams(RasterSpec(str(village.raster)), "tiny", str(settings.output))
    answer = areas.find(params, NullProgress())
    corner = on_map(shapely.box(0, 0, DRAWN, DRAWN))
    outlines = [shapely.from_wkb(bytes.fromhex(item.wkb)) for item in answer.objects]
    apart = [outline for outline in outlines if not corner.contains(outline.centroid)]
    truths = [roof for roof in village.roofs if not corner.contains(roof.centroid)]
    found, invented = found_and_invented(apart, truths)
    measured = f"{found} of {len(truths)} found, {invented} invented"
    assert found >= 0.7 * len(truths), measured
    assert invented <= 0.4 * len(truths), measured
