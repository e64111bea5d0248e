"""What the engine process answers with real services, models apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from samtune.engine import handlers, jobs, paths
from samtune.engine.messages import EngineInfo, EngineSettings, Method, ModelList, NoParams, WarmUpParams
from samtune.engine.progress import NullProgress
from samtune.engine.segmenter import Segmenter
from samtune.engine.store import EmbeddingStore
from samtune.engine.wire import REQUESTS
from samtune.models.errors import CancelledByUser, ModelMissingError, ProtocolError, StoreError

PROGRESS = NullProgress()


@pytest.fixture
def settings(tmp_path: Path) -> EngineSettings:
    return EngineSettings("cpu", 1, str(tmp_path / "store"), models_dir=str(tmp_path / "models"))


def test_every_request_but_the_handshake_has_a_handler(settings: EngineSettings) -> None:
    made = handlers.build(settings, PROGRESS)
    assert set(made) == set(REQUESTS) - {Method.INITIALIZE}
    assert set(jobs.LANES) <= set(made)


def test_loading_tells_its_steps_and_can_be_stopped(settings: EngineSettings, tmp_path: Path) -> None:
    class Impatient(NullProgress):
        def __init__(self) -> None:
            self.told: list[str] = []

        def report(self, fraction: float, message: str) -> None:
            self.told.append(message)

        def check(self) -> None:
            if len(self.told) == 2:
                raise CancelledByUser

    progress = Impatient()
    with pytest.raises(CancelledByUser):
        handlers.build(settings, progress)
    assert progress.told == ["Loading PyTorch", "Loading the raster library"]
    assert not (tmp_path / "store").exists(), "nothing was begun"


def test_it_describes_itself(settings: EngineSettings, tmp_path: Path) -> None:
    made = handlers.build(settings, PROGRESS, "engine.log")
    info = made[Method.INFO](NoParams(), PROGRESS)
    assert isinstance(info, EngineInfo)
    assert (info.device, info.threads, info.log_file, info.warnings) == ("cpu", 1, "engine.log", ())
    assert (info.store_dir, info.models_dir) == (str(tmp_path / "store"), str(tmp_path / "models"))
    models = made[Method.MODELS](NoParams(), PROGRESS)
    assert isinstance(models, ModelList)
    assert models.models[0].name == "tiny"


def test_a_default_store_of_no_use_is_a_warning(
    settings: EngineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    folders = replace(paths.default_folders(), store=tmp_path / "file" / "store")
    monkeypatch.setattr(paths, "default_folders", lambda: folders)
    info = handlers.build(replace(settings, store_dir=""), PROGRESS)[Method.INFO](NoParams(), PROGRESS)
    assert isinstance(info, EngineInfo)
    (warning,) = info.warnings
    assert "cannot be used" in warning


def test_a_chosen_store_of_no_use_is_an_error(settings: EngineSettings, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="Choose another"):
        handlers.build(settings, PROGRESS)


def test_a_disk_that_fills_up_later_is_told(settings: EngineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[EmbeddingStore] = []
    plain = EmbeddingStore.__init__

    def remember(store: EmbeddingStore, *arguments: object) -> None:
        opened.append(store)
        plain(store, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(EmbeddingStore, "__init__", remember)
    made = handlers.build(settings, PROGRESS)
    opened[0].warning = "The disk is full."
    info = made[Method.INFO](NoParams(), PROGRESS)
    assert isinstance(info, EngineInfo)
    assert info.warnings == ("The disk is full.",)


def test_clearing_the_store_forgets_answers_too(settings: EngineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    monkeypatch.setattr(Segmenter, "forget", lambda _self: steps.append("forget"))
    monkeypatch.setattr(EmbeddingStore, "clear", lambda _self: steps.append("clear") or 5_000_000)
    made = handlers.build(settings, PROGRESS)
    done = made[Method.CLEAR_STORE](NoParams(), PROGRESS)
    assert sorted(steps) == ["clear", "forget"]
    assert "5 MB" in str(done)


def test_wrong_parameters_are_a_protocol_error(settings: EngineSettings) -> None:
    made = handlers.build(settings, PROGRESS)
    with pytest.raises(ProtocolError) as caught:
        made[Method.WARM_UP](NoParams(), PROGRESS)
    assert "WarmUpParams" in caught.value.details
    with pytest.raises(ModelMissingError):
        made[Method.WARM_UP](WarmUpParams("no such model"), PROGRESS)
