"""Measuring, comparing, keeping: figures by hand-made counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from samtune.engine.tuning.embedding_cache import EmbeddingCache
from samtune.engine.tuning.exam import Seen, judge, spread
from samtune.engine.tuning.exam_found import FoundExam, matched
from samtune.engine.tuning.exam_maps import ClassExam, _constant
from samtune.engine.tuning.exam_prompts import PromptExam, level_of
from samtune.engine.tuning.figures import figure_rows
from samtune.engine.tuning.keep import Keep
from samtune.engine.tuning.result import Verdict
from samtune.engine.tuning.samples import CropLabels
from samtune.engine.tuning.symmetry import COUNT, lay
from samtune.models.errors import StoreError


def prompt_exam(values: np.ndarray) -> PromptExam:
    """Return an exam of (N, 3) IoU after one click, after three, and by box."""
    return PromptExam(values[:, [0, 0, 1]], values[:, 2])


def test_outlines_are_better_only_beyond_chance() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(0.4, 0.6, (20, 3))
    before, better = prompt_exam(values), prompt_exam(values + rng.uniform(0.05, 0.15, (20, 3)))
    found = judge(before, better, 0)
    assert found.verdict is Verdict.BETTER
    assert found.gain is not None
    assert 0.05 < found.gain[1] < found.gain[0] < found.gain[2] < 0.15
    noisy = prompt_exam(values + rng.normal(0, 0.2, (20, 1)))
    assert judge(before, noisy, 0).verdict is Verdict.NOT_BETTER
    assert judge(better, before, 0).verdict is Verdict.NOT_BETTER
    assert judge(before, better, 0) == judge(before, better, 0)


def test_one_unit_proves_nothing() -> None:
    one = prompt_exam(np.array([[0.1, 0.2, 0.3]]))
    assert judge(one, prompt_exam(np.ones((1, 3))), 0).verdict is Verdict.NOT_MEASURED


def test_three_units_that_all_gain_prove_little() -> None:
    values = np.full((3, 3), 0.4)
    after = values + np.array([[0.02], [0.1], [0.3]])
    assert judge(prompt_exam(values), prompt_exam(after), 0).verdict is Verdict.NOT_BETTER
    many = np.full((30, 3), 0.4)
    gains = np.tile([[0.02], [0.1], [0.3]], (10, 1))
    assert judge(prompt_exam(many), prompt_exam(many + gains), 0).verdict is Verdict.BETTER


def shaped(answers: list[np.ndarray], truths: list[np.ndarray], after: float) -> PromptExam:
    """Return an exam of outlines around a click in the middle of 32 x 32 cells, with the IoU that is claimed."""
    count = len(answers)
    seen = Seen(np.arange(count), np.zeros((count, 5), np.int64), np.stack(answers).astype(np.uint8))
    ious = np.full((count, 3), after) + np.linspace(-0.01, 0.01, count)[:, None]
    return PromptExam(ious, ious[:, 0], ["a"] * count, seen, (np.full((count, 2), 16), np.stack(truths)))


def rectangle(high: int, wide: int) -> np.ndarray:
    mask = np.zeros((32, 32), bool)
    mask[16 - high : 16 + high, 16 - wide : 16 + wide] = True
    return mask


TRUTHS = [rectangle(high, wide) for high, wide in ((2, 9), (9, 2), (3, 3), (10, 10), (4, 12), (12, 5), (6, 3))]


def test_blobs_of_the_usual_size_are_no_gain_however_high_the_figure() -> None:
    before = shaped(TRUTHS, TRUTHS, 0.4)
    own = judge(before, shaped(TRUTHS, TRUTHS, 0.6), 0)
    assert (own.verdict, own.follows) == (Verdict.BETTER, True)
    blobs = judge(before, shaped([rectangle(5, 5)] * len(TRUTHS), TRUTHS, 0.6), 0)
    assert (blobs.verdict, blobs.follows) == (Verdict.NOT_BETTER, False)
    assert blobs.gain is not None
    assert blobs.gain[1] > 0
    elsewhere = judge(before, shaped(TRUTHS[1:] + TRUTHS[:1], TRUTHS, 0.6), 0)
    assert elsewhere.verdict is Verdict.NOT_BETTER


def test_shapes_that_are_all_alike_need_no_places_of_their_own() -> None:
    alike = [rectangle(6, 6)] * 5
    found = judge(shaped(alike, alike, 0.4), shaped([rectangle(5, 6)] * 5, alike, 0.6), 0)
    assert (found.verdict, found.follows) == (Verdict.BETTER, True)


def test_prompt_figures_are_means_with_intervals() -> None:
    exam = prompt_exam(np.array([[0.2, 0.4, 0.6], [0.4, 0.8, 0.6]]))
    score = exam.score(0)
    assert score.objects == 2
    assert score.mean["iou_1_click"] == pytest.approx(0.3)
    assert score.mean["iou_3_clicks"] == pytest.approx(0.6)
    assert score.mean["iou"] == exam.value == pytest.approx(0.5)
    low, high = score.interval["iou_1_click"]
    assert (low, high) == (pytest.approx(0.2), pytest.approx(0.4))


def test_clicks_are_counted_to_a_level_that_half_of_the_objects_reach() -> None:
    before = PromptExam(np.array([[0.3, 0.5, 0.65], [0.2, 0.3, 0.4]]), np.zeros(2))
    after = PromptExam(np.array([[0.5, 0.72, 0.75], [0.2, 0.3, 0.6]]), np.zeros(2))
    assert level_of(before, after) == 0.7
    rows = {row.name: row for row in figure_rows(before, after, 0)}
    row = rows["clicks_to_0.70"]
    assert (row.before, row.after, row.higher_is_better) == (4.0, 3.0, False)
    assert row.low <= -1.0 <= row.high
    assert rows["iou_1_click"].after == pytest.approx(0.35)


def test_figures_are_told_by_class() -> None:
    labels = ["roof", "pool", "roof"]
    before = PromptExam(np.full((3, 3), 0.2), np.full(3, 0.2), labels)
    after = PromptExam(np.array([[0.4], [0.9], [0.6]]).repeat(3, axis=1), np.full(3, 0.2), labels)
    rows = {(row.name, row.group): row for row in figure_rows(before, after, 0)}
    assert rows["iou_1_click", "roof"].after == pytest.approx(0.5)
    assert rows["iou_1_click", "pool"].after == pytest.approx(0.9)
    assert (rows["iou_1_click", "pool"].low, rows["iou_1_click", "pool"].high) == (0.0, 0.0)


@pytest.mark.parametrize("exam", [shaped(TRUTHS, TRUTHS, 0.5), prompt_exam(np.full((2, 3), 0.5))])
def test_prompt_exams_are_kept_and_joined(exam: PromptExam) -> None:
    both = PromptExam.joined([exam, PromptExam.of(exam.arrays())])
    assert both.units == 2 * exam.units
    assert both.value == pytest.approx(exam.value)
    assert (both.fits() is None) == (exam.fits() is None)


def test_class_figures_come_from_pixel_counts() -> None:
    counts = np.array([[[50, 10, 0], [5, 35, 0], [0, 0, 0]], [[0, 0, 0], [0, 20, 0], [0, 0, 0]]])
    figures = ClassExam(counts, ("other", "roof", "pool")).figures(np.arange(2))
    assert figures["iou other"] == pytest.approx(50 / 65)
    assert figures["iou roof"] == pytest.approx(55 / 70)
    assert "iou pool" not in figures
    assert figures["miou"] == pytest.approx((50 / 65 + 55 / 70) / 2)
    assert figures["accuracy"] == pytest.approx(105 / 120)


def mapped(own: list[int], said: list[int]) -> ClassExam:
    """Return an exam of objects of classes 1 and 2, each said to be of one class; their surroundings are right."""
    counts = np.zeros((len(own), 3, 3), np.int64)
    counts[:, 0, 0] = 40
    counts[np.arange(len(own)), own, said] = 20
    seen = Seen(np.arange(len(own)), np.zeros((len(own), 5), np.int64), np.zeros((len(own), 4, 4), np.uint8))
    return ClassExam(counts, ("other", "roof", "pool"), np.array(own), seen)


def test_a_map_is_better_only_if_it_tells_the_classes_apart() -> None:
    own = [1, 1, 1, 1, 1, 2, 2, 2, 2, 2]
    base = ClassExam(_constant(mapped(own, own)._counts), ("other", "roof", "pool"))
    assert judge(base, mapped(own, own), 0).verdict is Verdict.BETTER
    blind = judge(base, mapped(own, [1, 2, 1, 2, 1, 2, 1, 2, 1, 2]), 0)
    assert (blind.verdict, blind.follows) == (Verdict.NOT_BETTER, False)
    one = judge(base, mapped(own, [1] * 10), 0)
    assert (one.verdict, one.follows) == (Verdict.NOT_BETTER, False)


def test_the_base_of_a_class_map_says_the_commonest_class() -> None:
    counts = np.array([[[50, 10, 0], [5, 35, 0], [0, 0, 0]], [[0, 0, 0], [0, 30, 0], [0, 0, 0]]])
    constant = _constant(counts)
    assert constant[0].tolist() == [[0, 60, 0], [0, 40, 0], [0, 0, 0]]
    assert constant[1].tolist() == [[0, 0, 0], [0, 30, 0], [0, 0, 0]]


def test_parts_held_out_in_turn_have_one_commonest_class_for_their_base() -> None:
    roofs, pools = np.zeros((3, 3, 3), np.int64), np.zeros((2, 3, 3), np.int64)
    roofs[:, 1, 1], pools[:, 2, 2] = 20, 20
    names = ("other", "roof", "pool")
    parts = [ClassExam(counts, names, constant=True) for counts in (roofs, pools)]
    assert [part.value for part in parts] == [1.0, 1.0]
    assert ClassExam.joined(parts).value == pytest.approx((60 / 100 + 0) / 2)
    assert ClassExam.joined([ClassExam(counts, names) for counts in (roofs, pools)]).value == 1.0


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
    right, again, wrong = cell_mask(0, 0, 4, 4), cell_mask(0, 0, 4, 3), cell_mask(6, 0, 3, 3)
    unknown, cut = cell_mask(12, 4, 4, 4), cell_mask(0, 12, 4, 4)
    found = matched([(mask, 0) for mask in (right, again, wrong, unknown, cut)], labels, 2)
    assert (found.found, found.invented) == ((True, False), (1, 2))
    assert found.said.tolist() == [[True, False], [False, False]]
    assert matched([], labels, 1).found == (False, False)
    assert matched([(np.zeros((16, 16), bool), 0)], labels, 1).invented == ()
    other = matched([(right, 1)], labels, 2)
    assert (other.found, other.invented) == ((False, False), (0,))
    assert other.said.tolist() == [[False, True], [False, False]]


def test_found_figures_and_counts() -> None:
    counts = np.array([[[3, 1, 0], [0, 0, 0]], [[0, 0, 0], [1, 0, 2]]])
    exam = FoundExam(counts, ("car", "ship"))
    figures = exam.figures(np.arange(2))
    assert {name: figures[name] for name in ("f1", "precision", "recall")} == {
        "f1": pytest.approx(8 / 11),
        "precision": pytest.approx(0.8),
        "recall": pytest.approx(4 / 6),
    }
    assert (figures["f1 car"], figures["f1 ship"]) == (pytest.approx(6 / 7), pytest.approx(0.5))
    assert exam.counts(np.arange(2)) == {
        "found": 4, "missed": 2, "false": 1,
        "found car": 3, "missed car": 0, "false car": 1,
        "found ship": 1, "missed ship": 2, "false ship": 0,
    }  # fmt: skip
    rows = {(row.name, row.group): row for row in figure_rows(FoundExam(0 * counts, ("car", "ship")), exam, 0)}
    assert (rows["missed", "ship"].after, rows["missed", "ship"].higher_is_better) == (2.0, False)
    assert FoundExam(np.zeros((2, 1, 3), np.int64), ("car",)).value == 0.0


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
