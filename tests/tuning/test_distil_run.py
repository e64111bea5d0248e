from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from samtune.engine.progress import Progress
from samtune.engine.tuning.distil import Distiller
from samtune.engine.tuning.distil_exemplars import read_exemplars
from samtune.engine.tuning.distil_run import keeping, unlabelled
from samtune.engine.tuning.encoding import Encoding
from samtune.engine.tuning.loop import Trainer
from samtune.engine.tuning.prepare import prepared
from samtune.engine.tuning.run import tune
from samtune.engine.tuning.settings import TuneSettings, run_folder
from samtune.models.peft.contract import TuningError
from samtune.models.peft.selective import BitFitConfig, DecoderConfig, NormConfig


def _ground_module() -> ModuleType:
    """Load the made-up ground, which lies beside this file and in no package."""
    name = "samtune_tests_tuning_ground"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("ground.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


made = _ground_module()


class Silent(Progress):
    """Nobody listens, nobody stops."""

    def report(self, fraction: float, text: str = "") -> None:
        pass

    def check(self) -> None:
        pass


def never() -> None:
    pass


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, TuneSettings]:
    """Return the ground, and the settings of a run that was done on it."""
    folder = tmp_path_factory.mktemp("first")
    ground = made.make_ground(folder)
    settings = ground.settings(folder / "discs.safetensors", methods=(BitFitConfig(),))
    tune(replace(settings, hold_out=0.0), made.service(), Silent())
    return ground, settings


def test_a_run_remembers_exemplars_of_its_task(first: tuple[object, TuneSettings]) -> None:
    exemplars = read_exemplars(run_folder(first[1].output))
    assert 1 <= len(exemplars) <= 32
    for item in exemplars:
        assert item.image.shape == (3, 4 * item.mask.shape[0], 4 * item.mask.shape[1])
        assert 0.001 < float(item.mask.float().mean()) < 0.9


def test_without_asking_nothing_is_added(first: tuple[object, TuneSettings]) -> None:
    with prepared(first[1], made.service(), Silent()) as ready:
        assert keeping(ready, never) is None


def test_keeping_the_base_general_adds_its_terms_to_every_step(
    first: tuple[object, TuneSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, float]] = []
    original = Distiller.__call__

    def watched(self: Distiller, context: object) -> torch.Tensor | None:
        loss = original(self, context)
        assert loss is not None
        assert loss.requires_grad
        seen.append(dict(self.figures))
        return loss

    monkeypatch.setattr(Distiller, "__call__", watched)
    settings = replace(first[1], output=tmp_path / "kept.safetensors", keep_general=True, hold_out=0.0)
    result = tune(settings, made.service(), Silent())
    assert result.path.is_file()
    assert len(seen) == settings.schedule.steps
    assert all(set(figures) == {"mask", "old", "feature"} for figures in seen)


def test_going_on_begins_with_the_previous_weights_and_protects_them(
    first: tuple[object, TuneSettings], tmp_path: Path
) -> None:
    settings = replace(first[1], output=tmp_path / "on.safetensors", previous=first[1].output)
    with prepared(settings, made.service(), Silent()) as ready:
        fresh = {name: value.clone() for name, value in ready.adapter.state_dict().items()}
        distiller = keeping(ready, never)
        assert isinstance(distiller, Distiller)
        begun = ready.adapter.state_dict()
        assert any(not torch.equal(value, fresh[name]) for name, value in begun.items())
        previous = distiller._previous
        assert previous is not None
        assert all(torch.equal(value, begun[name]) for name, value in previous.state_dict().items())
        assert len(distiller._exemplars) >= 1
        assert distiller._config.mask == 0  # the base's generality was not asked for


def test_going_on_wants_the_same_methods(first: tuple[object, TuneSettings], tmp_path: Path) -> None:
    settings = replace(
        first[1], output=tmp_path / "on.safetensors", previous=first[1].output, methods=(NormConfig(), DecoderConfig())
    )
    with (
        prepared(settings, made.service(), Silent()) as ready,
        pytest.raises(TuningError, match=r"other methods or settings \(bitfit\)"),
    ):
        keeping(ready, never)


def test_unlabelled_crops_do_not_show_ground_that_is_held_out(first: tuple[object, TuneSettings]) -> None:
    with prepared(replace(first[1], hold_out=0.5), made.service(), Silent()) as ready:
        tiles = unlabelled(ready, never, most=5)
        forbidden = ready.dataset.to_raster(ready.parted.forbidden, 0)
        frame, size = ready.dataset.frames[0], ready.dataset.size
    assert 1 <= len(tiles) <= 5
    hidden = [tile for tile in tiles if bool((tile.image == 0).all(dim=0).any())]
    assert hidden
    share = forbidden.area / (frame.width * frame.height)
    assert 0.02 < share < 0.6
    for tile in hidden:
        assert tile.image.shape == (3, size, size)
        assert 0 < float((tile.image == 0).all(dim=0).float().mean()) <= min(1.0, 4.2 * share)


def test_the_settings_come_back_from_json(first: tuple[object, TuneSettings], tmp_path: Path) -> None:
    settings = replace(first[1], keep_general=True, previous=tmp_path / "before.safetensors")
    assert TuneSettings.from_json(settings.to_json()) == settings


def test_the_running_mean_goes_on_where_a_run_was_stopped(first: tuple[object, TuneSettings], tmp_path: Path) -> None:
    ground, _ = first
    found = []
    for name, parts in (("whole", (3,)), ("parted", (2, 3))):
        settings = ground.settings(tmp_path / f"{name}.safetensors", methods=(BitFitConfig(),), hold_out=0.0, amp=False)
        settings = replace(settings, schedule=replace(settings.schedule, steps=3, rate=0.01))
        for stop in parts:
            with prepared(settings, made.service(), Silent()) as ready:
                ready.adapter.attach(ready.model.network)
                encoding = Encoding(ready.model, ready.adapter, ready.cache, amp=False)
                added = Distiller(ready.model.network, ready.adapter, unlabelled(ready, never, most=2))
                trainer = Trainer(
                    settings, encoding, ready.adapter, ready.objective, None, settings.work_folder, "k", added=added
                )
                trainer.run(Silent(), stop_at=stop)
                tensors = trainer.adapter.state_dict() | {f"mean {k}": v for k, v in added.remembered().items()}
        found.append({key: value.clone() for key, value in tensors.items()})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())
    assert any(not torch.equal(found[0][key.removeprefix("mean ")], v) for key, v in found[0].items() if "mean " in key)
