"""What a step learns: prompts and losses on known ground only, whatever else there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from samtune.engine.progress import NullProgress
from samtune.engine.tuning.encoding import Encoding, Laid
from samtune.engine.tuning.mapping import FindAll, Semantic
from samtune.engine.tuning.prepare import Prepared, completed, own_copy, prepared
from samtune.engine.tuning.promptable import FOCAL_WEIGHT, Promptable
from samtune.engine.tuning.samples import CropLabels, CropSample
from samtune.engine.tuning.settings import Bands, Schedule, Task
from samtune.engine.tuning.task import Moment, Work
from samtune.models.errors import CancelledByUser
from samtune.models.heads.contract import IGNORE
from samtune.models.heads.instances import InstancesConfig
from samtune.models.heads.mfnet import MfnetHeadConfig
from samtune.models.heads.semantic import SemanticConfig
from samtune.models.losses import dice, focal, true_iou
from samtune.models.peft.band_stem import BandStemConfig
from samtune.models.peft.contract import MethodConfig, TuningError
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.mm_lora import MmLoraConfig
from samtune.models.peft.selective import DecoderConfig
from samtune.models.promptable import PromptableModel

from .ground import Ground, make_ground, service, write_raster

SMALL = Schedule(steps=2, batch=2, objects=2, prompts=2, checks=1)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return make_ground(tmp_path_factory.mktemp("ground"), size=384, each=3, bands=4)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def never() -> None:
    """Nobody stops a test."""


def ready_for(ground: Ground, folder: Path, methods: Sequence[MethodConfig], **changes: object) -> Iterator[Prepared]:
    given = {"methods": tuple(methods), "schedule": SMALL, "rgb": (1, 2, 3)} | changes
    with prepared(ground.settings(folder / "a.safetensors", **given), service(), NullProgress()) as ready:
        yield ready


def moment(encoding: Encoding, scale: float = 1.0, check: object = never) -> Moment:
    return Moment(encoding, check, (0, 1, 2), scale)


def encoding_of(ready: Prepared, *, amp: bool = False) -> Encoding:
    if not ready.adapter.attached:
        ready.adapter.attach(ready.model.network)
    return Encoding(ready.model, ready.adapter, ready.cache, amp=amp)


def gradients(ready: Prepared, works: Sequence[Work]) -> dict[str, torch.Tensor]:
    ready.adapter.zero_grad(set_to_none=True)
    ready.objective.learn(works, moment(encoding_of(ready)))
    return {n: v.grad.clone() for n, v in ready.adapter.trainable_parameters() if v.grad is not None}


def works_of(ready: Prepared, count: int = 2) -> list[Work]:
    return [ready.objective.draw(number, number, np.random.default_rng(number)) for number in range(count)]


def poisoned(ready: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the labels say nonsense wherever they are not known."""
    whole = ready.train.labels

    def labels(item: CropSample, check: object) -> CropLabels:
        found = whole(item, check)
        rng = np.random.default_rng(9)
        noise = rng.random(found.masks.shape) < 0.5
        classes = rng.integers(0, 2, found.classes.shape)
        kept = found.classes if np.all(found.known) else np.where(found.known, found.classes, classes)
        return CropLabels(np.where(found.known, found.masks, noise), found.known, kept, found.partial, found.labels)

    monkeypatch.setattr(ready.train, "labels", labels)


@pytest.mark.parametrize("methods", [(DecoderConfig(),), (LoraConfig(rank=2), DecoderConfig())])
def test_unlabelled_pixels_have_no_part_in_gradients(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, methods: tuple[MethodConfig, ...]
) -> None:
    for ready in ready_for(ground, tmp_path, methods):
        works = works_of(ready)
        clean = gradients(ready, works)
        labels = ready.train.labels(works[0].item, never)
        assert 0.02 < labels.known.mean() < 0.98
        poisoned(ready, monkeypatch)
        assert not np.array_equal(ready.train.labels(works[0].item, never).masks, labels.masks)
        dirty = gradients(ready, works)
        assert clean.keys() == dirty.keys()
        assert clean
        assert all(torch.equal(clean[name], dirty[name]) for name in clean)
        assert any(value.abs().max() > 0 for value in clean.values())


def test_unlabelled_pixels_have_no_part_in_what_finds_objects(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ready in ready_for(ground, tmp_path, (InstancesConfig(),), task=Task.INSTANCES):
        works = works_of(ready, 1)
        clean = gradients(ready, works)
        whole = ready.train.labels

        def labels(item: CropSample, check: object, whole: object = whole) -> CropLabels:
            found = whole(item, check)
            return replace(found, classes=np.where(found.known, found.classes, 1))

        monkeypatch.setattr(ready.train, "labels", labels)
        dirty = gradients(ready, works)
        assert all(torch.equal(clean[name], dirty[name]) for name in clean)


def test_unlabelled_pixels_have_no_class(ground: Ground, tmp_path: Path) -> None:
    for ready in ready_for(ground, tmp_path, (SemanticConfig(),), task=Task.SEMANTIC):
        for item in ready.train.items:
            labels = ready.train.labels(item, never)
            assert (labels.classes[~labels.known] == IGNORE).all()
            assert (labels.classes[labels.known] != IGNORE).all()


@pytest.mark.parametrize("loss", [focal, dice, true_iou])
def test_losses_leave_out_what_is_unknown(loss: object) -> None:
    rng = torch.Generator().manual_seed(0)
    logits, target = torch.randn(2, 6, 6, generator=rng), torch.rand(2, 6, 6, generator=rng)
    known = torch.zeros(2, 6, 6, dtype=torch.bool)
    known[:, :4, :5] = True
    part = loss(logits[:, :4, :5], target[:, :4, :5])
    assert torch.allclose(loss(logits, target, known), part)
    wild = torch.where(known, logits, torch.full_like(logits, float("nan")))
    assert torch.allclose(loss(wild, target, known), part)
    assert torch.allclose(loss(logits, target, torch.ones_like(known)), loss(logits, target))
    assert torch.isfinite(loss(logits, target, torch.zeros_like(known))).all()


def test_the_loss_depends_on_how_many_objects_there_are(ground: Ground, tmp_path: Path) -> None:
    for ready in ready_for(ground, tmp_path, (DecoderConfig(),)):
        assert isinstance(ready.objective, Promptable)
        assert ready.objective.focal_weight == 0
    many = make_ground(tmp_path, size=512, each=9)
    for ready in ready_for(many, tmp_path, (DecoderConfig(),), hold_out=0.0):
        assert isinstance(ready.objective, Promptable)
        assert ready.objective.focal_weight == FOCAL_WEIGHT


def test_a_frozen_encoder_runs_once_per_crop_and_lay(ground: Ground, tmp_path: Path) -> None:
    for ready in ready_for(ground, tmp_path, (DecoderConfig(),)):
        works = works_of(ready)
        gradients(ready, works)
        made = ready.cache.made
        assert made == len({(work.item.crop, work.laid.way) for work in works})
        gradients(ready, works)
        assert ready.cache.made == made


def test_kept_embeddings_of_turned_crops_are_of_turned_pictures(ground: Ground, tmp_path: Path) -> None:
    for ready in ready_for(ground, tmp_path, (DecoderConfig(),)):
        encoding = encoding_of(ready)
        item = ready.train.items[0]
        one, other = (encoding.kept(ready.train, Laid(item, way), never) for way in (0, 5))
        given = ready.train.inputs(item, never)
        picture = np.ascontiguousarray(np.rot90(given.image[:, ::-1]))
        expected = ready.model.encode(picture, np.ascontiguousarray(np.rot90(given.valid[:, ::-1])))
        assert np.abs(other.astype(np.float32) - expected.astype(np.float32)).mean() < 0.02
        assert np.abs(one.astype(np.float32) - expected.astype(np.float32)).mean() > 0.05


def test_computing_again_gives_the_same_gradients(ground: Ground, tmp_path: Path) -> None:
    for ready in ready_for(ground, tmp_path, (LoraConfig(rank=2),)):
        works = works_of(ready, 1)
        kept = gradients(ready, works)
        encoding = encoding_of(ready)
        encoding.recompute = True
        ready.adapter.zero_grad(set_to_none=True)
        ready.objective.learn(works, moment(encoding))
        for name, value in ready.adapter.trainable_parameters():
            assert value.grad is not None
            assert torch.allclose(value.grad, kept[name], atol=1e-6), name


def test_gradients_add_up_over_parts_of_a_batch(ground: Ground, tmp_path: Path) -> None:
    # One prompt only: where corrections are made may hang on the last bit of an answer.
    for ready in ready_for(ground, tmp_path, (DecoderConfig(),), schedule=replace(SMALL, prompts=1)):
        works = works_of(ready)
        together = gradients(ready, works)
        ready.adapter.zero_grad(set_to_none=True)
        for work in works:
            ready.objective.learn([work], moment(encoding_of(ready)))
        for name, value in ready.adapter.trainable_parameters():
            if name in together:
                assert value.grad is not None
                difference = (value.grad - together[name]).norm() / together[name].norm().clamp_min(1e-3)
                assert difference < 0.01, name


def test_prompts_can_be_stopped_between_two(ground: Ground, tmp_path: Path) -> None:
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 5:
            raise CancelledByUser

    for ready in ready_for(ground, tmp_path, (DecoderConfig(),), schedule=replace(SMALL, prompts=50)):
        works = works_of(ready)
        for work in works:
            encoding_of(ready).kept(ready.train, work.laid, never)
        with pytest.raises(CancelledByUser):
            ready.objective.learn(works, moment(encoding_of(ready), check=check))


def test_bands_reach_the_method_that_takes_them(ground: Ground, tmp_path: Path) -> None:
    for ready in ready_for(ground, tmp_path, (BandStemConfig(), DecoderConfig()), bands=Bands.ALL):
        assert next(c for c in ready.adapter.configs if isinstance(c, BandStemConfig)).channels == 4
        found = gradients(ready, works_of(ready, 1))
        assert any(name.startswith("band_stem") and value.abs().max() > 0 for name, value in found.items())


def test_a_method_without_its_bands_is_refused(ground: Ground, tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="takes further bands"):
        next(ready_for(ground, tmp_path, (BandStemConfig(),)))


@pytest.mark.parametrize("task", [Task.PROMPTABLE, Task.SEMANTIC])
def test_the_second_raster_reaches_both_streams(ground: Ground, tmp_path: Path, task: Task) -> None:
    second = write_raster(tmp_path / "h.tif", np.random.default_rng(0).random((1, 384, 384)).astype(np.float32))
    methods: tuple[MethodConfig, ...] = (MmLoraConfig(),)
    methods += (MfnetHeadConfig(width=16),) if task is Task.SEMANTIC else ()
    for ready in ready_for(ground, tmp_path, methods, second=second, task=task):
        works = works_of(ready, 2)
        encoding = encoding_of(ready)
        given = encoding.see(ready.train, [work.laid for work in works], never)
        assert given.side.streams == 2
        assert len(given.images) == 4
        assert gradients(ready, works)
        base = Encoding(ready.model, None, ready.cache)
        assert base.see(ready.train, [works[0].laid], never).side.streams == 1


def test_heads_are_completed_from_the_data(ground: Ground, tmp_path: Path) -> None:
    for ready in ready_for(ground, tmp_path, (LoraConfig(),), task=Task.SEMANTIC):
        assert isinstance(ready.objective, Semantic)
        (head,) = (config for config in ready.adapter.configs if isinstance(config, SemanticConfig))
        assert head.classes == 3
        assert completed(ready.settings, ready.dataset, 0)[-1] == head
    for ready in ready_for(ground, tmp_path, (LoraConfig(), InstancesConfig(classes=9)), task=Task.INSTANCES):
        assert isinstance(ready.objective, FindAll)
        (found,) = (config for config in ready.adapter.configs if isinstance(config, InstancesConfig))
        assert found.classes == 2


@pytest.mark.parametrize("task", [Task.SEMANTIC, Task.INSTANCES])
def test_maps_teach_head_and_encoder(ground: Ground, tmp_path: Path, task: Task) -> None:
    for ready in ready_for(ground, tmp_path, (LoraConfig(rank=2),), task=task):
        found = gradients(ready, works_of(ready))
        assert any(name.startswith(task.value) and value.abs().max() > 0 for name, value in found.items())
        assert any("lora_B" in name and value.abs().max() > 0 for name, value in found.items())


def test_a_published_models_mask_prompts_are_plain(ground: Ground, tmp_path: Path) -> None:
    for ready in ready_for(ground, tmp_path, (DecoderConfig(),)):
        objective = Promptable(ready.train, 3, 2, bumps=False, amp=False)
        points = torch.zeros(2, 1, 2)
        labels = torch.ones(2, 1, dtype=torch.int64)
        seen = torch.zeros(2, 256, 32, 32)
        assert objective.planes((128, 128), points, labels, None, None, seen) is None
        before = torch.zeros(2, 128, 128)
        before[1] = torch.nan
        planes = objective.planes((128, 128), points, labels, None, before, seen)
        assert planes is not None
        assert torch.equal(torch.isnan(planes[:, 0]), torch.isnan(before))
        objective.learn(works_of(ready), moment(encoding_of(ready)))
        assert all(torch.isfinite(v.grad).all() for _, v in ready.adapter.trainable_parameters() if v.grad is not None)


def test_a_copy_shares_weights_but_not_what_is_attached(ground: Ground, tmp_path: Path) -> None:
    loaded = service().get("tiny")
    copy = own_copy(loaded)
    assert isinstance(copy, PromptableModel)
    name = "mask_decoder.iou_token.weight"
    assert copy.network.get_parameter(name).data_ptr() == loaded.network.get_parameter(name).data_ptr()
    picture = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
    before = loaded.encode(picture)
    for ready in ready_for(ground, tmp_path, (LoraConfig(rank=2),)):
        ready.adapter.attach(copy.network)
        with torch.no_grad():
            for _, value in ready.adapter.trainable_parameters():
                value.fill_(0.5)
        assert np.array_equal(loaded.encode(picture), before)
        assert not np.array_equal(copy.encode(picture), before)
        ready.adapter.detach()
        assert np.array_equal(copy.encode(picture), before)
