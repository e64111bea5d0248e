"""What QGIS asks about adapter files: can this one be used here, and put this one into the folder of adapters."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from samtune.engine import adapter_requests
from samtune.engine.adapter_requests import AdapterRequests
from samtune.engine.adapters import AdapterService
from samtune.engine.messages import AddAdapterParams, CheckAdapterParams, RasterInfo, RasterSpec
from samtune.engine.progress import NullProgress, Progress
from samtune.engine.raster_source import RasterSource
from samtune.engine.tune_messages import DescribeAdapterParams, KeepAdapterParams
from samtune.models import registry
from samtune.models.errors import CancelledByUser, OutputError, RasterError, TuningError
from samtune.models.peft.adapter_card import read_header
from samtune.models.peft.adapter_file import load_adapter, read_card
from samtune.models.peft.card_records import BandRecord, BaseRecord, GroundRecord, HeadKind, InputRecord, SecondRecord
from samtune.models.promptable import PromptableModel
from samtune.models.tiny import build_tiny

from .adapter_files import card_for, write_adapter
from .rasters import write

PROGRESS = NullProgress()


class OneModel:
    """Has one model, whatever it is called."""

    def __init__(self) -> None:
        """Make it, with random weights."""
        torch.manual_seed(0)
        network = build_tiny().eval().requires_grad_(requires_grad=False)
        self.model = PromptableModel(registry.card("tiny"), network, torch.device("cpu"))

    def get(self, name: str, progress: Progress | None = None) -> PromptableModel:
        """Return it."""
        return self.model


def open_raster(spec: RasterSpec, progress: Progress) -> RasterInfo:
    source = RasterSource(spec)
    source.close()
    return source.info


@pytest.fixture(scope="module")
def models() -> OneModel:
    return OneModel()


@pytest.fixture
def requests(models: OneModel) -> AdapterRequests:
    return AdapterRequests(models, AdapterService(), open_raster)


@pytest.fixture
def raster(tmp_path: Path) -> str:
    """Three bands at half a metre."""
    return str(write(tmp_path / "scene.tif", np.zeros((3, 64, 64), np.uint8)))


def make(folder: Path, models: OneModel, name: str = "ponds", **more: object) -> str:
    return str(write_adapter(folder / f"{name}.safetensors", models.model.card, models.model.network, **more))


def check(path: str, raster: str, level: int = 0, second: str = "") -> CheckAdapterParams:
    return CheckAdapterParams(path, "tiny", RasterSpec(raster, (1, 2, 3)), level, second)


def test_what_suits_has_no_notes(requests: AdapterRequests, models: OneModel, raster: str, tmp_path: Path) -> None:
    path = make(tmp_path, models, inputs=InputRecord((1, 2, 3)), ground=GroundRecord((0.5, 0.5)))
    report = requests.check(check(path, raster), PROGRESS)
    assert (report.name, report.path, report.notes) == ("ponds", path, ())


def test_other_bands_and_ground_are_noted(
    requests: AdapterRequests, models: OneModel, raster: str, tmp_path: Path
) -> None:
    path = make(tmp_path, models, inputs=InputRecord((4, 3, 2)), ground=GroundRecord((0.5, 0.5)))
    bands, ground = requests.check(check(path, raster, level=4), PROGRESS).notes
    assert "bands 4, 3, 2" in bands
    assert "8 m is much coarser" in ground
    assert len(requests.check(check(path, raster), PROGRESS).notes) == 1, "the level decides"


@pytest.mark.parametrize(
    ("card", "says"),
    [
        ({"head": HeadKind.SEMANTIC}, "class maps"),
        ({"inputs": InputRecord((1,), bands=(BandRecord(5),))}, "needs band 5"),
        ({"inputs": InputRecord((1,), second=SecondRecord("height"))}, "second raster"),
        ({"base": BaseRecord("vit_b", registry.card("vit_b").architecture, "0" * 64, "Apache-2.0")}, "another base"),
    ],
)
def test_what_cannot_be_used_is_refused(
    requests: AdapterRequests, models: OneModel, raster: str, tmp_path: Path, card: dict[str, object], says: str
) -> None:
    with pytest.raises(TuningError, match=says):
        requests.check(check(make(tmp_path, models, **card), raster), PROGRESS)


def test_a_second_raster_suffices(requests: AdapterRequests, models: OneModel, raster: str, tmp_path: Path) -> None:
    inputs = InputRecord((1, 2, 3), second=SecondRecord("height", (1,), ((0.0, 9.0),)))
    height = str(write(tmp_path / "height.tif", np.ones((1, 64, 64), np.float32)))
    path = make(tmp_path, models, inputs=inputs)
    assert requests.check(check(path, raster, second=height), PROGRESS).notes == ()
    with pytest.raises(RasterError):
        requests.check(check(path, raster, second=str(tmp_path / "no.tif")), PROGRESS)


def test_a_good_file_is_copied(requests: AdapterRequests, models: OneModel, tmp_path: Path) -> None:
    path, folder = make(tmp_path, models), tmp_path / "new" / "adapters"
    report = requests.add(AddAdapterParams(path, "tiny", str(folder)), PROGRESS)
    assert Path(report.path) == folder / "ponds.safetensors"
    assert Path(report.path).read_bytes() == Path(path).read_bytes()
    again = requests.add(AddAdapterParams(path, "tiny", str(folder)), PROGRESS)
    assert again.path == report.path
    assert requests.add(AddAdapterParams(report.path, "tiny", str(folder)), PROGRESS).path == report.path, "in place"
    assert [file.name for file in folder.iterdir()] == ["ponds.safetensors"]


def test_a_file_of_that_name_is_kept(requests: AdapterRequests, models: OneModel, tmp_path: Path) -> None:
    folder = tmp_path / "adapters"
    for seed in (1, 2):
        path = make(tmp_path, models, seed=seed)
        for _twice in range(2):
            requests.add(AddAdapterParams(path, "tiny", str(folder)), PROGRESS)
    assert sorted(file.name for file in folder.iterdir()) == ["ponds-2.safetensors", "ponds.safetensors"]


def test_it_gets_the_ending_that_lists_look_for(requests: AdapterRequests, models: OneModel, tmp_path: Path) -> None:
    path = Path(make(tmp_path, models)).rename(tmp_path / "ponds.download")
    report = requests.add(AddAdapterParams(str(path), "tiny", str(tmp_path / "adapters")), PROGRESS)
    assert Path(report.path).name == "ponds.safetensors"


def test_a_bad_file_is_not_copied(requests: AdapterRequests, models: OneModel, tmp_path: Path) -> None:
    path, folder = Path(make(tmp_path, models)), tmp_path / "adapters"
    whole = bytearray(path.read_bytes())
    whole[-100] ^= 1
    path.write_bytes(whole)
    with pytest.raises(TuningError, match="damaged"):
        requests.add(AddAdapterParams(str(path), "tiny", str(folder)), PROGRESS)
    with pytest.raises(TuningError, match="no adapter file"):
        requests.add(AddAdapterParams(str(tmp_path / "none"), "tiny", str(folder)), PROGRESS)
    assert not folder.exists()


def test_a_cancel_and_a_full_disk_leave_nothing_behind(
    requests: AdapterRequests, models: OneModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(NullProgress):
        checks = 0

        def check(self) -> None:
            self.checks += 1
            if self.checks == 3:
                raise CancelledByUser

    path, folder = make(tmp_path, models), tmp_path / "adapters"
    monkeypatch.setattr(adapter_requests, "_CHUNK", 1000)
    with pytest.raises(CancelledByUser):
        requests.add(AddAdapterParams(path, "tiny", str(folder)), Impatient())
    assert list(folder.iterdir()) == []

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(adapter_requests.os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        requests.add(AddAdapterParams(path, "tiny", str(folder)), PROGRESS)
    assert list(folder.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_said(requests: AdapterRequests, models: OneModel, tmp_path: Path) -> None:
    (tmp_path / "adapters").write_text("")
    with pytest.raises(OutputError, match="another folder"):
        requests.add(AddAdapterParams(make(tmp_path, models), "tiny", str(tmp_path / "adapters")), PROGRESS)


def test_keeping_names_the_copy_and_replaces_nothing(
    requests: AdapterRequests, models: OneModel, tmp_path: Path
) -> None:
    path = make(tmp_path, models, notes=("SamTune says.", "Note: old words"))
    before = Path(path).read_bytes()
    params = KeepAdapterParams(path, "Ponds / east", "drawn in May", str(tmp_path / "kept"), "tiny")
    first, second = requests.keep(params, PROGRESS), requests.keep(params, PROGRESS)
    assert [Path(one.path).name for one in (first, second)] == [
        "Ponds _ east.safetensors",
        "Ponds _ east-2.safetensors",
    ]
    assert Path(path).read_bytes() == before
    card = read_card(Path(first.path))
    assert (card.name, card.notes) == ("Ponds / east", ("SamTune says.", "Note: drawn in May"))
    model = models.model
    one, other = (load_adapter(Path(p), model.network, model.card.sha256)[0].state_dict() for p in (path, first.path))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_does_not_fit_or_has_no_name_is_not_kept(
    requests: AdapterRequests, models: OneModel, tmp_path: Path
) -> None:
    path = make(tmp_path, models, base=replace(card_for(models.model.card).base, sha256="0" * 64))
    with pytest.raises(TuningError, match="another base model"):
        requests.keep(KeepAdapterParams(path, "a", "", str(tmp_path / "kept"), "tiny"), PROGRESS)
    good = make(tmp_path, models, "good")
    with pytest.raises(TuningError, match="needs a name"):
        requests.keep(KeepAdapterParams(good, " ", "", str(tmp_path / "kept"), "tiny"), PROGRESS)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be made"):
        requests.keep(KeepAdapterParams(good, "a", "", str(tmp_path / "file" / "kept"), "tiny"), PROGRESS)
    assert not list(tmp_path.glob("kept/*"))


def test_describing_changes_the_card_only(requests: AdapterRequests, models: OneModel, tmp_path: Path) -> None:
    path = Path(make(tmp_path, models, notes=("SamTune says.",)))
    hashed, tensors = read_header(path)["sha256"], load_file(path)
    requests.describe(DescribeAdapterParams(str(path), "Teiche \u00fc", "Notiz"), PROGRESS)
    card = read_card(path)
    assert (card.name, card.notes) == ("Teiche \u00fc", ("SamTune says.", "Note: Notiz"))
    assert read_header(path)["sha256"] == hashed
    again = load_file(path)
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())
    requests.describe(DescribeAdapterParams(str(path), "b", ""), PROGRESS)
    assert read_card(path).notes == ("SamTune says.",)
    load_adapter(path, models.model.network, models.model.card.sha256)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_a_full_disk_leaves_the_described_file_as_it_was(
    requests: AdapterRequests, models: OneModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(make(tmp_path, models))
    before = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError):
        requests.describe(DescribeAdapterParams(str(path), "b", ""), PROGRESS)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
