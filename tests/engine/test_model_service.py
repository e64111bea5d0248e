"""Models as a service: presence, import, download, verification, loading once."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import threading
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from samtune.engine import downloads
from samtune.engine.device import DeviceChoice
from samtune.engine.messages import DownloadParams, ImportParams, ModelList
from samtune.engine.model_files import ModelFiles
from samtune.engine.model_service import ModelService
from samtune.engine.progress import NullProgress
from samtune.engine.transport import Transport
from samtune.engine.wire import from_wire, to_wire
from samtune.models import hashing, loading, registry
from samtune.models.card import ModelCard
from samtune.models.errors import CancelledByUser, DownloadError, ModelMissingError, WeightsError
from samtune.models.promptable import PromptableModel

from ..models.tiny_files import write_tiny
from .flaky_server import Plan, serving

CPU = DeviceChoice("cpu", "The processor.", 1)
QUICK = Transport(attempts=2, connect_seconds=2, read_seconds=2, pause_seconds=0.01)
PROGRESS = NullProgress()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelCard, Path]:
    """A card that has to be downloaded or imported, and its file, outside of the models folder."""
    return write_tiny(tmp_path_factory.mktemp("original"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


def _service(folder: Path, *cards: ModelCard) -> ModelService:
    by_name: Mapping[str, ModelCard] = {card.name: card for card in cards}
    return ModelService(folder, CPU, by_name)


@pytest.fixture
def count_hashes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    hashed: list[Path] = []
    plain = hashing.sha256_of

    def counting(path: Path, *arguments: object) -> str:
        hashed.append(path)
        return plain(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(hashing, "sha256_of", counting)
    return hashed


class Stop:
    """A progress that cancels at the first occasion."""

    def report(self, fraction: float, message: str) -> None:
        pass

    def check(self) -> None:
        raise CancelledByUser


def test_the_registry_is_offered_whole(folder: Path) -> None:
    models = ModelService(folder, CPU).info()
    assert [model.name for model in models.models] == ["tiny", "vit_b", "vit_l", "vit_h"]
    assert not any(model.present or model.path for model in models.models[1:])
    assert models.models[1].url.endswith("sam_vit_b_01ec64.pth")
    assert models.models[1].size_bytes == 375_042_383
    assert not folder.exists()
    assert from_wire(ModelList, json.loads(json.dumps(to_wire(models)))) == models


def test_a_file_counts_as_present_only_in_full_length(folder: Path, original: tuple[ModelCard, Path]) -> None:
    card, path = original
    service = _service(folder, card)
    folder.mkdir()
    (folder / card.file_name).write_bytes(path.read_bytes()[:-1])
    assert not service.info().models[0].present
    shutil.copy(path, folder / card.file_name)
    assert service.info().models[0].present
    assert service.info().models[0].path == str(folder / card.file_name)


def test_unknown_and_missing_models_are_told(folder: Path, original: tuple[ModelCard, Path]) -> None:
    service = _service(folder, original[0])
    with pytest.raises(ModelMissingError, match="Choose one of: tiny"):
        service.get("vit_x")
    with pytest.raises(ModelMissingError, match=r"Download it .* or load it from file"):
        service.get("tiny")
    with pytest.raises(ModelMissingError, match="Choose one of"):
        service.download(DownloadParams("vit_x"), PROGRESS)


def test_import_copies_checks_and_loads_once(folder: Path, original: tuple[ModelCard, Path]) -> None:
    card, path = original
    service = _service(folder, card)
    info = service.import_file(ImportParams("tiny", str(path)), PROGRESS)
    assert info.present
    assert (folder / card.file_name).read_bytes() == path.read_bytes()
    assert path.exists()
    assert sorted(file.name for file in folder.iterdir()) == ["tiny.safetensors", "verified.json"]
    model = service.get("tiny")
    assert model is service.get("tiny")
    assert model.card.sha256 == card.sha256
    assert str(model.device) == "cpu"


def test_warm_up_loads_and_runs(folder: Path, original: tuple[ModelCard, Path]) -> None:
    card, path = original
    service = _service(folder, card)
    service.import_file(ImportParams("tiny", str(path)), PROGRESS)
    with pytest.raises(CancelledByUser):
        service.warm_up("tiny", Stop())
    assert "SamTune tiny is ready after" in service.warm_up("tiny").message


def test_a_warm_model_is_not_run_again(
    folder: Path, original: tuple[ModelCard, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    card, path = original
    service = _service(folder, card)
    service.import_file(ImportParams("tiny", str(path)), PROGRESS)
    runs: list[str] = []
    monkeypatch.setattr(PromptableModel, "warm_up", lambda self, _check: runs.append(self.card.name))
    assert "after" in service.warm_up("tiny").message
    assert service.warm_up("tiny").message == "SamTune tiny is ready."
    assert runs == ["tiny"]


def test_a_warm_up_that_was_stopped_is_made_up_for(folder: Path, original: tuple[ModelCard, Path]) -> None:
    card, path = original
    service = _service(folder, card)
    service.import_file(ImportParams("tiny", str(path)), PROGRESS)
    service.get("tiny")
    with pytest.raises(CancelledByUser):
        service.warm_up("tiny", Stop())
    assert "ready after" in service.warm_up("tiny").message, "the stopped run does not count"


def test_one_large_model_is_kept_besides_the_shipped_one(folder: Path, original: tuple[ModelCard, Path]) -> None:
    card, path = original
    shipped = replace(card, shipped=True, file_name=path.name)
    large = {name: replace(card, name=name, title=name, file_name=f"{name}.safetensors") for name in ("one", "two")}
    service = ModelService(folder, CPU, {"tiny": shipped, **large}, ModelFiles(folder, path.parent))
    for name in large:
        service.import_file(ImportParams(name, str(path)), PROGRESS)
    tiny, one = service.get("tiny"), weakref.ref(service.get("one"))
    service.warm_up("one")
    service.get("two")
    gc.collect()
    assert one() is None, "its memory is free"
    assert service.get("tiny") is tiny, "the small one stays"
    assert "ready after" in service.warm_up("one").message, "loaded and warmed up anew"


@pytest.fixture
def no_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which no file can be made: the tests may run as root, who may write everywhere."""

    def refuse(_files: ModelFiles, _card: ModelCard) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(ModelFiles, "record", refuse)


def test_models_in_a_read_only_folder_are_used(
    folder: Path, original: tuple[ModelCard, Path], no_notes: None, caplog: pytest.LogCaptureFixture
) -> None:
    card, path = original
    folder.mkdir()
    shutil.copy(path, folder / card.file_name)
    assert _service(folder, card).get("tiny").card.sha256 == card.sha256
    assert "takes no note" in caplog.text


def test_a_download_that_cannot_be_noted_is_an_error_in_words(
    folder: Path, original: tuple[ModelCard, Path], no_notes: None
) -> None:
    card, path = original
    with serving(Plan(path.read_bytes())) as url, pytest.raises(DownloadError, match="takes no other files: Perm"):
        _service(folder, card).download(DownloadParams("tiny", mirror=url.removesuffix("/file")), PROGRESS, QUICK)


def test_a_folder_that_may_not_be_looked_into_has_no_models(
    folder: Path, original: tuple[ModelCard, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    assert not _service(folder, original[0]).info().models[0].present


def test_threads_asking_together_get_one_model(
    folder: Path, original: tuple[ModelCard, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    card, path = original
    service = _service(folder, card)
    service.import_file(ImportParams("tiny", str(path)), PROGRESS)
    loads: list[str] = []
    plain = loading.load

    def counting(card: ModelCard, *arguments: object, **options: object) -> object:
        loads.append(card.name)
        return plain(card, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(loading, "load", counting)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(service.get("tiny"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == ["tiny"]
    assert len(set(map(id, found))) == 1


@pytest.mark.parametrize("content", [b"", b"something else", None], ids=["empty", "other", "flipped"])
def test_import_refuses_another_file(folder: Path, original: tuple[ModelCard, Path], content: bytes | None) -> None:
    card, path = original
    other = folder.parent / "picked.pth"
    other.write_bytes(path.read_bytes()[:-1] + b"\x7f" if content is None else content)
    with pytest.raises(WeightsError, match="not the published file of SamTune tiny") as caught:
        _service(folder, card).import_file(ImportParams("tiny", str(other)), PROGRESS)
    assert card.sha256 in caught.value.details
    assert list(folder.iterdir()) == []
    assert other.exists()


def test_import_keeps_the_good_file_when_a_bad_one_is_offered(folder: Path, original: tuple[ModelCard, Path]) -> None:
    card, path = original
    service = _service(folder, card)
    service.import_file(ImportParams("tiny", str(path)), PROGRESS)
    (folder.parent / "bad").write_bytes(b"bad")
    with pytest.raises(WeightsError):
        service.import_file(ImportParams("tiny", str(folder.parent / "bad")), PROGRESS)
    assert service.info().models[0].present
    service.get("tiny")


def test_import_tells_what_is_wrong_with_paths(folder: Path, original: tuple[ModelCard, Path]) -> None:
    card, path = original
    service = _service(folder, card)
    with pytest.raises(ModelMissingError, match="There is no file"):
        service.import_file(ImportParams("tiny", str(folder / "nothing.pth")), PROGRESS)
    with pytest.raises(ModelMissingError, match="There is no file"):
        service.import_file(ImportParams("tiny", str(folder.parent)), PROGRESS)
    folder.write_text("a file where the folder should be")
    with pytest.raises(WeightsError, match="another folder"):
        service.import_file(ImportParams("tiny", str(path)), PROGRESS)


def test_import_into_a_full_disk(
    folder: Path, original: tuple[ModelCard, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _folder: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(DownloadError, match="are free"):
        _service(folder, original[0]).import_file(ImportParams("tiny", str(original[1])), PROGRESS)


def test_a_cancelled_import_leaves_nothing(folder: Path, original: tuple[ModelCard, Path]) -> None:
    with pytest.raises(CancelledByUser):
        _service(folder, original[0]).import_file(ImportParams("tiny", str(original[1])), Stop())
    assert list(folder.iterdir()) == []


def test_import_of_the_file_in_place_checks_it(folder: Path, original: tuple[ModelCard, Path]) -> None:
    card, path = original
    folder.mkdir()
    shutil.copy(path, folder / card.file_name)
    service = _service(folder, card)
    assert service.import_file(ImportParams("tiny", str(folder / card.file_name)), PROGRESS).present
    assert (folder / card.file_name).read_bytes() == path.read_bytes()


def test_shipped_models_are_neither_imported_nor_downloaded(folder: Path, original: tuple[ModelCard, Path]) -> None:
    service = _service(folder, replace(original[0], shipped=True, url=""))
    with pytest.raises(WeightsError, match="comes with the plugin"):
        service.import_file(ImportParams("tiny", str(original[1])), PROGRESS)
    with pytest.raises(DownloadError, match="nothing to download"):
        service.download(DownloadParams("tiny"), PROGRESS)


def test_a_missing_shipped_file_means_a_broken_installation(folder: Path, original: tuple[ModelCard, Path]) -> None:
    card = replace(original[0], shipped=True)
    files = ModelFiles(folder, folder / "empty")
    with pytest.raises(ModelMissingError, match="Install SamTune again"):
        ModelService(folder, CPU, {"tiny": card}, files).get("tiny")


def test_shipped_models_need_no_writable_folder(folder: Path, original: tuple[ModelCard, Path]) -> None:
    card, path = original
    shipped = replace(card, shipped=True)
    service = ModelService(folder, CPU, {"tiny": shipped}, ModelFiles(folder, path.parent))
    assert service.get("tiny").card.sha256 == card.sha256
    assert not folder.exists()
    damaged = replace(shipped, sha256="0" * 64)
    with pytest.raises(WeightsError, match="not the published file"):
        ModelService(folder, CPU, {"tiny": damaged}, ModelFiles(folder, path.parent)).get("tiny")


def test_a_checked_file_is_not_hashed_again_until_it_changes(
    folder: Path, original: tuple[ModelCard, Path], count_hashes: list[Path]
) -> None:
    card, path = original
    _service(folder, card).import_file(ImportParams("tiny", str(path)), PROGRESS)
    count_hashes.clear()
    _service(folder, card).get("tiny")
    assert count_hashes == []
    placed = folder / card.file_name
    os.utime(placed, ns=(1, 1))
    _service(folder, card).get("tiny")
    assert count_hashes == [placed]
    _service(folder, card).get("tiny")
    assert count_hashes == [placed]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    placed.write_bytes(content)
    with pytest.raises(WeightsError, match="content differs"):
        _service(folder, card).get("tiny")


@pytest.mark.parametrize("ledger", ["", "[]", '{"tiny.safetensors": 3}', "{"])
def test_a_damaged_ledger_only_costs_a_check(folder: Path, original: tuple[ModelCard, Path], ledger: str) -> None:
    card, path = original
    folder.mkdir()
    shutil.copy(path, folder / card.file_name)
    (folder / "verified.json").write_text(ledger)
    _service(folder, card).get("tiny")
    assert json.loads((folder / "verified.json").read_text())[card.file_name]["sha256"] == card.sha256


def test_a_card_without_hash_pins_the_first_file(folder: Path, original: tuple[ModelCard, Path]) -> None:
    card, path = original
    open_card = replace(card, sha256="", size_bytes=0)
    service = _service(folder, open_card)
    service.import_file(ImportParams("tiny", str(path)), PROGRESS)
    assert service.get("tiny").card.sha256 == card.sha256
    _other, other_path = write_tiny(folder.parent / "other", seed=5)
    shutil.copy(other_path, folder / card.file_name)
    with pytest.raises(WeightsError, match="not the published file"):
        _service(folder, open_card).get("tiny")
    # Importing it is the user's word that it is meant.
    _service(folder, open_card).import_file(ImportParams("tiny", str(other_path)), PROGRESS)
    assert _service(folder, open_card).get("tiny").card.sha256 != card.sha256


def test_without_a_hash_the_layout_is_checked_at_import(folder: Path, original: tuple[ModelCard, Path]) -> None:
    vit_b = replace(registry.card("vit_b"), sha256="", size_bytes=0)
    with pytest.raises(WeightsError, match="of another model"):
        _service(folder, vit_b).import_file(ImportParams("vit_b", str(original[1])), PROGRESS)
    assert list(folder.iterdir()) == []


def test_download_from_a_mirror(folder: Path, original: tuple[ModelCard, Path], count_hashes: list[Path]) -> None:
    card, path = original
    service = _service(folder, card)
    plan = Plan(path.read_bytes(), cut_after=[1_000_000])
    with serving(plan) as url:
        mirror = url.removesuffix("/file") + "/sam/"
        info = service.download(DownloadParams("tiny", mirror=mirror), PROGRESS, QUICK)
    assert plan.seen[0][":line"].split()[1] == f"/sam/{card.file_name}"
    assert info.present
    assert service.get("tiny").card.sha256 == card.sha256
    assert count_hashes == []  # checked while it was a part; the ledger knows


def test_download_of_wrong_bytes_leaves_the_model_missing(folder: Path, original: tuple[ModelCard, Path]) -> None:
    card, path = original
    service = _service(folder, card)
    with serving(Plan(path.read_bytes()[::-1])) as url, pytest.raises(DownloadError, match="deleted"):
        service.download(DownloadParams("tiny", mirror=url.removesuffix("/file")), PROGRESS, QUICK)
    assert not service.info().models[0].present
    assert [path.name for path in folder.iterdir()] == [".download.lock"]


def test_download_uses_the_proxy_of_the_request(folder: Path, original: tuple[ModelCard, Path]) -> None:
    card, path = original
    http_card = replace(card, url="http://models.example.org/tiny.safetensors")
    plan = Plan(path.read_bytes())
    with serving(plan) as url:
        _service(folder, http_card).download(DownloadParams("tiny", proxy=url.removesuffix("/file")), PROGRESS)
    assert plan.seen[0][":line"].startswith("GET http://models.example.org/tiny.safetensors")
