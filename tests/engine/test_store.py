"""The embedding store: tiers, damage, eviction, sharing, full disks."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from samtune.engine import store as module
from samtune.engine.crops import Crop
from samtune.engine.messages import RasterSpec
from samtune.engine.store import EmbeddingKey, EmbeddingStore, open_store
from samtune.engine.store_files import MARKER, StoredCrop, problem
from samtune.models.errors import StoreError

KEY = EmbeddingKey("raster", (1, 2, 3), ((0.0, 255.0),) * 3, Crop(0, 512, 256, 512), "model")
FILE_BYTES = 8 * 4 * 4 * 2


def made(value: float = 1.0, *, holes: bool = False) -> StoredCrop:
    valid = None
    if holes:
        valid = np.ones((64, 64), bool)
        valid[3, 5:50] = False
    return StoredCrop(np.full((8, 4, 4), value, np.float16), valid)


def key(number: int) -> EmbeddingKey:
    return replace(KEY, crop=Crop(0, 512, number, 0))


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("??/*"))


def test_what_was_put_is_found_in_memory_then_on_disk(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path / "store")
    assert store.get(KEY) is None
    store.put(KEY, made(2.5, holes=True))
    found, source = store.get(KEY)
    assert source == "memory"
    again, source = EmbeddingStore(tmp_path / "store").get(KEY)
    assert source == "disk"
    np.testing.assert_array_equal(again.embedding, found.embedding)
    assert again.embedding.dtype == np.float16
    np.testing.assert_array_equal(again.valid, made(holes=True).valid)
    assert again.valid.dtype == bool


def test_a_disk_hit_moves_into_memory(tmp_path: Path) -> None:
    EmbeddingStore(tmp_path / "s").put(KEY, made())
    store = EmbeddingStore(tmp_path / "s")
    assert [store.get(KEY)[1] for _ in range(2)] == ["disk", "memory"]


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, raster="other"),
        replace(KEY, bands=(3, 2, 1)),
        replace(KEY, stretch=((0.0, 254.0),) * 3),
        replace(KEY, crop=Crop(1, 512, 256, 512)),
        replace(KEY, crop=Crop(0, 1024, 256, 512)),
        replace(KEY, crop=Crop(0, 512, 512, 256)),
        replace(KEY, model="other"),
        replace(KEY, encoder_adapter="lora"),
    ],
)
def test_everything_that_matters_is_in_the_key(other: EmbeddingKey) -> None:
    assert other.digest != KEY.digest
    assert len(other.digest) == 64


def test_the_key_of_a_spec_does_not_depend_on_the_path() -> None:
    crop = Crop(0, 512, 0, 0)
    one = EmbeddingKey.of("print", RasterSpec("a.tif", (1,), ((0.0, 1.0),)), crop, "model")
    assert one == EmbeddingKey.of("print", RasterSpec("./a.tif", (1,), ((0.0, 1.0),)), crop, "model")


def test_digests_are_the_same_in_every_process() -> None:
    assert KEY.digest[:12] == "84f7f6cf156a", "changing this makes every user's store useless: raise FORMAT then"


def test_memory_has_a_cap_and_forgets_what_was_used_longest_ago() -> None:
    store = EmbeddingStore(None, memory_bytes=3 * FILE_BYTES)
    for number in range(3):
        store.put(key(number), made(number))
    store.get(key(0))
    store.put(key(3), made())
    assert [store.get(key(number)) is not None for number in range(4)] == [True, False, True, True]


def test_putting_twice_does_not_count_twice() -> None:
    store = EmbeddingStore(None, memory_bytes=2 * FILE_BYTES)
    store.put(key(0), made())
    for _ in range(5):
        store.put(key(1), made())
    assert store.get(key(0)) is not None


def test_one_crop_larger_than_the_cap_is_kept_all_the_same() -> None:
    store = EmbeddingStore(None, memory_bytes=10)
    store.put(KEY, made())
    assert store.get(KEY) is not None


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "header", "swap"])
def test_a_damaged_file_is_removed_and_made_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    EmbeddingStore(tmp_path / "s").put(KEY, made(1.5))
    (path,) = files(tmp_path / "s")
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:-10]
    elif damage == "flip":
        data[-3] ^= 1
    elif damage == "empty":
        data = bytearray()
    elif damage == "header":
        data[:8] = b"\xff" * 8
    else:
        EmbeddingStore(tmp_path / "other").put(key(9), made(9.0))
        data = bytearray(files(tmp_path / "other")[0].read_bytes())
    path.write_bytes(data)
    store = EmbeddingStore(tmp_path / "s")
    with caplog.at_level(logging.WARNING):
        assert store.get(KEY) is None
    assert "damaged" in caplog.text
    assert not path.exists()
    store.put(KEY, made(1.5))
    assert EmbeddingStore(tmp_path / "s").get(KEY)[0].embedding[0, 0, 0] == 1.5


def test_the_disk_tier_has_a_cap_and_evicts_by_last_use(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    EmbeddingStore(folder).put(key(0), made())
    size = files(folder)[0].stat().st_size
    store = EmbeddingStore(folder, disk_bytes=int(10.5 * size), memory_bytes=0)
    for number in range(10):
        store.put(key(number), made(number))
        stamp = 1_000_000 + number
        os.utime(folder / key(number).digest[:2] / f"{key(number).digest}.safetensors", (stamp, stamp))
    assert store.disk_usage() == 10 * size
    reader = EmbeddingStore(folder)
    assert reader.get(key(0)) is not None, "using it makes it young"
    store.put(key(10), made())
    left = [EmbeddingStore(folder).get(key(number)) is not None for number in range(11)]
    assert left[0] and left[10]
    assert not left[1] and not left[2]
    assert all(left[3:])
    assert store.disk_usage() <= 10 * size


def test_a_store_that_another_process_filled_is_recounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECOUNT_EVERY", 2)
    folder = tmp_path / "s"
    small = EmbeddingStore(folder, disk_bytes=3000)
    other = EmbeddingStore(folder)
    small.put(key(0), made())
    for number in range(1, 20):
        other.put(key(number), made())
    for number in range(20, 23):
        small.put(key(number), made())
    assert small.disk_usage() <= 3000


def test_foreign_files_are_never_touched(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    store = EmbeddingStore(folder, disk_bytes=1)
    store.put(key(0), made())
    foreign = [folder / "photo.jpg", folder / "ab" / "model.safetensors", folder / "zz" / ("0" * 63 + "x.safetensors")]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        os.utime(path, (1, 1))
    store.put(key(1), made())
    assert store.clear() > 0
    assert all(path.read_text() == "mine" for path in foreign)
    assert store.disk_usage() == 0


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("precious")
    with pytest.raises(StoreError, match="holds other files"):
        EmbeddingStore(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_folder_of_ours_is_known_again_whatever_lies_in_it(tmp_path: Path) -> None:
    EmbeddingStore(tmp_path / "s")
    assert (tmp_path / "s" / MARKER).is_file()
    (tmp_path / "s" / "note.txt").write_text("hello")
    EmbeddingStore(tmp_path / "s").put(KEY, made())


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        EmbeddingStore(tmp_path / "file" / "store")


def test_clear_empties_both_tiers(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path / "s")
    for number in range(3):
        store.put(key(number), made())
    used = store.disk_usage()
    assert store.clear() == used > 0
    assert store.get(key(0)) is None
    store.put(key(0), made())
    assert store.get(key(0))[1] == "memory"


def test_without_a_folder_or_size_there_is_no_disk_tier(tmp_path: Path) -> None:
    EmbeddingStore(None).put(KEY, made())
    EmbeddingStore(tmp_path / "s", disk_bytes=0).put(KEY, made())
    assert not (tmp_path / "s").exists()


def test_a_full_disk_is_told_once_and_memory_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = EmbeddingStore(tmp_path / "s")
    store.put(key(0), made())

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with caplog.at_level(logging.WARNING):
        store.put(key(1), made())
        store.put(key(2), made())
    assert caplog.text.count("disk full") == 1
    assert "free some space" in store.warning
    assert store.get(key(2))[1] == "memory"
    assert [path.suffix for path in files(tmp_path / "s")] == [".safetensors"], "no half-written file stays"
    assert EmbeddingStore(tmp_path / "s").get(key(0))[1] == "disk"


def test_half_written_files_of_dead_processes_go_when_space_is_needed(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    store = EmbeddingStore(folder, disk_bytes=1)
    old, new = folder / "aa" / "writing-old.tmp", folder / "aa" / "writing-new.tmp"
    old.parent.mkdir()
    old.write_text("")
    new.write_text("")
    os.utime(old, (1, 1))
    store.put(key(0), made())
    store.put(key(1), made())
    assert not old.exists()
    assert new.exists(), "somebody is writing it"


def test_an_unreadable_file_is_a_miss(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = EmbeddingStore(tmp_path / "s", memory_bytes=0)
    path = tmp_path / "s" / KEY.digest[:2] / f"{KEY.digest}.safetensors"
    path.mkdir(parents=True)
    assert store.get(KEY) is None
    assert "cannot be read" in caplog.text


WRITER = """
import sys, importlib.util, numpy as np
from pathlib import Path
spec = importlib.util.spec_from_file_location("bootstrap", Path(sys.argv[1]) / "engine" / "bootstrap.py")
bootstrap = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bootstrap)
bootstrap.make_importable(Path(sys.argv[1]))
from samtune.engine.crops import Crop
from samtune.engine.store import EmbeddingKey, EmbeddingStore, open_store
from samtune.engine.store_files import StoredCrop
store = EmbeddingStore(Path(sys.argv[2]), disk_bytes=20000, memory_bytes=0)
for number in range(60):
    key = EmbeddingKey("r", (1,), ((0.0, 1.0),), Crop(0, 512, number % 20, 0), "m")
    found = store.get(key)
    if found is not None and not (found[0].embedding == number % 20).all():
        sys.exit(1)
    store.put(key, StoredCrop(np.full((8, 8, 8), number % 20, np.float16)))
sys.exit(1 if store.warning else 0)
"""


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", WRITER, str(root), str(tmp_path / "s")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    results = [(process.communicate(timeout=60)[1], process.returncode) for process in running]
    assert results == [("", 0), ("", 0)]
    assert EmbeddingStore(tmp_path / "s").disk_usage() <= 20000


def test_threads_share_a_store(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path / "s", memory_bytes=4 * FILE_BYTES)
    wrong: list[int] = []

    def work(offset: int) -> None:
        for number in range(offset, offset + 30):
            store.put(key(number % 12), made(number % 12))
            found = store.get(key(number % 12))
            if found is None or found[0].embedding[0, 0, 0] != number % 12:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in (0, 3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_after_a_full_disk_writing_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    store = EmbeddingStore(tmp_path / "s")
    tries: list[int] = []

    def full(*_: object, **__: object) -> None:
        tries.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        store.put(key(0), made())
        store.put(key(1), made())
        assert len(tries) == 1, "not at every click"
        now[0] += module.RETRY_SECONDS
        store.put(key(2), made())
        assert len(tries) == 2
        assert store.warning
    now[0] += module.RETRY_SECONDS
    store.put(key(3), made())
    assert store.warning == "", "all is well again"
    assert EmbeddingStore(tmp_path / "s").get(key(3))[1] == "disk"


def test_a_default_folder_of_no_use_leaves_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    store = open_store("", tmp_path / "file" / "store")
    assert "cannot be used" in store.warning
    assert "cannot be used" in caplog.text
    store.put(key(0), made())
    assert store.get(key(0))[1] == "memory"
    assert store.folder is None


def test_a_chosen_folder_of_no_use_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        open_store(str(tmp_path / "file" / "store"), tmp_path / "default")
    assert not (tmp_path / "default").exists()


def test_the_chosen_folder_and_else_the_default_one_is_taken(tmp_path: Path) -> None:
    assert open_store("", tmp_path / "default").folder == tmp_path / "default"
    assert open_store(str(tmp_path / "own"), tmp_path / "default").folder == tmp_path / "own"
    assert open_store("", tmp_path / "default").warning == ""


def test_trouble_with_a_folder_is_seen_without_touching_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "deep" / "store"
    assert problem(folder) == ""
    assert not folder.parent.exists()
    EmbeddingStore(folder)
    assert problem(folder) == ""
    (tmp_path / "file").write_text("")
    assert "cannot be written to" in problem(tmp_path / "file" / "store")
    assert "other files" in problem(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "cannot be written to" in problem(folder)
