from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from samtune.engine.tuning import distil_streams
from samtune.engine.tuning.distil import Distiller
from samtune.engine.tuning.distil_hook import StepContext
from samtune.engine.tuning.distil_spectral import SpectralDistiller
from samtune.engine.tuning.distil_streams import Unlabelled
from samtune.models import registry
from samtune.models.errors import SamTuneError
from samtune.models.heads.semantic import SemanticConfig
from samtune.models.loading import load
from samtune.models.peft.adapter import Adapter, freeze
from samtune.models.peft.band_stem import BandStemConfig
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.mm_lora import MmLoraConfig
from samtune.models.sam_modules import Sam

SIDE = 96
SHIPPED = Path(__file__).resolve().parents[2] / "models" / "weights" / "tiny.safetensors"


@pytest.fixture(scope="module")
def sam() -> Sam:
    network = load(registry.card("tiny"), SHIPPED, "cpu").network
    freeze(network)
    return network


def context(sam: Sam, adapter: Adapter, step: int = 0) -> StepContext:
    return StepContext(sam, adapter, step, 10, np.random.default_rng([3, step]))


def smooth(channels: int, seed: int) -> torch.Tensor:
    coarse = torch.randn(1, channels, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear")[0]


def moved(adapter: Adapter, size: float, seed: int = 0) -> Adapter:
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=random))
    return adapter


def test_two_modalities_teach_each_other(sam: Sam) -> None:
    adapter = moved(Adapter(sam, [MmLoraConfig()]), 0.02)
    distiller = Distiller(sam, adapter, [Unlabelled(smooth(3, 0), second=smooth(3, 1))])
    adapter.attach(sam)
    loss = distiller(context(sam, adapter))
    assert loss is not None
    loss.backward()
    adapter.detach()
    assert distiller.figures["mutual"] > 0
    reached = {name for name, value in adapter.trainable_parameters() if value.grad is not None}
    assert reached == {name for name, _ in adapter.trainable_parameters()}


def test_the_same_picture_twice_leaves_nothing_to_teach(sam: Sam) -> None:
    adapter = Adapter(sam, [MmLoraConfig()])
    image = smooth(3, 0)
    distiller = Distiller(sam, adapter, [Unlabelled(image, second=image)])
    adapter.attach(sam)
    distiller(context(sam, adapter))
    adapter.detach()
    assert distiller.figures["mutual"] == pytest.approx(0, abs=1e-4)


def test_one_modality_has_no_mutual_term(sam: Sam) -> None:
    adapter = Adapter(sam, [LoraConfig()])
    distiller = Distiller(sam, adapter, [Unlabelled(smooth(3, 0))])
    adapter.attach(sam)
    distiller(context(sam, adapter))
    adapter.detach()
    assert "mutual" not in distiller.figures


def test_models_without_bumps_are_asked_as_they_are_in_use(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> torch.Tensor:
        pytest.fail("prompts were drawn")

    monkeypatch.setattr(distil_streams, "draw_prompts", never)
    adapter = Adapter(sam, [LoraConfig()])
    distiller = Distiller(sam, adapter, [Unlabelled(smooth(3, 0))], bumps=False)
    adapter.attach(sam)
    loss = distiller(context(sam, adapter))
    adapter.detach()
    assert loss is not None
    assert torch.isfinite(loss)


@pytest.mark.parametrize("classes", [3, 4])
def test_class_maps_of_the_previous_version_are_kept_where_the_classes_are_as_many(sam: Sam, *, classes: int) -> None:
    adapter = Adapter(sam, [LoraConfig(), SemanticConfig(classes=3)])
    previous = Adapter(sam, [LoraConfig(), SemanticConfig(classes=classes)])
    distiller = Distiller(sam, adapter, [Unlabelled(smooth(3, 0))], previous=previous)
    adapter.attach(sam)
    loss = distiller(context(sam, adapter))
    assert loss is not None
    loss.backward()
    adapter.detach()
    head = adapter.parts["semantic"]
    reached = any(value.grad is not None and float(value.grad.abs().sum()) > 0 for value in head.parameters())
    assert reached == (classes == 3)


@pytest.fixture
def tile() -> Unlabelled:
    bands = smooth(6, 5)
    return Unlabelled(smooth(3, 4), bands=bands[:2], teacher_bands=bands)


def test_the_same_bands_and_weights_have_no_spectral_distance(sam: Sam) -> None:
    bands = smooth(6, 5)
    tile = Unlabelled(smooth(3, 4), bands=bands, teacher_bands=bands)
    teacher, student = (moved(Adapter(sam, [BandStemConfig(channels=6)]), 0.05, seed=2) for _ in range(2))
    student.load_state_dict(teacher.state_dict())
    student.attach(sam)
    loss = SpectralDistiller(teacher, [tile])(context(sam, student))
    student.detach()
    assert loss is not None
    assert float(loss.detach()) == pytest.approx(0, abs=1e-5)


def test_a_student_of_fewer_bands_learns_features_and_code(sam: Sam, tile: Unlabelled) -> None:
    torch.manual_seed(0)
    teacher = moved(Adapter(sam, [BandStemConfig(channels=6)]), 0.1)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = Adapter(sam, [BandStemConfig(channels=2)])
    distiller = SpectralDistiller(teacher, [tile])
    optimiser = torch.optim.Adam([value for _, value in student.trainable_parameters()], lr=0.01)
    student.attach(sam)
    losses = []
    for step in range(12):
        loss = distiller(context(sam, student, step))
        assert loss is not None
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert student.attached
    student.detach()
    assert losses[-1] < 0.6 * losses[0]
    assert distiller.figures["spectral"] == losses[-1]
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_a_student_of_the_three_channels_alone_learns_the_features(sam: Sam, tile: Unlabelled) -> None:
    teacher = moved(Adapter(sam, [BandStemConfig(channels=6)]), 0.1)
    student = Adapter(sam, [LoraConfig()])
    student.attach(sam)
    loss = SpectralDistiller(teacher, [Unlabelled(tile.image, teacher_bands=tile.teacher_bands)])(context(sam, student))
    assert loss is not None
    loss.backward()
    student.detach()
    assert any(float(value.grad.abs().sum()) > 0 for _, value in student.trainable_parameters())
    assert all(value.grad is None for value in teacher.parameters())


def test_spectral_distillation_wants_the_teachers_bands(sam: Sam) -> None:
    teacher = Adapter(sam, [BandStemConfig(channels=6)])
    for tiles in ([], [Unlabelled(smooth(3, 0), bands=smooth(2, 1))]):
        with pytest.raises(SamTuneError, match="all the bands"):
            SpectralDistiller(teacher, tiles)
