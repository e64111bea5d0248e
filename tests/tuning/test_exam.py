"""Measuring, comparing, keeping: figures by hand-made counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from samtune.engine.tuning.embedding_cache import EmbeddingCache
from samtune.engine.tuning.exam import gain, spread
from samtune.engine.tuning.exam_maps import ClassExam, FoundExam, _constant, _matched
from samtune.engine.tuning.exam_prompts import PromptExam
from samtune.engine.tuning.keep import Keep
from samtune.engine.tuning.result import Verdict
from samtune.engine.tuning.samples import CropLabels
from samtune.engine.tuning.symmetry import COUNT, lay
from samtune.models.errors import StoreError


def test_outlines_are_better_only_beyond_chance() -> None:
    rng = np.random.default_rng(0)
    before = PromptExam(rng.uniform(0.4, 0.6, (20, 3)))
    better = PromptExam(before._values + rng.uniform(0.05, 0.15, (20, 3)))
    difference, verdict = gain(before, better, 0)
    assert verdict is Verdict.BETTER
    assert difference is not None
    assert 0.05 < difference[1] < difference[0] < difference[2] < 0.15
    noisy = PromptExam(before._values + rng.normal(0, 0.2, (20, 1)))
    assert gain(before, noisy, 0)[1] is Verdict.NOT_BETTER
    assert gain(better, before, 0)[1] is Verdict.NOT_BETTER
    assert gain(before, better, 0) == gain(before, better, 0)


def test_one_unit_proves_nothing() -> None:
    one = PromptExam(np.array([[0.1, 0.2, 0.3]]))
    assert gain(one, PromptExam(np.ones((1, 3))), 0) == (None, Verdict.NOT_MEASURED)


def test_prompt_figures_are_means_with_intervals() -> None:
    exam = PromptExam(np.array([[0.2, 0.4, 0.6], [0.4, 0.8, 0.6]]))
    score = exam.score(0)
    assert score.objects == 2
    assert score.mean["iou_1_click"] == pytest.approx(0.3)
    assert score.mean["iou_3_clicks"] == pytest.approx(0.6)
    assert score.mean["iou"] == exam.value == pytest.approx(0.5)
    low, high = score.interval["iou_1_click"]
    assert (low, high) == (pytest.approx(0.2), pytest.approx(0.4))


def test_class_figures_come_from_pixel_counts() -> None:
    counts = np.array([[[50, 10, 0], [5, 35, 0], [0, 0, 0]], [[0, 0, 0], [0, 20, 0], [0, 0, 0]]])
    figures = ClassExam(counts, ("other", "roof", "pool")).figures(np.arange(2))
    assert figures["iou other"] == pytest.approx(50 / 65)
    assert figures["iou roof"] == pytest.approx(55 / 70)
    assert "iou pool" not in figures
    assert figures["miou"] == pytest.approx((50 / 65 + 55 / 70) / 2)
    assert figures["accuracy"] == pytest.approx(105 / 120)


def test_the_base_of_a_class_map_says_the_commonest_class() -> None:
    counts = np.array([[[50, 10, 0], [5, 35, 0], [0, 0, 0]], [[0, 0, 0], [0, 30, 0], [0, 0, 0]]])
    constant = _constant(counts)
    assert constant[0].tolist() == [[0, 60, 0], [0, 40, 0], [0, 0, 0]]
    assert constant[1].tolist() == [[0, 0, 0], [0, 30, 0], [0, 0, 0]]


def labels_with(*boxes: tuple[int, int, int, int]) -> CropLabels:
    masks = np.zeros((len(boxes), 64, 64), bool)
    for mask, (top, left, high, wide) in zip(masks, boxes, strict=True):
        mask[top : top + high, left : left + wide] = True
    known, partial = np.ones((64, 64), bool), np.zeros((64, 64), bool)
    known[48:] = False
    partial[:16, 48:] = True
    return CropLabels(masks, known, np.zeros((64, 64), np.int64), partial, np.zeros(len(boxes), np.int64))


def cell_mask(top: int, left: int, high: int, wide: int) -> np.ndarray:
    mask = np.zeros((16, 16), bool)
    mask[top : top + high, left : left + wide] = True
    return mask


def test_objects_are_matched_once_and_unknown_ground_is_no_mistake() -> None:
    labels = labels_with((0, 0, 16, 16), (24, 24, 16, 16))
    right, again, invented = cell_mask(0, 0, 4, 4), cell_mask(0, 0, 4, 3), cell_mask(6, 0, 3, 3)
    unknown, cut = cell_mask(12, 4, 4, 4), cell_mask(0, 12, 4, 4)
    assert _matched([right, again, invented, unknown, cut], labels) == (1, 2, 1)
    assert _matched([], labels) == (0, 0, 2)
    assert _matched([np.zeros((16, 16), bool)], labels) == (0, 0, 2)


def test_found_figures() -> None:
    figures = FoundExam(np.array([[3, 1, 0], [1, 0, 2]])).figures(np.arange(2))
    assert figures == {"f1": pytest.approx(8 / 11), "precision": pytest.approx(0.8), "recall": pytest.approx(4 / 6)}
    assert FoundExam(np.zeros((2, 3), np.int64)).value == 0.0


def test_units_are_spread_evenly() -> None:
    assert spread(5, None) == [0, 1, 2, 3, 4]
    assert spread(3, 5) == [0, 1, 2]
    assert spread(101, 5) == [0, 25, 50, 75, 100]


def embedding(number: int) -> np.ndarray:
    return np.full((4, 8, 8), number, np.float16)


def test_embeddings_are_made_once_in_memory_or_on_disk(tmp_path: Path) -> None:
    with EmbeddingCache(most_bytes=2 * embedding(0).nbytes, folder=tmp_path / "work") as cache:
        for number in (0, 1, 2, 3, 2, 1, 0, 3):
            found = cache.get(("key", number), lambda number=number: embedding(number))
            assert np.array_equal(found, embedding(number))
        assert cache.made == len(cache) == 4
        assert cache.on_disk == 2 * embedding(0).nbytes
        assert len(list((tmp_path / "work").rglob("*.npy"))) == 2
    assert not list((tmp_path / "work").iterdir())


def test_a_full_disk_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with EmbeddingCache(0, tmp_path) as cache, pytest.raises(StoreError, match="fewer objects"):
        cache.get("a", lambda: embedding(1))


def test_what_was_used_last_is_kept() -> None:
    made: list[str] = []

    def make(key: str) -> bytes:
        made.append(key)
        return bytes(4)

    keep: Keep[bytes] = Keep(len, 8)
    for key in ("a", "b", "a", "c", "a", "b"):
        keep.get(key, lambda key=key: make(key))
    assert made == ["a", "b", "c", "b"]
    keep.clear()
    keep.get("a", lambda: make("a"))
    assert made[-1] == "a"


def test_the_eight_ways_differ_and_the_first_changes_nothing() -> None:
    array = np.arange(2 * 9).reshape(2, 3, 3)
    laid = [lay(array, way, (1, 2)) for way in range(COUNT)]
    assert np.array_equal(laid[0], array)
    assert len({one.tobytes() for one in laid}) == COUNT
    assert all(sorted(one[0].ravel()) == sorted(array[0].ravel()) for one in laid)
