"""A run that is cut off anywhere goes on as if nothing had happened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from samtune.engine.pretrain import checkpoint as checkpoints
from samtune.engine.pretrain.checkpoint import read_checkpoint, write_checkpoint
from samtune.engine.pretrain.config import Optimisation, PretrainConfig, Stage
from samtune.engine.pretrain.loop import Trainer, _number_of_corrections, _rate_factor
from samtune.engine.pretrain.sampling import SamplingSettings
from torch import nn


@pytest.fixture
def config(pack: Path, tmp_path: Path) -> PretrainConfig:
    return PretrainConfig(
        folder=tmp_path / "run",
        steps=4,
        packs=(pack,),
        threads=1,
        save_every=2,
        validate_every=100,
        stages=(Stage(0.5, 64, 2, 2.0), Stage(1.0, 80, 1, 0)),
        sampling=SamplingSettings({"nwpu": 0.6, "water": 0.4}, {}, masks=2, empty=0.1),
    )


def small(seed: int) -> tuple[nn.Module, torch.optim.Optimizer, dict[str, torch.Tensor]]:
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.2)
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    return model, optimiser, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_a_checkpoint_cut_off_while_it_is_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    model, optimiser, average = small(0)
    write_checkpoint(path, 5, model, average, optimiser)
    kept = path.read_bytes()

    def cut_off(_: object, target: Path) -> None:
        target.write_bytes(kept[: len(kept) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints.torch, "save", cut_off)
    with pytest.raises(OSError, match="disk full"):
        write_checkpoint(path, 6, model, average, optimiser)
    assert path.read_bytes() == kept
    other, other_optimiser, _ = small(1)
    step, _ = read_checkpoint(path, other, other_optimiser)
    assert step == 5
    assert torch.equal(other.weight, model.weight)


def test_a_leftover_part_is_no_checkpoint(config: PretrainConfig) -> None:
    config.folder.mkdir(parents=True)
    (config.folder / "checkpoint.part").write_bytes(b"half of one")
    assert Trainer(config).step == 0


def test_optimiser_state_comes_back_and_settings_may_change(tmp_path: Path) -> None:
    model, optimiser, average = small(0)
    write_checkpoint(tmp_path / "c.pt", 9, model, average, optimiser)
    other, _, _ = small(1)
    slower = torch.optim.AdamW(other.parameters(), lr=0.001, weight_decay=0.0)
    step, read = read_checkpoint(tmp_path / "c.pt", other, slower)
    assert step == 9
    assert slower.param_groups[0]["lr"] == 0.001
    assert slower.param_groups[0]["weight_decay"] == 0.0
    moments = [state["exp_avg"] for state in slower.state_dict()["state"].values()]
    assert all(
        torch.equal(a, b["exp_avg"]) for a, b in zip(moments, optimiser.state_dict()["state"].values(), strict=True)
    )
    assert torch.equal(read["weight"], average["weight"])


@pytest.mark.parametrize("stop", [1, 3])
def test_stopping_at_any_step_changes_nothing(config: PretrainConfig, stop: int) -> None:
    whole = Trainer(config)
    whole.run()
    cut = replace(config, folder=config.folder.with_name("cut"))
    Trainer(cut).run(stop_at=stop)
    rest = Trainer(cut)
    assert rest.step == stop
    rest.run()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, rest.model.state_dict()[name]), name
    a, b = (trainer.optimiser.state_dict()["state"] for trainer in (whole, rest))
    assert all(torch.equal(a[key]["exp_avg_sq"], b[key]["exp_avg_sq"]) for key in a)


def test_a_killed_run_goes_on_from_its_last_checkpoint(config: PretrainConfig) -> None:
    whole = Trainer(config)
    whole.run()
    killed = replace(config, folder=config.folder.with_name("killed"))
    trainer = Trainer(killed)

    def no_more() -> None:
        raise KeyboardInterrupt

    trainer.run(stop_at=2)
    trainer.save = no_more  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    again = Trainer(killed)
    assert again.step == 2
    again.run()
    for name, tensor in whole.average.items():
        assert torch.equal(tensor, again.average[name]), name
    lines = [(folder / "training.csv").read_text().splitlines() for folder in (config.folder, killed.folder)]
    assert [line.rsplit(",", 1)[0] for line in lines[0]] == [line.rsplit(",", 1)[0] for line in lines[1]]


def test_another_seed_is_another_run(config: PretrainConfig) -> None:
    first, other = Trainer(config), Trainer(replace(config, seed=1, folder=config.folder.with_name("other")))
    first.run(stop_at=1)
    other.run(stop_at=1)
    name = "mask_decoder.iou_token.weight"
    assert not torch.equal(first.model.state_dict()[name], other.model.state_dict()[name])


def test_the_rate_rises_then_falls_to_its_end() -> None:
    config = PretrainConfig(Path(), 1000, (), optimisation=Optimisation(warm_up=100, final=0.02))
    factors = [_rate_factor(step, config) for step in range(1100)]
    assert factors[0] == pytest.approx(0.01)
    assert max(factors) == pytest.approx(factors[100]) == pytest.approx(1.0)
    assert (np.diff(factors[:100]) > 0).all()
    assert (np.diff(factors[100:1001]) < 0).all()
    assert factors[-1] == pytest.approx(0.02)


@pytest.mark.parametrize("mean", [0.0, 0.5, 1.5])
def test_corrections_are_as_many_as_configured_on_average(mean: float) -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([_number_of_corrections(mean, rng) for _ in range(4000)])
    assert drawn.mean() == pytest.approx(mean, abs=0.12)
    assert drawn.min() == 0
    assert drawn.max() <= 6
    if mean:
        assert (drawn >= 3).any()
