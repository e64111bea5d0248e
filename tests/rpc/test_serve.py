"""The real engine, started the way QGIS starts it. Needs torch and rasterio; skipped where they are absent."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the engine's Python")
pytest.importorskip("rasterio", reason="needs the engine's Python")

import numpy as np
import rasterio
from samtune.engine import handlers
from samtune.engine.messages import (
    Done,
    Empty,
    EngineInfo,
    EngineSettings,
    Method,
    ModelList,
    PrepareParams,
    Prompt,
    RasterInfo,
    RasterSpec,
    SegmentParams,
    SegmentResult,
    WarmUpParams,
)
from samtune.engine.progress import NullProgress
from samtune.engine.wire import REQUESTS
from samtune.models.errors import CancelledByUser, DeviceError, EngineStartError, ModelMissingError, RasterError
from samtune.plugin.engine_process import EngineProcess
from samtune.plugin.environment import EngineLocation, engine_command

ROOT = Path(__file__).resolve().parent.parent.parent


def make_engine(folder: Path, device: str = "cpu") -> EngineProcess:
    command = engine_command(EngineLocation(sys.executable, folder / "data", ROOT))
    settings = EngineSettings(
        device=device, threads=1, store_dir=str(folder / "store"), models_dir=str(folder / "models")
    )
    return EngineProcess(command, settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[EngineProcess]:
    made = make_engine(folder)
    yield made
    made.close()
    assert made.wait(5)


@pytest.fixture(scope="module")
def raster(folder: Path) -> Path:
    """A bright square on dark ground: 256 pixels of one unit, the square in columns and rows 96 to 160."""
    path = folder / "square.tif"
    image = np.full((3, 256, 256), 60, np.uint8)
    image[:, 96:160, 96:160] = 200
    image += np.random.default_rng(0).integers(0, 9, image.shape, np.uint8)
    profile = {"driver": "GTiff", "width": 256, "height": 256, "count": 3, "dtype": "uint8", "crs": "EPSG:32617"}
    with rasterio.open(path, "w", transform=rasterio.Affine(1, 0, 5e5, 0, -1, 4e6), **profile) as dataset:
        dataset.write(image)
    return path


def test_every_request_of_the_wire_is_served(tmp_path: Path) -> None:
    made = handlers.build(EngineSettings(device="cpu", threads=1, store_dir=str(tmp_path / "store")), NullProgress())
    assert set(made) == set(REQUESTS) - {Method.INITIALIZE}


def test_loading_can_be_cancelled(tmp_path: Path) -> None:
    class Impatient(NullProgress):
        def check(self) -> None:
            raise CancelledByUser

    with pytest.raises(CancelledByUser):
        handlers.build(EngineSettings(store_dir=str(tmp_path / "store")), Impatient())
    assert not (tmp_path / "store").exists()


def test_the_handshake_describes_the_engine(engine: EngineProcess, folder: Path) -> None:
    info = engine.ready.result(60)
    assert isinstance(info, EngineInfo)
    assert (info.device, info.threads) == ("cpu", 1)
    assert info.store_dir == str(folder / "store")
    assert info.models_dir == str(folder / "models")
    assert info.versions["torch"]
    assert engine.request(Method.INFO).result(20).pid == engine.pid  # type: ignore[attr-defined]


def test_the_models_are_listed(engine: EngineProcess) -> None:
    models = engine.request(Method.MODELS).result(60)
    assert isinstance(models, ModelList)
    assert "tiny" in {model.name for model in models.models}


def test_a_missing_model_and_raster_are_their_own_errors(engine: EngineProcess) -> None:
    with pytest.raises(ModelMissingError):
        engine.request(Method.WARM_UP, WarmUpParams("vit_h")).result(60)
    with pytest.raises(RasterError):
        engine.request(Method.OPEN, RasterSpec("/nowhere/raster.tif")).result(60)


def test_a_click_from_end_to_end(engine: EngineProcess, raster: Path) -> None:
    assert isinstance(engine.request(Method.WARM_UP, WarmUpParams("tiny")).result(90), Done)
    info = engine.request(Method.OPEN, RasterSpec(str(raster))).result(60)
    assert isinstance(info, RasterInfo)
    place = Prompt(5e5 + 128, 4e6 - 128)
    steps: list[str] = []
    prepared = engine.request(
        Method.PREPARE,
        PrepareParams(info.spec, "tiny", -1, place.x, place.y, thumbnail=64),
        lambda _, text: steps.append(text),
    ).result(60)
    assert prepared.ready  # type: ignore[attr-defined]
    assert prepared.thumbnail_png  # type: ignore[attr-defined]
    assert steps
    result = engine.request(Method.SEGMENT, SegmentParams(info.spec, "tiny", -1, (place,), cached_only=True)).result(60)
    assert isinstance(result, SegmentResult)
    assert result.source == "memory"
    cleared = engine.request(Method.CLEAR_STORE).result(20)
    assert isinstance(cleared, Done)
    assert "MB" in cleared.message
    cold = engine.request(Method.SEGMENT, SegmentParams(info.spec, "tiny", -1, (place,), cached_only=True)).result(60)
    assert cold.empty is Empty.COLD  # type: ignore[attr-defined]


def test_encoding_can_be_cancelled_and_the_next_click_works(engine: EngineProcess, raster: Path) -> None:
    engine.request(Method.WARM_UP, WarmUpParams("tiny")).result(90)
    info = engine.request(Method.OPEN, RasterSpec(str(raster))).result(60)
    running = engine.request(Method.PREPARE, PrepareParams(info.spec, "tiny", -2, 5e5 + 30, 4e6 - 30))  # type: ignore[attr-defined]
    time.sleep(0.02)
    running.cancel()
    with pytest.raises(CancelledByUser):
        running.result(30)
    place = Prompt(5e5 + 128, 4e6 - 128)
    after = engine.request(Method.SEGMENT, SegmentParams(info.spec, "tiny", -1, (place,))).result(60)  # type: ignore[attr-defined]
    assert isinstance(after, SegmentResult)


def test_a_device_that_is_not_there_is_told_by_the_handshake(tmp_path: Path) -> None:
    import torch

    if torch.backends.mps.is_available():
        pytest.skip("this machine has the device")
    engine = make_engine(tmp_path, "mps")
    with pytest.raises(DeviceError, match="mps"):
        engine.ready.result(60)
    assert engine.wait(5)


def test_a_plugin_folder_without_an_engine_is_a_start_error(tmp_path: Path) -> None:
    engine = EngineProcess(engine_command(EngineLocation(sys.executable, tmp_path, tmp_path)), EngineSettings())
    with pytest.raises(EngineStartError) as caught:
        engine.ready.result(30)
    assert "bootstrap.py" in caught.value.details
