"""Comparing adapters on labelled polygons: with the shipped model on made-up discs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import shapely
from samtune.engine.adapter_compare import Comparing
from samtune.engine.adapters import AdapterService
from samtune.engine.area_messages import CompareParams, CompareResult
from samtune.engine.device import DeviceChoice
from samtune.engine.messages import RasterSpec
from samtune.engine.model_service import ModelService
from samtune.engine.progress import NullProgress
from samtune.engine.tune_messages import LabelSource, PictureKind
from samtune.engine.wire import from_wire, to_wire
from samtune.models import registry
from samtune.models.errors import CancelledByUser
from samtune.models.peft.card_records import HeadKind
from samtune.models.peft.contract import TuningError
from samtune.models.peft.selective import DecoderConfig

from .adapter_files import write_adapter
from .rasters import write

CENTRES = ((60, 60), (180, 70), (70, 190), (190, 180))


@pytest.fixture(scope="module")
def models() -> ModelService:
    card = replace(registry.card("tiny"), input_size=128)
    return ModelService(Path("nowhere"), DeviceChoice("cpu", "", 1), {"tiny": card})


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> CompareParams:
    """Four discs, no adapters yet."""
    folder = tmp_path_factory.mktemp("compare")
    rows, columns = np.mgrid[:256, :256]
    picture = np.full((3, 256, 256), 60, np.uint8)
    for x, y in CENTRES:
        picture[:, (columns - x) ** 2 + (rows - y) ** 2 < 20**2] = 200
    raster = write(folder / "discs.tif", picture)
    import rasterio

    with rasterio.open(raster) as dataset:
        grid, crs = dataset.transform, dataset.crs.to_wkt()
    shapes = [shapely.Point(grid @ (x, y)).buffer(20 * grid.a) for x, y in CENTRES]
    labels = folder / "labels.gpkg"
    geometry = np.array([shapely.to_wkb(shape) for shape in shapes], object)
    pyogrio.raw.write(labels, geometry, [], [], geometry_type="Polygon", crs=crs)
    spec = RasterSpec(str(raster), (1, 2, 3))
    return CompareParams(spec, "tiny", "", "", LabelSource(str(labels), class_name="disc"))


def spoilt(folder: Path, models: ModelService, **more: object) -> str:
    """Write an adapter whose decoder says anything."""
    model = models.get("tiny")
    return str(write_adapter(folder / "wild.safetensors", model.card, model.network, DecoderConfig(), by=0.3, **more))


def compared(models: ModelService, params: CompareParams) -> CompareResult:
    return Comparing(models, AdapterService()).compare(params, NullProgress())


def test_a_spoilt_adapter_is_worse_than_the_model_as_it_is(
    models: ModelService, params: CompareParams, tmp_path: Path
) -> None:
    result = compared(models, replace(params, second_adapter=spoilt(tmp_path, models)))
    assert result.objects == len(CENTRES)
    rows = {row.name: row for row in result.figures}
    assert rows["iou"].after < rows["iou"].before - 0.1
    assert rows["iou"].low <= rows["iou"].after - rows["iou"].before <= rows["iou"].high
    assert result.sentence.startswith("wild is worse than tiny here")
    assert {picture.kind for picture in result.pictures} == {PictureKind.LOSS}
    assert 1 <= len(result.pictures) <= params.pictures
    assert from_wire(CompareResult, to_wire(result)) == result


def test_fewer_objects_are_measured_where_that_is_asked_for(
    models: ModelService, params: CompareParams, tmp_path: Path
) -> None:
    wild = spoilt(tmp_path, models)
    result = compared(models, replace(params, first=wild, most=2, pictures=0))
    assert (result.objects, result.pictures) == (2, ())
    assert "tiny" in result.sentence


def test_what_cannot_be_compared_is_refused(models: ModelService, params: CompareParams, tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="Both are the same"):
        compared(models, params)
    maps = spoilt(tmp_path, models, head=HeadKind.SEMANTIC)
    with pytest.raises(TuningError, match="class maps"):
        compared(models, replace(params, first=maps))


def test_it_can_be_cancelled(models: ModelService, params: CompareParams, tmp_path: Path) -> None:
    class Stop(NullProgress):
        calls = 0

        def check(self) -> None:
            Stop.calls += 1
            if Stop.calls > 6:
                raise CancelledByUser

    given = replace(params, first=spoilt(tmp_path, models))
    with pytest.raises(CancelledByUser):
        Comparing(models, AdapterService()).compare(given, Stop())
    assert Stop.calls == 7
