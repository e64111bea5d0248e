"""What goes wrong outside the program: each with a sentence that says what to do, and nothing lost."""

from __future__ import annotations

import importlib.util
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from samtune.engine.progress import NullProgress
from samtune.engine.tune_messages import LabelSource, TuneInputs, TuneParams, TuneRunParams, TuneTask
from samtune.engine.tune_service import TuneService
from samtune.engine.tuning.loop import Trainer
from samtune.engine.tuning.run import tune
from samtune.engine.tuning.settings import Schedule, TuneSettings
from samtune.models.errors import CancelledByUser, DeviceError, OutputError
from samtune.models.peft.adapter_file import load_adapter
from samtune.models.peft.contract import TuningError
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.persam import MaskMixConfig
from samtune.models.peft.selective import DecoderConfig

from .ground import Ground, make_ground, service

ROOT = Path(__file__).resolve().parents[2]
SCHEDULE = Schedule(steps=4, batch=1, objects=2, prompts=1, checks=2, save_every=1)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return make_ground(tmp_path_factory.mktemp("ground"), size=384, each=3)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class At(NullProgress):
    """Does something when a step is told, once."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self.step, self.act = step, act

    def report(self, fraction: float, message: str) -> None:
        if f"step {self.step} of" in message:
            self.step = -1
            self.act()


def cancel() -> None:
    raise CancelledByUser


def tensors(path: Path) -> dict[str, torch.Tensor]:
    model = service().get("tiny")
    return load_adapter(path, model.network, model.card.sha256)[0].state_dict()


def same(one: Path, other: Path) -> bool:
    first, second = tensors(one), tensors(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def short(ground: Ground, folder: Path, **changes: object) -> TuneSettings:
    return ground.settings(folder / "a.safetensors", schedule=SCHEDULE, hold_out=0.0, **changes)


def test_a_full_disk_at_a_checkpoint_keeps_the_one_before_and_the_run_goes_on(ground: Ground, tmp_path: Path) -> None:
    settings = short(ground, tmp_path)
    tune(replace(settings, output=tmp_path / "whole.safetensors"), service(), NullProgress())
    with largest_file(2**40) as _:
        fill = At(3, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, resource.RLIM_INFINITY)))
        with pytest.raises(OutputError, match=r"Make room there and go on with the run"):
            tune(settings, service(), fill)
    folder = settings.work_folder
    assert (folder / "checkpoint.pt").stat().st_size > 10**6
    assert not list(folder.glob("*.part"))
    result = tune(settings, service(), NullProgress(), resume=True)
    assert result.steps == 4
    assert same(result.path, tmp_path / "whole.safetensors")


def test_memory_that_does_not_suffice_keeps_what_was_learnt(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = short(ground, tmp_path)
    tune(replace(settings, output=tmp_path / "whole.safetensors"), service(), NullProgress())
    plain = Trainer._attempt

    def short_of_memory(self: Trainer, check: Callable[[], None]) -> object:
        if self.state.step == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, check)

    monkeypatch.setattr(Trainer, "_attempt", short_of_memory)
    with pytest.raises(DeviceError, match=r"does not suffice for one crop at a time\. Take fewer objects"):
        tune(settings, service(), NullProgress())
    monkeypatch.setattr(Trainer, "_attempt", plain)
    result = tune(settings, service(), NullProgress(), resume=True)
    assert same(result.path, tmp_path / "whole.safetensors")


def test_an_adapter_of_another_base_or_with_other_methods_is_not_gone_on_with(ground: Ground, tmp_path: Path) -> None:
    before = tune(short(ground, tmp_path), service(), NullProgress()).path
    data = before.read_bytes()
    other = tmp_path / "other.safetensors"
    base = service().get("tiny").card.sha256.encode()
    assert base in data
    other.write_bytes(data.replace(base, base[::-1]))
    settings = replace(short(ground, tmp_path), output=tmp_path / "b.safetensors")
    with pytest.raises(TuningError):
        tune(replace(settings, previous=other), service(), NullProgress())
    with pytest.raises(TuningError, match="other methods"):
        tune(replace(settings, previous=before, methods=(LoraConfig(),)), service(), NullProgress())
    with pytest.raises(TuningError):
        tune(replace(settings, previous=tmp_path / "gone.safetensors"), service(), NullProgress())


def test_labels_that_are_gone_are_said_to_be_and_the_checkpoint_stays(tmp_path: Path) -> None:
    ground = make_ground(tmp_path, size=384, each=3)
    settings = short(ground, tmp_path)
    with pytest.raises(CancelledByUser):
        tune(settings, service(), At(3, cancel))
    kept = (settings.work_folder / "checkpoint.pt").read_bytes()
    hidden = ground.labels.rename(tmp_path / "hidden.gpkg")
    with pytest.raises(TuningError, match=r"labels.gpkg cannot be read.*Check file"):
        tune(settings, service(), NullProgress(), resume=True)
    assert (settings.work_folder / "checkpoint.pt").read_bytes() == kept
    hidden.rename(ground.labels)
    assert tune(settings, service(), NullProgress(), resume=True).steps == 4


def test_a_run_in_parts_goes_on_in_any_of_them(ground: Ground, tmp_path: Path) -> None:
    settings = ground.settings(tmp_path / "a.safetensors", schedule=replace(SCHEDULE, steps=3))
    whole = tune(replace(settings, output=tmp_path / "whole.safetensors"), service(), NullProgress())
    looks = 0

    class Stop(NullProgress):
        def __init__(self, at: int) -> None:
            self.left = at

        def check(self) -> None:
            nonlocal looks
            looks += 1
            self.left -= 1
            if self.left == 0:
                raise CancelledByUser

    for at in (120, 250, 60, 333):
        with pytest.raises(CancelledByUser):
            tune(settings, service(), Stop(at), resume=looks > 0)
    result = tune(settings, service(), NullProgress(), resume=True)
    assert same(result.path, whole.path)
    assert result.gain == whole.gain


def test_the_instant_way_is_stopped_without_a_trace(ground: Ground, tmp_path: Path) -> None:
    settings = short(ground, tmp_path, methods=(MaskMixConfig(),))
    settings = replace(settings, schedule=replace(SCHEDULE, steps=30))
    whole = tune(replace(settings, output=tmp_path / "whole.safetensors"), service(), NullProgress())
    with pytest.raises(CancelledByUser):
        tune(settings, service(), At(12, cancel))
    assert same(tune(settings, service(), NullProgress(), resume=True).path, whole.path)


def _benchmark() -> ModuleType:
    path = ROOT / "benchmarks" / "methods" / "interruption.py"
    spec = importlib.util.spec_from_file_location("samtune_interruption", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(900)
def test_a_killed_engine_loses_nothing(tmp_path: Path) -> None:
    found = _benchmark().interrupted(tmp_path, 3, hold_out=0.0)
    assert len(found.moments) == 3
    assert found.same == found.ends >= 1


def test_nothing_is_begun_in_the_folder_of_a_kept_run(ground: Ground, tmp_path: Path) -> None:
    settings = ground.settings(tmp_path / "a.safetensors", schedule=SCHEDULE)
    with pytest.raises(CancelledByUser):
        tune(settings, service(), At(3, cancel))
    assert (settings.work_folder / "part-1" / "checkpoint.pt").is_file()
    inputs = TuneInputs((str(ground.raster),), LabelSource(str(ground.labels), class_field="kind"), level=0)
    run = TuneParams(inputs, TuneTask.PROMPTABLE, str(settings.output), str(settings.work_folder), ("decoder",))
    with pytest.raises(TuningError, match="interrupted run is kept"):
        TuneService(service()).run(TuneRunParams(run), NullProgress())
    assert DecoderConfig() in settings.methods
