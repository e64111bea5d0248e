"""What adapters see besides the picture: bands and a second raster, on the very ground of the crop, and in use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rasterio.transform import Affine
from samtune.engine.cli import main
from samtune.engine.crops import Crop
from samtune.engine.device import DeviceChoice
from samtune.engine.further_inputs import FurtherInputs, FurtherInputsKeeper, SecondRaster, open_all_bands, read_crop
from samtune.engine.messages import RasterSpec
from samtune.engine.model_service import ModelService
from samtune.engine.raster_source import RasterSource
from samtune.models.encoder import encode
from samtune.models.errors import RasterError, TuningError
from samtune.models.fast_attention import fastest_precision
from samtune.models.peft.band_stem import BandStemConfig
from samtune.models.peft.card_records import BandRecord, InputRecord, SecondRecord
from samtune.models.peft.contract import SideInputs
from samtune.models.peft.mm_adapter import MmAdapterConfig
from samtune.models.promptable import PromptableModel
from samtune.models.side_pixels import SidePixels

from .adapter_files import card_for, moved_adapter, write_adapter
from .rasters import NORTH_UP, disc, write

BANDS = tuple(BandRecord(number, mean=100.0, std=50.0) for number in (1, 2, 3, 4))
SECOND = SecondRecord("height", (1,), ((0.0, 40.0),))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PromptableModel:
    return ModelService(tmp_path_factory.mktemp("models"), DeviceChoice("cpu", "", 1)).get("tiny")


@pytest.fixture
def values() -> NDArray[np.uint8]:
    grey = disc((300, 280), (150.0, 140.0), 40.0, 60.0, 170.0)
    noisy = grey + np.random.default_rng(0).normal(0, 6, grey.shape)
    return np.stack([noisy, noisy * 0.9, noisy * 0.8, 255 - noisy]).clip(0, 255).astype(np.uint8)


@pytest.fixture
def raster(tmp_path: Path, values: NDArray[np.uint8]) -> Path:
    return write(tmp_path / "ponds.tif", values)


@pytest.fixture
def height(tmp_path: Path) -> Path:
    """A height model of a metre per pixel (the raster has half a metre), 40 m wide at the raster's corner."""
    rows = np.arange(40, dtype=np.float32)[:, None] + np.zeros((1, 40), np.float32)
    coarse = NORTH_UP @ Affine.scale(2.0)
    return write(tmp_path / "dsm.tif", rows[None], transform=coarse, nodata=-9999.0)


def test_bands_lie_on_the_crops_pixels(raster: Path, values: NDArray[np.uint8]) -> None:
    with open_all_bands(str(raster)) as dataset:
        whole = read_crop(dataset, (4, 1), Crop(0, 64, 100, 120))
        assert np.array_equal(whole, values[[3, 0], 120:184, 100:164])
        edge = read_crop(dataset, (1,), Crop(0, 64, 260, 280))
        coarse = read_crop(dataset, (2,), Crop(1, 64, 0, 0))
    assert np.array_equal(edge[0, :20, :20], values[0, 280:, 260:])
    assert np.isnan(edge[0, 20:]).all() and np.isnan(edge[0, :, 20:]).all()
    means = values[1, :128, :128].astype(np.float32).reshape(64, 2, 64, 2).mean(axis=(1, 3))
    assert np.abs(coarse[0] - means).max() < 1.0


def test_nodata_is_nan(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.array([[[0, 5], [7, 0]]], np.uint8), nodata=0)
    with open_all_bands(str(path)) as dataset:
        found = read_crop(dataset, (1,), Crop(0, 8, 0, 0))[0]
    assert np.isnan(found[0, 0]) and np.isnan(found[1, 1]) and np.isnan(found[5, 5])
    assert (found[0, 1], found[1, 0]) == (5, 7)


@pytest.mark.parametrize("crs", ["EPSG:32633", None])
def test_the_second_raster_is_brought_onto_the_first_ones_grid(tmp_path: Path, crs: str | None) -> None:
    first = write(tmp_path / "first.tif", np.zeros((1, 100, 100), np.uint8), crs=crs)
    rows = np.arange(40, dtype=np.float32)[:, None] + np.zeros((1, 40), np.float32)
    second = write(tmp_path / "second.tif", rows[None], transform=NORTH_UP @ Affine.scale(2.0), crs=crs)
    source = RasterSource(RasterSpec(str(first)))
    opened = SecondRaster(str(second), "height", SECOND)
    picture, valid = opened.read(source, Crop(0, 96, 0, 0))
    opened.close()
    source.close()
    assert picture.shape == (96, 96, 3)
    assert valid[:80, :80].all() and not valid[80:].any() and not valid[:, 80:].any()
    expected = (np.arange(2, 78) / 2 - 0.25) / 40.0 * 255
    assert np.abs(picture[2:78, 40, 0] - expected).max() <= 1.5, "bilinear between coarser pixels, stretched as given"


def test_the_second_rasters_own_stretch_where_none_is_known(height: Path) -> None:
    opened = SecondRaster(str(height), "height")
    assert opened.record.bands == (1,)
    ((low, high),) = opened.record.stretch
    assert 0 <= low < 5 and 34 < high <= 39
    opened.close()
    with pytest.raises(RasterError):
        SecondRaster(str(height), "height", SecondRecord("height", (2,), ((0.0, 1.0),)))


def test_what_an_adapter_needs_must_be_there(
    raster: Path, height: Path, tmp_path: Path, model: PromptableModel
) -> None:
    with pytest.raises(TuningError, match="--second"):
        FurtherInputs(card_for(model.card, inputs=InputRecord(second=SECOND)), str(raster), "")
    fifth = (*BANDS, BandRecord(5))
    with pytest.raises(TuningError, match="needs band 5"):
        FurtherInputs(card_for(model.card, inputs=InputRecord(bands=fifth)), str(raster), "")
    with pytest.raises(RasterError):
        FurtherInputs(card_for(model.card, inputs=InputRecord(second=SECOND)), str(raster), str(tmp_path / "none.tif"))
    nothing = FurtherInputs(card_for(model.card), str(raster), str(height))
    source = RasterSource(RasterSpec(str(raster)))
    assert nothing.read(source, Crop(0, 64, 0, 0)) is None
    assert nothing.digest == ""
    source.close()


def test_a_second_raster_of_other_ground_is_refused(raster: Path, tmp_path: Path, model: PromptableModel) -> None:
    elsewhere = write(tmp_path / "dsm.tif", np.ones((1, 9, 9), np.uint8), transform=Affine.translation(9e4, 0.0))
    opened = FurtherInputs(card_for(model.card, inputs=InputRecord(second=SECOND)), str(raster), str(elsewhere))
    source = RasterSource(RasterSpec(str(raster)))
    with pytest.raises(RasterError, match="no data here"):
        opened.read(source, Crop(0, 64, 0, 0))
    opened.close()
    source.close()


def test_what_was_opened_is_kept_until_it_changes(raster: Path, height: Path, model: PromptableModel) -> None:
    card = card_for(model.card, inputs=InputRecord(bands=BANDS, second=SECOND))
    other = card_for(model.card, inputs=InputRecord(bands=BANDS[:2], second=SECOND))
    source = RasterSource(RasterSpec(str(raster)))
    keeper = FurtherInputsKeeper(most=1)
    first = keeper.get(card, source, str(height))
    assert keeper.get(card, source, str(height)) is first
    assert len(first.digest) == 64
    second = keeper.get(other, source, str(height))
    assert second.digest != first.digest
    again = keeper.get(card, source, str(height))
    assert again is not first and again.digest == first.digest
    rows = np.ones((1, 41, 40), np.float32)
    write(height, rows, transform=NORTH_UP @ Affine.scale(2.0))
    assert keeper.get(card, source, str(height)).digest != first.digest
    keeper.clear()
    source.close()


def test_a_model_in_use_sees_what_it_saw_in_training(model: PromptableModel) -> None:
    rng = np.random.default_rng(0)
    size = 64
    image, second = (rng.integers(0, 256, (size, size, 3), np.uint8) for _ in range(2))
    bands = rng.normal(0, 1, (4, size, size)).astype(np.float32)
    bands[:, :5] = np.nan
    adapter = moved_adapter(model.network, BandStemConfig(channels=4), MmAdapterConfig(), by=0.3)
    with model.using(adapter):
        alone = model.encode(image)
        found = model.encode(image, side=SidePixels(bands, second, np.ones((size, size), bool)))
    mean, std = (np.array(numbers, np.float32) for numbers in (model.card.mean, model.card.std))
    stacked = torch.from_numpy(((np.stack([image, second]) - mean) / std).astype(np.float32)).permute(0, 3, 1, 2)
    side = SideInputs(torch.from_numpy(bands)[None], 2)
    with model.using(None):
        adapter.attach(model.network)
        with torch.no_grad(), fastest_precision(model.device), adapter.given(side):
            expected = encode(model.network.image_encoder, stacked).embedding[0].float().numpy()
        adapter.detach()
    rounding, effect = (np.abs(found.astype(np.float32) - other).max() for other in (expected, alone))
    assert rounding < 0.2 * effect, "the same but for half precision"
    with model.using(None):
        base = model.encode(image)
        assert np.array_equal(model.encode(image, side=SidePixels(bands, second)), base), "the base sees nothing of it"


def segment(raster: Path, *arguments: object) -> int:
    x, y = NORTH_UP @ (150, 140)
    store = raster.parent / "store"
    common = ["--store-dir", str(store), "--device", "cpu", "--point", str(x), str(y), "--json"]
    return main(["segment", str(raster), *common, *map(str, arguments)])


def test_segmenting_with_bands_and_a_second_raster(
    raster: Path, height: Path, model: PromptableModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = InputRecord((1, 2, 3), bands=BANDS, second=SECOND)
    configs = (BandStemConfig(channels=4), MmAdapterConfig())
    file = write_adapter(tmp_path / "a.safetensors", model.card, model.network, *configs, by=0.01, inputs=inputs)
    out = tmp_path / "out.gpkg"
    assert segment(raster, "--adapter", file, "-o", out) == 1
    assert "--second" in capsys.readouterr().err
    sources = []
    for second in (height, height, write(tmp_path / "flat.tif", np.full((1, 300, 280), 7, np.uint8))):
        assert segment(raster, "--adapter", file, "--second", second, "-o", out, "--overwrite") in {0, 3}
        said = capsys.readouterr()
        assert said.err == ""
        sources.append(json.loads(said.out)["result"]["source"])
    assert sources == ["encoder", "disk", "encoder"], "another second raster gives other embeddings"


def test_measuring_with_a_second_raster(
    raster: Path, height: Path, model: PromptableModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = InputRecord((1, 2, 3), second=SECOND)
    file = write_adapter(
        tmp_path / "a.safetensors", model.card, model.network, MmAdapterConfig(), by=0.001, inputs=inputs
    )
    truth = disc((300, 280), (150.0, 140.0), 40.0, 1.0, 0.0) > 0.5
    labels = write(tmp_path / "labels.tif", truth.astype(np.uint8)[None])
    common = ["evaluate", str(raster), str(labels), "--no-count", "--clicks", "1", "--adapter", str(file)]
    assert main([*common, "--device", "cpu"]) == 1
    assert "--second" in capsys.readouterr().err
    assert main([*common, "--device", "cpu", "--second", str(height)]) == 0
    assert "1 objects" in capsys.readouterr().out
