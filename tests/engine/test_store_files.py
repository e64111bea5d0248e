"""The store's files: what was packed comes back, and nothing else is taken for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from safetensors import SafetensorError
from samtune.engine.store_files import MARKER, StoredCrop, age, claim, pack, remove, touch, unpack
from samtune.models.errors import StoreError

DIGEST = "ab" * 32
REFUSALS = (SafetensorError, ValueError, KeyError)


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float16, st.tuples(*[st.integers(1, 6)] * 3), elements=st.floats(-100, 100, width=16)),
    st.none() | arrays(bool, st.tuples(*[st.integers(1, 40)] * 2).map(lambda shape: (shape[0] * 8, shape[1] * 8))),
)
def test_what_is_packed_comes_back(embedding: NDArray[np.float16], valid: NDArray[np.bool_] | None) -> None:
    found = unpack(pack(StoredCrop(embedding, valid), DIGEST), DIGEST)
    np.testing.assert_array_equal(found.embedding, embedding)
    assert found.embedding.dtype == np.float16
    if valid is None:
        assert found.valid is None
    else:
        np.testing.assert_array_equal(found.valid, valid)


PACKED = pack(StoredCrop(np.arange(64, dtype=np.float16).reshape(4, 4, 4), np.eye(16, dtype=bool)), DIGEST)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(place: int, change: int) -> None:
    damaged = bytearray(PACKED)
    damaged[place] ^= change
    try:
        found = unpack(bytes(damaged), DIGEST)
    except REFUSALS:
        return
    whole = unpack(PACKED, DIGEST)
    np.testing.assert_array_equal(found.embedding, whole.embedding)
    np.testing.assert_array_equal(found.valid, whole.valid)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(PACKED) - 1))
def test_a_file_cut_short_is_refused(length: int) -> None:
    with pytest.raises(REFUSALS):
        unpack(PACKED[:length], DIGEST)


def test_a_file_of_another_key_is_refused() -> None:
    with pytest.raises(ValueError, match="differs"):
        unpack(PACKED, "cd" * 32)


def test_memory_is_counted_with_the_mask() -> None:
    embedding = np.zeros((256, 32, 32), np.float16)
    assert StoredCrop(embedding).nbytes == 524_288
    assert StoredCrop(embedding, np.ones((512, 512), bool)).nbytes == 524_288 + 262_144


def test_claiming_twice_is_one_claim(tmp_path: Path) -> None:
    claim(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "anything").write_text("")
    claim(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / MARKER).unlink()
    with pytest.raises(StoreError, match="holds other files"):
        claim(tmp_path / "a" / "b")


def test_files_that_another_process_removed_are_no_trouble(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    touch(gone)
    assert age(gone) == 0.0
    assert not remove(gone)
    assert not gone.exists()
