from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from samtune.engine.tuning import distil
from samtune.engine.tuning.distil import Distiller
from samtune.engine.tuning.distil_exemplars import (
    MOST,
    Exemplar,
    choose,
    read_exemplars,
    write_exemplars,
)
from samtune.engine.tuning.distil_hook import ExtraLoss, StepContext
from samtune.engine.tuning.distil_mean import RunningMean
from samtune.engine.tuning.distil_streams import Prompts, Unlabelled, answer, confident_boxes, grid_prompts, instead
from samtune.engine.tuning.settings import run_folder
from samtune.models import registry
from samtune.models.distillation import DistillationConfig
from samtune.models.encoder import encode
from samtune.models.errors import SamTuneError
from samtune.models.loading import load
from samtune.models.losses import dice, true_iou
from samtune.models.peft.adapter import Adapter, freeze
from samtune.models.peft.contract import MethodConfig
from samtune.models.peft.gate import Gate
from samtune.models.peft.gate_config import GateConfig
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.selective import BitFitConfig, DecoderConfig
from samtune.models.sam_modules import Sam
from samtune.models.tiny import MEAN, STD

SIDE = 96
SHIPPED = Path(__file__).resolve().parents[2] / "models" / "weights" / "tiny.safetensors"
GREEN, SAND, BLUE = (60, 110, 50), (200, 180, 120), (40, 60, 160)


@pytest.fixture(scope="module")
def sam() -> Sam:
    network = load(registry.card("tiny"), SHIPPED, "cpu").network
    freeze(network)
    return network


def normalised(image: np.ndarray) -> torch.Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    pixels = torch.from_numpy(image.clip(0, 255).round().astype(np.uint8)).permute(2, 0, 1).float()
    return (pixels - mean) / std


def scene(seed: int, ground: tuple[int, int, int], thing: tuple[int, int, int]) -> tuple[torch.Tensor, np.ndarray]:
    """Return an image (3, S, S) with a disc and the disc's mask (S, S)."""
    rng = np.random.default_rng(seed)
    row, column = rng.uniform(36, SIDE - 36, 2)
    radius = rng.uniform(16, 26)
    rows, columns = np.ogrid[:SIDE, :SIDE]
    disc = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    image = np.where(disc[..., None], thing, ground) + rng.normal(0, 8, (SIDE, SIDE, 3))
    return normalised(image), disc


def tiles(number: int, first: int = 100) -> list[Unlabelled]:
    return [Unlabelled(scene(first + index, GREEN, SAND)[0]) for index in range(number)]


def context(sam: Sam, adapter: Adapter, step: int = 0) -> StepContext:
    return StepContext(sam, adapter, step, 10, np.random.default_rng([7, step]))


def moved(adapter: Adapter, size: float, seed: int = 0) -> Adapter:
    """Move an adapter away from where it changes nothing."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=random))
    return adapter


@pytest.mark.parametrize("config", [LoraConfig(), DecoderConfig(), BitFitConfig()])
def test_an_adapter_that_changes_nothing_loses_nothing(sam: Sam, config: MethodConfig) -> None:
    adapter = Adapter(sam, [config])
    distiller = Distiller(sam, adapter, tiles(1))
    adapter.attach(sam)
    loss = distiller(context(sam, adapter))
    adapter.detach()
    assert loss is not None
    assert float(loss.detach()) == pytest.approx(0, abs=2e-3)  # the base's answers are kept in half precision


def test_only_the_student_gets_gradients(sam: Sam) -> None:
    adapter, previous = moved(Adapter(sam, [LoraConfig()]), 0.05), moved(Adapter(sam, [LoraConfig()]), 0.05, seed=1)
    distiller = Distiller(sam, adapter, tiles(1), previous=previous)
    adapter.attach(sam)
    loss = distiller(context(sam, adapter))
    assert loss is not None
    loss.backward()
    adapter.detach()
    assert all(parameter.grad is None for parameter in sam.parameters())
    assert all(parameter.grad is None for parameter in previous.parameters())
    assert all(float(parameter.grad.abs().sum()) > 0 for _, parameter in adapter.trainable_parameters())


def test_the_loss_is_the_weighted_sum_of_the_logged_terms(sam: Sam) -> None:
    adapter = moved(Adapter(sam, [LoraConfig()]), 0.1)
    config = DistillationConfig(feature=0.3, mask=0.7, old=1.3, least_iou=0.3)
    distiller = Distiller(sam, adapter, tiles(1), previous=Adapter(sam, [LoraConfig()]), config=config)
    adapter.attach(sam)
    loss = distiller(context(sam, adapter))
    adapter.detach()
    figures = distiller.figures
    assert set(figures) == {"feature", "mask", "old"}
    assert all(value > 0 for value in figures.values())
    assert float(loss.detach()) == pytest.approx(
        0.3 * figures["feature"] + 0.7 * figures["mask"] + 1.3 * figures["old"], rel=1e-5
    )


def test_hardware_without_half_precision_computes_in_full(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    adapter = moved(Adapter(sam, [LoraConfig()]), 0.1)
    losses = []
    for amp in (True, False):
        distiller = Distiller(sam, adapter, tiles(1))
        adapter.attach(sam)
        losses.append(distiller(replace(context(sam, adapter), amp=amp)))
        adapter.detach()
    assert torch.equal(*losses)


def test_without_a_mean_the_base_stands_for_the_previous_version(sam: Sam) -> None:
    adapter = moved(Adapter(sam, [LoraConfig()]), 0.1)
    images = tiles(1)
    plain = Distiller(sam, adapter, images, previous=Adapter(sam, [LoraConfig()]))
    known = Distiller(sam, adapter, images, running_mean=False)
    adapter.attach(sam)
    for distiller in (plain, known):
        distiller(context(sam, adapter))
    runs: list[int] = []
    handle = sam.image_encoder.patch_embed.register_forward_hook(lambda *_: runs.append(1))
    known(context(sam, adapter))
    handle.remove()
    adapter.detach()
    assert len(runs) == 1  # the student's alone
    assert known.figures["old"] == pytest.approx(plain.figures["old"], rel=0.02, abs=1e-4)


def test_the_adapter_is_attached_again_and_the_base_as_it_was(sam: Sam) -> None:
    before = {name: value.clone() for name, value in sam.state_dict().items()}
    adapter = moved(Adapter(sam, [DecoderConfig()]), 0.01)
    distiller = Distiller(sam, adapter, tiles(1), previous=moved(Adapter(sam, [LoraConfig()]), 0.1))
    adapter.attach(sam)
    own = sam.mask_decoder.iou_token.weight
    distiller(context(sam, adapter))
    assert adapter.attached
    assert sam.mask_decoder.iou_token.weight is own
    adapter.detach()
    assert all(torch.equal(value, before[name]) for name, value in sam.state_dict().items())
    assert not any(module._forward_hooks for module in sam.modules())


def test_the_base_is_asked_once_per_tile(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(*arguments: object, **options: bool) -> Prompts:
        asked.append(1)
        return grid_prompts(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(distil, "grid_prompts", counted)
    adapter = Adapter(sam, [LoraConfig()])
    distiller = Distiller(sam, adapter, tiles(2))
    adapter.attach(sam)
    for step in range(6):
        distiller(context(sam, adapter, step))
    adapter.detach()
    assert len(asked) == 2


def test_an_untuned_encoder_is_not_run_again(sam: Sam) -> None:
    runs: list[int] = []
    adapter = Adapter(sam, [DecoderConfig()])
    distiller = Distiller(sam, adapter, tiles(1))
    adapter.attach(sam)
    handle = sam.image_encoder.patch_embed.register_forward_hook(lambda *_: runs.append(1))
    for step in range(3):
        distiller(context(sam, adapter, step))
    handle.remove()
    adapter.detach()
    assert len(runs) == 1
    assert "feature" not in distiller.figures


def test_the_same_step_gives_the_same_loss(sam: Sam) -> None:
    found = []
    for _ in range(2):
        adapter = moved(Adapter(sam, [BitFitConfig()]), 0.05)
        distiller = Distiller(sam, adapter, tiles(3))
        adapter.attach(sam)
        found.append(float(distiller(context(sam, adapter, 4)).detach()))
        adapter.detach()
    assert found[0] == found[1]


def test_without_tiles_there_is_nothing_to_keep_it_on(sam: Sam) -> None:
    with pytest.raises(SamTuneError, match="larger area"):
        Distiller(sam, Adapter(sam, [LoraConfig()]), [])


def test_instead_puts_everything_back_also_after_an_error(sam: Sam) -> None:
    adapter, other = Adapter(sam, [LoraConfig()]), Adapter(sam, [LoraConfig()])
    adapter.attach(sam)
    with pytest.raises(ValueError, match="in between"), instead(sam, adapter, other):
        assert other.attached
        assert not adapter.attached
        raise ValueError("in between")
    assert adapter.attached
    assert not other.attached
    adapter.detach()


def test_some_prompts_have_the_rows_of_their_answers(sam: Sam) -> None:
    rng = np.random.default_rng(0)
    image, _ = scene(1, GREEN, SAND)
    with torch.no_grad():
        embedding = sam.image_encoder(image[None])
        prompts = Prompts(torch.rand(7, 2) * SIDE, torch.tensor([[10.0, 10, 60, 60], [50, 40, 90, 100]]))
        every, iou = answer(sam, embedding, prompts)
        some, rows = prompts.some(4, 1, rng)
        few, few_iou = answer(sam, embedding, some)
    assert every.shape == (3 * 7 + 2, SIDE // 4, SIDE // 4)
    assert len(some.clicks) == 4
    assert len(some.boxes) == 1
    torch.testing.assert_close(every[rows], few, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(iou[rows], few_iou, atol=1e-3, rtol=1e-3)


def test_the_base_proposes_the_box_of_what_it_is_sure_of(sam: Sam) -> None:
    image, disc = scene(3, GREEN, SAND)
    with torch.no_grad():
        found = grid_prompts(sam, sam.image_encoder(image[None]), least_iou=0.2)
    assert found.clicks.shape == (16, 2)
    assert float(found.clicks.min()) == SIDE / 8
    rows, columns = np.nonzero(disc)
    box = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
    assert len(found.boxes) >= 1
    assert float((found.boxes - box).abs().amax(dim=1).min()) <= 12


def test_confident_boxes_are_of_sure_separate_small_masks() -> None:
    logits = torch.full((5, 16, 16), -1.0)
    logits[0, 2:5, 3:9] = 1
    logits[1, 2:5, 3:8] = 1  # nearly the same object
    logits[2, 10:12, 1:3] = 1  # unsure
    logits[3] = 1  # the background
    logits[4, 8:12, 8:12] = 1
    predicted = torch.tensor([0.9, 0.95, 0.5, 0.99, 0.85])
    boxes = confident_boxes(logits, predicted, 0.8)
    assert boxes.tolist() == [[12, 8, 32, 20], [32, 32, 48, 48]]
    assert confident_boxes(logits, torch.zeros(5), 0.8).shape == (0, 4)


def test_the_running_mean_follows_slowly(sam: Sam) -> None:
    adapter = Adapter(sam, [LoraConfig()])
    mean = RunningMean(sam, adapter, decay=0.9)
    start = {name: value.clone() for name, value in adapter.state_dict().items()}
    moved(adapter, 1.0)
    mean.update(adapter, step=1000)
    for name, value in mean.adapter.state_dict().items():
        torch.testing.assert_close(value, 0.9 * start[name] + 0.1 * adapter.state_dict()[name])
    assert not any(parameter.requires_grad for parameter in mean.adapter.parameters())
    quick = RunningMean(sam, adapter, decay=0.999)
    moved(adapter, 1.0)
    quick.update(adapter, step=0)  # a tenth at the start, whatever the decay
    name, value = next(iter(quick.adapter.state_dict().items()))
    assert float((value - adapter.state_dict()[name]).abs().max()) < 0.6


def test_the_running_mean_hardens_with_the_gate(sam: Sam) -> None:
    adapter = Adapter(sam, [GateConfig()])
    part = adapter.parts["gate"]
    assert isinstance(part, Gate)
    image = torch.randn(1, 3, 64, 64)
    adapter.calibrate(sam, [lambda: encode(sam.image_encoder, image).embedding.square().mean()])
    mean = RunningMean(sam, adapter, decay=0.9)
    moved(adapter, 1.0)
    mean.update(adapter, step=1000)
    part.harden()
    mean.update(adapter, step=1001)
    twin = mean.adapter.parts["gate"]
    assert isinstance(twin, Gate)
    assert twin.expected_open() == part.expected_open() < len(part.index) / 2
    for name, weight in part.merged(sam).items():
        assert torch.equal(twin.merged(sam)[name], weight), "the kept ones, and no others"


def test_making_a_mean_leaves_the_random_numbers_and_the_attachment_alone(sam: Sam) -> None:
    adapter = Adapter(sam, [DecoderConfig()])
    adapter.attach(sam)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    RunningMean(sam, adapter, 0.9)
    assert torch.equal(torch.rand(1), expected)
    assert adapter.attached
    adapter.detach()


def some_exemplars(number: int) -> list[Exemplar]:
    found = []
    for index in range(number):
        image, disc = scene(index, GREEN, SAND)
        found.append(Exemplar(image, torch.from_numpy(disc[::4, ::4].copy())))
    return found


def test_exemplars_come_back_as_they_were(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "roofs.safetensors")
    assert folder == tmp_path / "roofs.run"
    assert read_exemplars(folder) == ()
    given = some_exemplars(3)
    assert write_exemplars(folder, given) == folder / "exemplars.safetensors"
    back = read_exemplars(folder)
    assert len(back) == 3
    for item, other in zip(given, back, strict=True):
        torch.testing.assert_close(item.image, other.image, atol=1e-5, rtol=0)
        assert torch.equal(item.mask, other.mask)
    assert [path.name for path in folder.iterdir()] == ["exemplars.safetensors"]


def test_exemplars_that_cannot_be_kept_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SamTuneError, match="not 0"):
        write_exemplars(tmp_path, [])
    with pytest.raises(SamTuneError, match="not 33"):
        write_exemplars(tmp_path, some_exemplars(1) * 33)
    mixed = [*some_exemplars(1), Exemplar(torch.zeros(3, 64, 64), torch.ones(16, 16, dtype=torch.bool))]
    with pytest.raises(SamTuneError, match="one size"):
        write_exemplars(tmp_path, mixed)
    with pytest.raises(SamTuneError, match="too small"):
        Exemplar(torch.zeros(3, 64, 64), torch.zeros(16, 16, dtype=torch.bool))


def test_damaged_exemplars_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "exemplars.safetensors").write_bytes(b"no tensors")
    with pytest.raises(SamTuneError, match="Delete the file"):
        read_exemplars(tmp_path)


def test_exemplars_that_cannot_be_written_say_where(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(SamTuneError, match="could not be written"):
        write_exemplars(tmp_path / "taken", some_exemplars(1))


def test_exemplars_are_chosen_at_random_but_kept_in_order() -> None:
    given = some_exemplars(1) * 40
    chosen = choose(
        [Exemplar(item.image + index, item.mask) for index, item in enumerate(given)], np.random.default_rng(0)
    )
    assert len(chosen) == MOST
    means = [float(item.image.mean()) for item in chosen]
    assert means == sorted(means)
    assert len(set(means)) == MOST


# The previous task: sand-coloured discs on green ground are the object. The new one: of blue discs on sand it is what
# lies around them, which only a changed decoder says.

NEW = 8


def train(sam: Sam, adapter: Adapter, extra: ExtraLoss | None, steps: int) -> None:
    scenes = [scene(index, SAND, BLUE) for index in range(NEW)]
    with torch.no_grad():
        embeddings = [sam.image_encoder(image[None]) for image, _ in scenes]
    adapter.attach(sam)
    optimiser = torch.optim.AdamW([value for _, value in adapter.trainable_parameters()], lr=1e-3)
    for step in range(steps):
        index = step % NEW
        logits = ask(sam, embeddings[index], scenes[index][1])
        loss = dice(logits, torch.from_numpy(~scenes[index][1][::4, ::4]).float())
        if extra is not None:
            added = extra(context(sam, adapter, step))
            loss = loss if added is None else loss + added
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    adapter.detach()


def ask(sam: Sam, embedding: torch.Tensor, disc: np.ndarray) -> torch.Tensor:
    rows, columns = np.nonzero(disc)
    box = torch.tensor([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]).float()
    return answer(sam, embedding, Prompts(torch.zeros(0, 2), box))[0][0]


def quality(sam: Sam, adapter: Adapter | None, ground: tuple[int, int, int], thing: tuple[int, int, int]) -> float:
    """Return the mean IoU of discs by their boxes; of what is around them for blue ones."""
    found = []
    with torch.no_grad():
        for seed in range(50, 56):
            image, disc = scene(seed, ground, thing)
            if adapter is not None:
                adapter.attach(sam)
            logits = ask(sam, sam.image_encoder(image[None]), disc)
            if adapter is not None:
                adapter.detach()
            truth = ~disc if thing == BLUE else disc
            found.append(float(true_iou(logits, torch.from_numpy(truth[::4, ::4].copy()).float())))
    return float(np.mean(found))


@pytest.fixture(scope="module")
def outcomes(sam: Sam) -> dict[str, tuple[float, float]]:
    """Return (previous task, new task) of the base, a run without and a run with protection."""

    def run(make: Callable[[Adapter], ExtraLoss | None]) -> tuple[float, float]:
        torch.manual_seed(0)
        adapter = Adapter(sam, [DecoderConfig()])
        train(sam, adapter, make(adapter), 64)
        return quality(sam, adapter, GREEN, SAND), quality(sam, adapter, SAND, BLUE)

    previous = Adapter(sam, [DecoderConfig()])
    return {
        "base": (quality(sam, None, GREEN, SAND), quality(sam, None, SAND, BLUE)),
        "plain": run(lambda _: None),
        "kept": run(lambda adapter: Distiller(sam, adapter, tiles(4), previous=previous, exemplars=some_exemplars(6))),
    }


def test_tuning_for_a_new_task_forgets_the_previous_one(outcomes: dict[str, tuple[float, float]]) -> None:
    assert outcomes["base"][0] > 0.7
    assert outcomes["plain"][1] > outcomes["base"][1] + 0.3
    assert outcomes["plain"][0] < outcomes["base"][0] - 0.15


def test_protection_keeps_the_previous_task_and_still_learns_the_new_one(
    outcomes: dict[str, tuple[float, float]],
) -> None:
    lost = outcomes["base"][0] - outcomes["plain"][0]
    assert outcomes["base"][0] - outcomes["kept"][0] < 0.5 * lost
    assert outcomes["kept"][1] > outcomes["base"][1] + 0.3
