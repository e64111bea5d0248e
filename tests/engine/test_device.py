"""The choice of device and threads, with hardware made up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samtune.engine.device import DeviceKind, TorchHardware, apply_threads, choose, thread_count
from samtune.engine.messages import EngineSettings
from samtune.engine.services import make_services
from samtune.models.errors import DeviceError

GIB = 1024**3


@dataclass
class Machine:
    """Hardware as a test wants it."""

    card: tuple[str, int] | None = None
    apple: bool = False
    problem: str = "no usable GPU was found"
    number: int = 8

    def cuda(self) -> tuple[str, int] | None:
        return self.card

    def mps(self) -> bool:
        return self.apple

    def cuda_problem(self) -> str:
        return self.problem

    def cores(self) -> int:
        return self.number


@pytest.mark.parametrize(
    ("machine", "name", "reason"),
    [
        (Machine(("RTX 4090", 24 * GIB)), "cuda", "The GPU RTX 4090 with 24 GiB of memory."),
        (Machine(("GT 710", 2 * GIB)), "cpu", "The processor, because the GPU GT 710 has only 2 GiB of memory."),
        (Machine(apple=True), "mps", "Apple's GPU, through Metal."),
        (Machine(("RTX 4090", 24 * GIB), apple=True), "cuda", "The GPU RTX 4090 with 24 GiB of memory."),
        (Machine(), "cpu", "The processor, because no usable GPU was found."),
        (Machine(problem="torch has no GPU support"), "cpu", "The processor, because torch has no GPU support."),
    ],
)
@pytest.mark.parametrize("setting", ["auto", ""])
def test_automatic_choice_and_its_reason(machine: Machine, name: str, reason: str, setting: str) -> None:
    choice = choose(setting, hardware=machine)
    assert (choice.name, choice.reason) == (name, reason)


@pytest.mark.parametrize(
    ("setting", "machine"),
    [
        ("cpu", Machine(("RTX 4090", 24 * GIB), apple=True)),
        ("cuda", Machine(("GT 710", 2 * GIB))),
        ("mps", Machine(("RTX 4090", 24 * GIB), apple=True)),
    ],
)
def test_the_user_may_insist(setting: str, machine: Machine) -> None:
    choice = choose(setting, hardware=machine)
    assert choice.name == setting
    assert choice.reason.endswith("as chosen in the settings.")


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("cuda", "cuda cannot be used: no usable GPU"),
        ("mps", "needs an Apple computer"),
        ("tpu", "auto, cpu, cuda, mps"),
    ],
)
def test_what_is_absent_is_refused_with_what_to_do(setting: str, text: str) -> None:
    with pytest.raises(DeviceError, match=text):
        choose(setting, hardware=Machine())


@given(wanted=st.integers(0, 100), cores=st.integers(1, 64))
def test_threads_leave_a_core_and_never_exceed_the_machine(wanted: int, cores: int) -> None:
    number = thread_count(wanted, cores)
    assert 1 <= number <= cores
    if wanted == 0 and cores > 1:
        assert number == cores - 1
    if 0 < wanted <= cores:
        assert number == wanted


@pytest.mark.parametrize(("background", "nice", "expected"), [(False, True, 1), (True, True, 2), (True, False, 1)])
def test_work_that_gives_way_takes_every_core(
    background: bool, nice: bool, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it cannot give way, one core is left for the hand on the mouse."""
    told: list[int] = []
    monkeypatch.setattr(TorchHardware, "cores", lambda _: 2)
    monkeypatch.setattr("samtune.engine.services.apply_threads", told.append)
    if nice:
        monkeypatch.setattr(os, "nice", lambda _: 0, raising=False)
    else:
        monkeypatch.delattr(os, "nice", raising=False)
    settings = EngineSettings("cpu", store_dir=str(tmp_path / "store"), models_dir=str(tmp_path), background=background)
    make_services(settings, "")
    assert told == [expected]


def test_negative_threads_are_refused() -> None:
    with pytest.raises(DeviceError, match="-1 threads"):
        choose("cpu", threads=-1, hardware=Machine())


def test_threads_reach_torch() -> None:
    before = torch.get_num_threads()
    try:
        apply_threads(1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_this_machine_has_a_device_that_works() -> None:
    choice = choose()
    assert choice.name in {kind.value for kind in DeviceKind}
    assert choice.reason.endswith(".")
    assert torch.ones(2, device=choice.name).sum().item() == 2
    assert 1 <= choice.threads <= (os.cpu_count() or 1)


def test_a_card_that_torch_cannot_use_is_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_old(_index: int) -> None:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", too_old)
    assert TorchHardware().cuda() is None


def test_a_torch_without_gpu_support_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    assert "without GPU support" in TorchHardware().cuda_problem()
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert "no usable GPU" in TorchHardware().cuda_problem()


def test_cores_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 5}, raising=False)
    assert TorchHardware().cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert TorchHardware().cores() == 1
