"""The protocol against answerers whose answers are known beforehand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from samtune.engine.crops import Crop, RasterFrame
from samtune.engine.evaluate.figures import as_text, calibration, summarise
from samtune.engine.evaluate.protocol import Outcome, Plan, measure, to_raster_pixels
from samtune.engine.prompting import PromptList
from samtune.models.errors import CancelledByUser

SIDE = 600


class Scripted:
    """Answers squares given by the script, one per number of clicks; records what it was asked."""

    size = 64

    def __init__(self, truth: np.ndarray, script: list[np.ndarray]) -> None:
        self.frame = RasterFrame(truth.shape[1], truth.shape[0], (0.0, 1.0, 0.0, 0.0, 0.0, -1.0))
        self.script = script
        self.asked: list[tuple[Crop, PromptList]] = []

    def answer(self, crop: Crop, prompts: PromptList) -> tuple[np.ndarray, float]:
        self.asked.append((crop, prompts))
        whole = np.zeros((crop.row + crop.side, crop.col + crop.side), bool)
        answer = self.script[min(len(prompts.points), len(self.script)) - 1 if prompts.points else 0]
        rows, columns = (min(a, b) for a, b in zip(whole.shape, answer.shape, strict=True))
        whole[:rows, :columns] = answer[:rows, :columns]
        return whole[crop.row :, crop.col :], 0.5


def square(top: int, left: int, high: int, wide: int, size: int = SIDE) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top : top + high, left : left + wide] = True
    return mask


def test_ious_follow_the_answers_and_end_with_the_last_error() -> None:
    truth = square(200, 200, 20, 20)
    answerer = Scripted(truth, [square(200, 200, 20, 5), square(200, 200, 20, 15), truth])
    outcome = measure(answerer, truth, Plan(boxes=False), image="a", label="field")
    assert outcome.ious == (0.25, 0.75, 1.0)
    assert outcome.after(5) == 1.0
    assert outcome.clicks_to(0.8) == 3
    assert (outcome.area, outcome.label, outcome.box) == (400, "field", None)


def test_first_click_is_the_pole_and_the_second_corrects() -> None:
    truth = square(200, 200, 21, 21)
    answerer = Scripted(truth, [square(200, 200, 21, 10), truth])
    measure(answerer, truth, Plan(boxes=False))
    crop, prompts = answerer.asked[-1]
    places = [(x * crop.scale + crop.col, y * crop.scale + crop.row, positive) for x, y, positive in prompts.points]
    assert places[0] == (210.5, 210.5, True)
    assert places[1][2] is True
    assert truth[int(places[1][1]), int(places[1][0])]
    assert places[1][0] > 210


def test_clicks_stop_at_twenty() -> None:
    truth = square(200, 200, 20, 20)
    answerer = Scripted(truth, [square(200, 200, 20, 10)])
    outcome = measure(answerer, truth, Plan(boxes=False))
    assert len(outcome.ious) == 20
    assert outcome.clicks_to(0.85) == 20


def test_clicks_stop_early_when_they_need_not_be_counted() -> None:
    truth = square(200, 200, 20, 20)
    answerer = Scripted(truth, [square(200, 200, 20, 10)])
    assert len(measure(answerer, truth, Plan(boxes=False, count_clicks=False, clicks=3)).ious) == 3


@pytest.mark.parametrize(("extent", "level"), [(4, -2), (12, -1), (25, 0), (26, 1), (51, 1), (52, 2), (300, 4)])
def test_level_rule(extent: int, level: int) -> None:
    truth = square(100, 100, 2, extent)
    answerer = Scripted(truth, [truth])
    outcome = measure(answerer, truth, Plan(boxes=False))
    assert answerer.asked[0][0].level == level
    assert outcome.share == pytest.approx(extent / (64 * 2.0**level))


def test_a_fixed_level_is_kept() -> None:
    truth = square(100, 100, 20, 20)
    answerer = Scripted(truth, [truth])
    measure(answerer, truth, Plan(level=2))
    assert {crop.level for crop, _ in answerer.asked} == {2}


def test_what_lies_outside_the_crop_counts_as_missed() -> None:
    truth = square(0, 0, 10, 128)
    answerer = Scripted(truth, [truth])
    outcome = measure(answerer, truth, Plan(boxes=False, level=0, count_clicks=False))
    assert outcome.ious[0] == pytest.approx(0.5)


def test_boxes_are_asked_tight_and_jittered() -> None:
    truth = square(200, 210, 20, 16)
    answerer = Scripted(truth, [truth])
    outcome = measure(answerer, truth, Plan(points=False, seed=3), number=5)
    assert (outcome.box, outcome.jittered, outcome.ious) == (1.0, 1.0, ())
    (crop, tight), (_, loose) = answerer.asked
    assert tight.box is not None
    assert loose.box is not None
    corners = np.array(tight.box).reshape(2, 2) * crop.scale + [crop.col, crop.row]
    assert corners.ravel().tolist() == [210.0, 200.0, 226.0, 220.0]
    assert tight.box != loose.box
    again = Scripted(truth, [truth])
    measure(again, truth, Plan(points=False, seed=3), number=5)
    assert again.asked[1][1].box == loose.box


def test_cancelling_stops_between_prompts() -> None:
    truth = square(200, 200, 20, 20)
    answerer = Scripted(truth, [square(200, 200, 20, 10)])

    def check() -> None:
        if len(answerer.asked) == 2:
            raise CancelledByUser

    with pytest.raises(CancelledByUser):
        measure(answerer, truth, Plan(), check=check)
    assert len(answerer.asked) == 2


def test_logits_are_resized_with_aligned_edges() -> None:
    ramp = np.tile(np.arange(8, dtype=np.float32), (8, 1))
    fine = to_raster_pixels(ramp, 32)
    assert fine.shape == (32, 32)
    assert fine[0, 1] == 0.0
    assert fine[0, 16] == pytest.approx((16.5) / 4 - 0.5)
    assert to_raster_pixels(ramp, 4)[2].tolist() == [0.5, 2.5, 4.5, 6.5]


def outcomes() -> list[Outcome]:
    return [
        Outcome("a", "field", 400, 0.3, (0.5, 0.9), (0.6, 0.9), 0.4, 0.8, 0.7, 0.7),
        Outcome("a", "house", 2000, 0.3, (0.7,), (0.6,), 0.6, 0.6, 0.5, 0.7),
        Outcome("b", "field", 90000, 0.3, (0.9,), (1.0,), 0.8, 1.0, 0.9, 0.9),
    ]


def test_figures_are_means_over_objects() -> None:
    report = summarise(outcomes())
    mean = report["mean"]
    assert mean["iou_1_click"] == pytest.approx(0.7)
    assert mean["iou_3_clicks"] == pytest.approx((0.9 + 0.7 + 0.9) / 3)
    assert mean["share_over_0.75_1_click"] == pytest.approx(1 / 3)
    assert mean["clicks_to_0.80"] == pytest.approx((2 + 20 + 1) / 3)
    assert mean["iou_box"] == pytest.approx(0.8)
    assert mean["boundary_f_1_click"] == pytest.approx(0.6)
    assert report["classes"]["field"]["iou_1_click"] == pytest.approx(0.7)
    assert [figures["objects"] for figures in report["sizes"].values()] == [1.0, 1.0, 1.0]


def test_intervals_hold_the_mean_and_are_seeded() -> None:
    report = summarise(outcomes(), seed=4)
    low, high = report["interval"]["iou_1_click"]
    assert 0.5 <= low < 0.7 < high <= 0.9
    assert summarise(outcomes(), seed=4) == report


def test_what_was_not_measured_is_not_reported() -> None:
    report = summarise([Outcome("a", "", 100, 0.2, box=0.5, jittered=0.4)])
    assert "iou_1_click" not in report["mean"]
    assert report["mean"]["iou_box_jittered"] == pytest.approx(0.4)
    assert "classes" not in report
    uncounted = summarise(outcomes(), counted=False)
    assert not any(name.startswith("clicks_to") for name in uncounted["mean"])
    assert not any(name.startswith("clicks_to") for name in uncounted["interval"])


def test_calibration() -> None:
    exact = [Outcome("a", "", 9, 0.2, (0.35, 0.85), (0.35, 0.85)), Outcome("a", "", 9, 0.2, box=0.5, box_predicted=0.5)]
    assert calibration(exact)["expected_error"] == pytest.approx(0.0)
    assert calibration(exact)["answers"] == 3
    off = [Outcome("a", "", 9, 0.2, (0.2,), (0.9,)), Outcome("a", "", 9, 0.2, (0.6,), (0.5,))]
    assert calibration(off)["expected_error"] == pytest.approx(0.4)
    assert calibration([Outcome("a", "", 9, 0.2, (0.5,), (math.nan,))]) == {}


def test_text_names_every_figure() -> None:
    report = summarise(outcomes())
    text = as_text(report)
    assert text.startswith("3 objects")
    assert all(name in text for name in report["mean"] if name != "objects")
    assert "house" in text


def test_a_window_of_the_object_gives_what_the_whole_mask_does() -> None:
    truth = square(200, 210, 20, 16)
    whole, cut = Scripted(truth, [square(200, 210, 20, 5), truth]), Scripted(truth, [square(200, 210, 20, 5), truth])
    expected = measure(whole, truth, Plan(seed=3), number=2)
    window = truth[195:225, 205:230]
    assert measure(cut, window, Plan(seed=3), number=2, origin=(195, 205)) == expected
    assert [prompts for _, prompts in cut.asked] == [prompts for _, prompts in whole.asked]
