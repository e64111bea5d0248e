"""The adapter service: loaded once, anew when the file changed, checked against model and raster."""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from samtune.engine import adapters
from samtune.engine.adapters import AdapterService
from samtune.engine.messages import RasterInfo, RasterSpec
from samtune.engine.raster_source import RasterSource
from samtune.models import registry
from samtune.models.errors import TuningError
from samtune.models.peft.card_records import BandRecord, GroundRecord, HeadKind, InputRecord
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.selective import BitFitConfig, DecoderConfig
from samtune.models.promptable import PromptableModel
from samtune.models.tiny import build_tiny

from .adapter_files import card_for, write_adapter
from .rasters import write


def fresh() -> PromptableModel:
    torch.manual_seed(0)
    network = build_tiny().eval().requires_grad_(requires_grad=False)
    return PromptableModel(registry.card("tiny"), network, torch.device("cpu"))


@pytest.fixture(scope="module")
def model() -> PromptableModel:
    return fresh()


def test_a_file_is_loaded_once(model: PromptableModel, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "ponds.safetensors", model.card, model.network)
    service = AdapterService()
    first = service.get(str(path), model)
    assert service.get(str(tmp_path / "." / "ponds.safetensors"), model) is first
    assert first.card.name == "ponds"
    assert first.nbytes == sum(tensor.numel() * 4 for tensor in first.adapter.state_dict().values())


def test_a_changed_file_is_loaded_anew(model: PromptableModel, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a.safetensors", model.card, model.network)
    service = AdapterService()
    first = service.get(str(path), model)
    write_adapter(path, model.card, model.network, seed=2)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10))
    second = service.get(str(path), model)
    assert second is not first
    assert second.digest != first.digest
    assert second.encoder != first.encoder


@pytest.mark.parametrize(("config", "changes"), [(LoraConfig(), True), (DecoderConfig(), False)])
def test_only_encoder_adapters_have_a_key_of_their_own(
    model: PromptableModel, tmp_path: Path, config: LoraConfig | DecoderConfig, changes: bool
) -> None:
    loaded = AdapterService().get(str(write_adapter(tmp_path / "a.st", model.card, model.network, config)), model)
    assert bool(loaded.encoder) is changes
    assert len(loaded.digest) == 64


def test_the_same_encoder_part_shares_embeddings_whatever_the_decoder(model: PromptableModel, tmp_path: Path) -> None:
    alone = write_adapter(tmp_path / "a.st", model.card, model.network, BitFitConfig())
    both = write_adapter(tmp_path / "b.st", model.card, model.network, BitFitConfig(), DecoderConfig())
    service = AdapterService()
    one, two = service.get(str(alone), model), service.get(str(both), model)
    assert one.encoder == two.encoder != ""
    assert one.digest != two.digest


def test_old_ones_make_room_but_the_newest_stays(model: PromptableModel, tmp_path: Path) -> None:
    paths = [write_adapter(tmp_path / f"{n}.st", model.card, model.network, seed=n) for n in range(3)]
    size = AdapterService().get(str(paths[0]), model).nbytes
    service = AdapterService(kept_bytes=2 * size)
    first = service.get(str(paths[0]), model)
    service.get(str(paths[1]), model)
    assert service.get(str(paths[0]), model) is first, "and is now the one used last"
    service.get(str(paths[2]), model)
    assert service.get(str(paths[0]), model) is first
    tight = AdapterService(kept_bytes=1)
    only = tight.get(str(paths[0]), model)
    assert tight.get(str(paths[0]), model) is only


def test_every_loaded_network_has_its_own_and_takes_it_along(tmp_path: Path) -> None:
    one, two = fresh(), fresh()
    path = str(write_adapter(tmp_path / "a.st", one.card, one.network))
    service = AdapterService()
    first, second = service.get(path, one), service.get(path, two)
    assert first is not second, "an adapter cannot be attached to two networks at once"
    with one.using(first.adapter), two.using(second.adapter):
        pass
    gone = weakref.ref(first.adapter)
    del one, first
    gc.collect()
    assert gone() is None


def test_what_cannot_be_used_says_why(model: PromptableModel, tmp_path: Path) -> None:
    service = AdapterService()
    with pytest.raises(TuningError, match="no adapter file"):
        service.get(str(tmp_path / "none.safetensors"), model)
    (tmp_path / "text.safetensors").write_text("this is a text")
    with pytest.raises(TuningError, match="damaged, or no adapter"):
        service.get(str(tmp_path / "text.safetensors"), model)
    other = write_adapter(tmp_path / "other.safetensors", registry.card("vit_b"), model.network)
    with pytest.raises(TuningError, match="another base model"):
        service.get(str(other), model)
    damaged = write_adapter(tmp_path / "damaged.safetensors", model.card, model.network)
    content = bytearray(damaged.read_bytes())
    content[-7] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(TuningError, match="damaged"):
        service.get(str(damaged), model)


def raster_info(folder: Path, bands: int = 4, spec: tuple[int, ...] = (1, 2, 3), **options: object) -> RasterInfo:
    values = np.random.default_rng(0).integers(0, 255, (bands, 64, 64)).astype(np.uint8)
    source = RasterSource(RasterSpec(str(write(folder / "r.tif", values, **options)), spec))
    source.close()
    return source.info


def test_other_bands_and_another_scale_are_warned_of(tmp_path: Path, model: PromptableModel) -> None:
    info = raster_info(tmp_path)  # half-metre pixels
    good = card_for(model.card, inputs=InputRecord((1, 2, 3)), ground=GroundRecord(gsd=(0.5, 0.5)))
    assert adapters.warnings(good, info, 0) == ()
    assert "4, 3, 2" in adapters.warnings(card_for(model.card, inputs=InputRecord((4, 3, 2))), info, 0)[0]
    (scale,) = adapters.warnings(good, info, 3)
    assert "coarser" in scale and "4 m" in scale


def test_further_bands_that_the_raster_has_are_no_reason_to_warn(tmp_path: Path, model: PromptableModel) -> None:
    wanted = InputRecord((1, 2, 3), bands=tuple(BandRecord(number) for number in (1, 2, 3, 4)))
    card = card_for(model.card, inputs=wanted)
    assert adapters.warnings(card, raster_info(tmp_path), 0) == ()
    assert adapters.warnings(card, raster_info(tmp_path, bands=3), 0)


@pytest.mark.parametrize(
    ("gsd", "level"),
    [
        ((0.5, 0.5), 0),
        ((0.1, 8.0), 0),
        ((1.0, 4.0), 1),
        ((0.1, 0.25), -1),
        ((0.01, 0.01), -2),
        (None, None),
    ],
)
def test_the_level_that_an_adapter_knows(
    tmp_path: Path, model: PromptableModel, gsd: tuple[float, float] | None, level: int | None
) -> None:
    values = np.zeros((1, 4000, 4000), np.uint8)
    values[0, ::50] = 200
    source = RasterSource(RasterSpec(str(write(tmp_path / "r.tif", values))))
    source.close()
    assert adapters.level_of(card_for(model.card, ground=GroundRecord(gsd=gsd)), source.info) == level


def test_without_a_crs_nothing_is_said_about_the_scale(tmp_path: Path, model: PromptableModel) -> None:
    info = raster_info(tmp_path, crs=None)
    card = card_for(model.card, inputs=InputRecord((1, 2, 3)), ground=GroundRecord(gsd=(30.0, 30.0)))
    assert adapters.ground_pixel(info) is None
    assert adapters.warnings(card, info, 0) == ()
    assert adapters.level_of(card, info) is None


def test_class_map_adapters_do_not_answer_clicks(model: PromptableModel) -> None:
    adapters.refuse_without_prompts(card_for(model.card))
    with pytest.raises(TuningError, match="class maps"):
        adapters.refuse_without_prompts(card_for(model.card, head=HeadKind.SEMANTIC))
