"""Which computing device the models run on, and why; and how many threads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ..models.errors import DeviceError

AUTO = "auto"
_NICE = 10
_USABLE_CUDA_BYTES = 3 * 1024**3
"""ViT-B encodes in about 2 GiB; on a smaller card every crop would end in an error."""


class DeviceKind(StrEnum):
    """Devices that SamTune supports, as torch names them."""

    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


@dataclass(frozen=True)
class DeviceChoice:
    """The device in use.

    Attributes:
        name: as torch takes it.
        reason: why this one, a sentence for the user.
        threads: CPU threads for the model.
    """

    name: str
    reason: str
    threads: int


class Hardware(Protocol):
    """What the choice depends on; a test gives its own."""

    def cuda(self) -> tuple[str, int] | None:
        """Return name and memory in bytes of the first usable NVIDIA (or ROCm) GPU, or None."""

    def mps(self) -> bool:
        """Say whether Apple's GPU can be used."""

    def cuda_problem(self) -> str:
        """Say in a few words why there is no CUDA device: no card, or a torch built without it."""

    def cores(self) -> int:
        """Return how many CPU cores this process may use."""


class TorchHardware:
    """The hardware as torch sees it."""

    def cuda(self) -> tuple[str, int] | None:
        """Return name and memory in bytes of the first usable NVIDIA (or ROCm) GPU, or None."""
        import torch

        if not torch.cuda.is_available():
            return None
        try:
            properties = torch.cuda.get_device_properties(0)
            torch.zeros(1, device="cuda")  # a card too old for this torch is listed, but fails at the first kernel
        except RuntimeError:
            return None
        return str(properties.name), int(properties.total_memory)

    def mps(self) -> bool:
        """Say whether Apple's GPU can be used."""
        import torch

        return torch.backends.mps.is_available()

    def cuda_problem(self) -> str:
        """Say in a few words why there is no CUDA device: no card, or a torch built without it."""
        import torch

        if torch.version.cuda is None and torch.version.hip is None:
            return "the installed torch is built without GPU support"
        return "no usable GPU was found"

    def cores(self) -> int:
        """Return how many CPU cores this process may use."""
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1


def choose(
    setting: str = AUTO, threads: int = 0, hardware: Hardware | None = None, *, spare: bool = True
) -> DeviceChoice:
    """Choose the device.

    Args:
        setting: ``auto``, or the device that the user insists on.
        threads: CPU threads; 0 leaves one core to the rest of the machine. More than there are cores is cut to that.
        hardware: what there is; None asks torch.
        spare: leave that core free; not needed by what gives way to all else, see :func:`give_way`.

    Raises:
        DeviceError: the device that the user insists on is absent or unknown.
    """
    found = hardware or TorchHardware()
    number = thread_count(threads, found.cores(), spare=spare)
    if setting in {AUTO, ""}:
        name, reason = _best(found)
        return DeviceChoice(name.value, reason, number)
    try:
        wanted = DeviceKind(setting)
    except ValueError as error:
        known = ", ".join([AUTO, *(kind.value for kind in DeviceKind)])
        raise DeviceError(f"There is no device called {setting!r}. Choose one of: {known}.") from error
    _require(wanted, found)
    return DeviceChoice(wanted.value, f"{_TITLES[wanted]}, as chosen in the settings.", number)


_TITLES = {DeviceKind.CPU: "The processor", DeviceKind.CUDA: "The GPU", DeviceKind.MPS: "Apple's GPU"}


def _best(hardware: Hardware) -> tuple[DeviceKind, str]:
    card = hardware.cuda()
    if card is not None and card[1] >= _USABLE_CUDA_BYTES:
        return DeviceKind.CUDA, f"The GPU {card[0]} with {card[1] / 1024**3:.0f} GiB of memory."
    if card is not None:
        size = card[1] / 1024**3
        return DeviceKind.CPU, f"The processor, because the GPU {card[0]} has only {size:.0f} GiB of memory."
    if hardware.mps():
        return DeviceKind.MPS, "Apple's GPU, through Metal."
    return DeviceKind.CPU, f"The processor, because {hardware.cuda_problem()}."


def _require(wanted: DeviceKind, hardware: Hardware) -> None:
    if wanted is DeviceKind.CUDA and hardware.cuda() is None:
        raise DeviceError(
            f"The device cuda cannot be used: {hardware.cuda_problem()}. Set the device to auto or cpu in SamTune's "
            "settings."
        )
    if wanted is DeviceKind.MPS and not hardware.mps():
        raise DeviceError(
            "The device mps cannot be used: it needs an Apple computer with its own GPU. Set the device to auto or "
            "cpu in SamTune's settings."
        )


def thread_count(wanted: int, cores: int, *, spare: bool = True) -> int:
    """Return the number of threads for the model.

    Args:
        wanted: 0 for all cores but one, or for all.
        cores: how many there are.
        spare: whether 0 leaves one free.

    Raises:
        DeviceError: a negative number was asked for.
    """
    if wanted < 0:
        raise DeviceError(f"{wanted} threads are not possible. Give a number from 1, or 0 for all cores but one.")
    return min(wanted, cores) if wanted else max(1, cores - spare)


def apply_threads(threads: int) -> None:
    """Set torch's number of CPU threads.

    Args:
        threads: from :class:`DeviceChoice`.
    """
    import torch

    torch.set_num_threads(threads)


def give_way() -> bool:
    """Let all other programs have the processor first, for work that nobody waits for with a hand on the mouse.

    Returns:
        False where the system has no such notion (Windows) and nothing was changed.
    """
    if not hasattr(os, "nice"):
        return False
    os.nice(_NICE)
    return True
