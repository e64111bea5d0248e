"""The loop: it learns, it resumes exactly, it refuses to go on with nonsense."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from samtune.engine.pretrain.config import PretrainConfig, Stage, read_config
from samtune.engine.pretrain.curves import Curves
from samtune.engine.pretrain.loop import Trainer, export
from samtune.engine.pretrain.sampling import SamplingSettings
from samtune.models.errors import CancelledByUser, SamTuneError
from samtune.models.tiny import build_tiny

SAMPLING = SamplingSettings({"nwpu": 0.6, "water": 0.4}, {}, masks=2, empty=0.0)


@pytest.fixture
def config(pack: Path, tmp_path: Path) -> PretrainConfig:
    return PretrainConfig(
        folder=tmp_path / "run",
        steps=6,
        packs=(pack,),
        threads=1,
        save_every=3,
        validate_every=100,
        stages=(Stage(0.7, 64, 2, 1), Stage(1.0, 96, 1, 0)),
        sampling=SAMPLING,
    )


def test_one_batch_is_learnt(config: PretrainConfig) -> None:
    trainer = Trainer(replace(config, optimisation=replace(config.optimisation, warm_up=1, boxes=0.5)))
    from samtune.engine.pretrain.pack import read_pack
    from samtune.engine.pretrain.sampling import Sampler

    batch = trainer._batch(Sampler(read_pack(config.packs[0]), SAMPLING), 0)
    losses = [trainer._train(batch)["loss"] for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]


def test_a_resumed_run_equals_an_uninterrupted_one(config: PretrainConfig) -> None:
    whole = Trainer(config)
    whole.run()
    broken = replace(config, folder=config.folder.with_name("broken"))
    Trainer(broken).run(stop_at=3)
    second = Trainer(broken)
    assert second.step == 3
    second.run()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
    for name, tensor in whole.average.items():
        assert torch.equal(tensor, second.average[name]), name
    lines = [(folder / "training.csv").read_text().splitlines() for folder in (config.folder, broken.folder)]
    without_time = [[line.rsplit(",", 1)[0] for line in found] for found in lines]
    assert without_time[0] == without_time[1]
    assert (config.folder / "curves.png").stat().st_size > 1000


def test_the_export_is_the_average_in_half_precision(config: PretrainConfig) -> None:
    trainer = Trainer(config)
    trainer.run(stop_at=2)
    exported = load_file(config.folder / "tiny.safetensors")
    assert set(exported) == set(build_tiny().state_dict())
    assert {tensor.dtype for tensor in exported.values()} == {torch.float16}
    name = "image_encoder.blocks.0.attn.qkv.weight"
    assert torch.equal(exported[name], trainer.average[name].to(torch.float16))
    assert not torch.equal(trainer.average[name], trainer.model.state_dict()[name])


def test_nothing_half_written_is_left(config: PretrainConfig) -> None:
    export({"a": torch.zeros(2)}, config.folder / "deep" / "a.safetensors")
    assert [path.name for path in (config.folder / "deep").iterdir()] == ["a.safetensors"]


def test_frozen_parts_do_not_move_and_others_do(config: PretrainConfig) -> None:
    trainer = Trainer(replace(config, optimisation=replace(config.optimisation, frozen=2)))
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.run(stop_at=1)
    after = trainer.model.state_dict()
    stem = "image_encoder.patch_embed"
    assert torch.equal(before[f"{stem}.first.weight"], after[f"{stem}.first.weight"])
    assert torch.equal(before[f"{stem}.blocks.1.project.weight"], after[f"{stem}.blocks.1.project.weight"])
    assert not torch.equal(before[f"{stem}.blocks.2.project.weight"], after[f"{stem}.blocks.2.project.weight"])
    assert not torch.equal(before["mask_decoder.iou_token.weight"], after["mask_decoder.iou_token.weight"])


def test_a_loss_that_is_no_number_stops_the_run(config: PretrainConfig) -> None:
    trainer = Trainer(config)
    with torch.no_grad():
        trainer.model.mask_decoder.iou_token.weight.fill_(float("nan"))
    with pytest.raises(SamTuneError, match="step 0"):
        trainer.run()
    assert not (config.folder / "checkpoint.pt").exists()


def test_cancelling_stops_between_steps(config: PretrainConfig) -> None:
    class Impatient:
        steps = 0

        def report(self, fraction: float, message: str) -> None:
            self.steps += 1

        def check(self) -> None:
            if self.steps == 2:
                raise CancelledByUser

    trainer = Trainer(config)
    with pytest.raises(CancelledByUser):
        trainer.run(progress=Impatient())
    assert trainer.step == 2


def test_validation_is_the_same_every_time_and_leaves_the_model_alone(config: PretrainConfig, pack: Path) -> None:
    trainer = Trainer(config)
    before = trainer.model.mask_decoder.iou_token.weight.clone()
    first = trainer.validate(pack)
    assert first == trainer.validate(pack)
    assert {"point", "box", "corrected", "dice"} <= set(first)
    assert torch.equal(before, trainer.model.mask_decoder.iou_token.weight)
    assert trainer.model.training


def test_curves_forget_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    curves = Curves(tmp_path)
    for step in range(1, 6):
        curves.add(step, {"loss": 1.0 / step, "point": 0.1 * step})
    curves.add_validation(4, {"point": 0.5})
    curves.cut(3)
    rows = (tmp_path / "training.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "1", "2", "3"]
    assert not (tmp_path / "validation.csv").exists()
    curves.plot()
    assert (tmp_path / "curves.png").is_file()


TOML = """
[run]
folder = "run"
steps = 100
packs = ["packs/a", "packs/b"]
[[stage]]
until = 0.5
size = 64
batch = 4
[[stage]]
until = 1.0
size = 128
batch = 2
clicks = 1
[optimisation]
rate = 1e-3
[sampling]
sources = {nwpu = 1.0}
kinds = {}
"""


def test_configuration(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(TOML, encoding="utf-8")
    config = read_config(path)
    assert config.folder == tmp_path / "run"
    assert config.packs == (tmp_path / "packs/a", tmp_path / "packs/b")
    assert [config.stage_at(step).size for step in (0, 49, 50, 99, 500)] == [64, 64, 128, 128, 128]
    assert config.optimisation.rate == 1e-3
    assert config.sampling.masks == 5


@pytest.mark.parametrize("text", ["[run", "[run]\nsteps = 1", TOML + "\n[nonsense]\n", TOML.replace("rate", "rat")])
def test_a_bad_configuration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SamTuneError, match="cannot be used"):
        read_config(path)


def test_the_shipped_configuration_can_be_read() -> None:
    from samtune.engine import pretrain

    config = read_config(Path(pretrain.__file__).parent / "tiny.toml")
    assert config.stages[-1].size == 512
    assert np.isclose(sum(config.sampling.sources.values()), 1.0)
