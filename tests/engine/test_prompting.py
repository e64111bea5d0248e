"""Which mask is believed, and what is remembered between prompts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from samtune.engine.prompting import Answer, Doubt, PromptList, PromptMemory, choose
from samtune.models.errors import CancelledByUser

ALL = np.ones((32, 32), bool)
EMBEDDING = np.zeros((256, 8, 8), np.float16)
CLICK = PromptList(((40.0, 40.0, True),))
"""In cells: column 10, row 10."""


def patch(rows: slice, columns: slice, inside: float = 4.0, outside: float = -4.0) -> NDArray[np.float32]:
    logits = np.full((32, 32), outside, np.float32)
    logits[rows, columns] = inside
    return logits


OBJECT = patch(slice(8, 16), slice(8, 16))
LARGER = patch(slice(4, 20), slice(4, 20))
WHOLE = patch(slice(0, 32), slice(0, 32))
ELSEWHERE = patch(slice(20, 30), slice(20, 30))
EMPTY = patch(slice(0, 0), slice(0, 0))


def decoded(*masks: tuple[NDArray[np.float32], float]) -> SimpleNamespace:
    return SimpleNamespace(
        logits=np.stack([mask for mask, _ in masks]), iou=np.array([iou for _, iou in masks], np.float32)
    )


def chosen(*masks: tuple[NDArray[np.float32], float], first: bool = True, prompts: PromptList = CLICK) -> Answer:
    return choose(decoded(*masks), ALL, prompts, first=first)


def test_the_best_predicted_iou_wins() -> None:
    answer = chosen((OBJECT, 0.7), (LARGER, 0.9), (OBJECT, 0.8))
    assert (answer.score, answer.doubt) == (pytest.approx(0.9), Doubt.NONE)
    np.testing.assert_array_equal(answer.logits, LARGER)


@pytest.mark.parametrize(("bad", "doubt"), [(WHOLE, Doubt.WHOLE), (ELSEWHERE, Doubt.EMPTY), (EMPTY, Doubt.EMPTY)])
def test_masks_against_which_something_speaks_do_not_win(bad: NDArray[np.float32], doubt: Doubt) -> None:
    assert chosen((bad, 0.99), (OBJECT, 0.5)).doubt is Doubt.NONE
    assert chosen((bad, 0.99)).doubt is doubt


def test_an_unsure_model_is_told_from_a_sure_one() -> None:
    assert chosen((OBJECT, 0.05)).doubt is Doubt.UNSURE
    assert chosen((OBJECT, 0.15)).doubt is Doubt.NONE
    assert chosen((OBJECT, 0.05), first=False).doubt is Doubt.NONE, "a correction shows what it does"
    assert chosen((OBJECT, 0.05), prompts=PromptList((), (30.0, 30.0, 70.0, 70.0))).doubt is Doubt.NONE


def test_an_unsure_mask_is_a_better_start_than_a_useless_one() -> None:
    answer = chosen((WHOLE, 0.9), (OBJECT, 0.05), (ELSEWHERE, 0.5))
    assert answer.doubt is Doubt.UNSURE
    np.testing.assert_array_equal(answer.logits, OBJECT)


def test_corrections_and_boxes_may_fill_the_crop() -> None:
    assert chosen((WHOLE, 0.9), first=False).doubt is Doubt.NONE
    assert chosen((WHOLE, 0.9), prompts=PromptList((), (0.0, 0.0, 128.0, 128.0))).doubt is Doubt.NONE


def test_only_the_part_with_data_counts() -> None:
    half = ALL.copy()
    half[:, 16:] = False
    filled = patch(slice(0, 32), slice(0, 16))
    assert choose(decoded((filled, 0.9)), half, CLICK, first=True).doubt is Doubt.WHOLE
    assert choose(decoded((filled, 0.9)), ALL, CLICK, first=True).doubt is Doubt.NONE
    assert choose(decoded((ELSEWHERE, 0.9)), half, CLICK, first=False).doubt is Doubt.EMPTY


def test_a_click_may_miss_its_mask_by_one_cell() -> None:
    beside = PromptList(((30.0, 40.0, True),))
    assert chosen((OBJECT, 0.9), prompts=beside).doubt is Doubt.NONE
    assert chosen((OBJECT, 0.9), prompts=PromptList(((26.0, 40.0, True),))).doubt is Doubt.EMPTY


def test_prompts_know_what_came_before() -> None:
    points = ((1.0, 1.0, True), (2.0, 2.0, False))
    assert PromptList(points).shorter == PromptList(points[:1])
    assert PromptList(points[:1]).shorter is None
    assert PromptList(points[:1], (0.0, 0.0, 9.0, 9.0)).shorter == PromptList((), (0.0, 0.0, 9.0, 9.0))
    assert PromptList((), (0.0, 0.0, 9.0, 9.0)).shorter is None


class Recorder:
    """A decoder that answers with the number of its run in a corner."""

    def __init__(self) -> None:
        self.calls: list[SimpleNamespace] = []
        self.masks = [OBJECT] * 100

    def decode(
        self,
        embedding: NDArray[np.float16],
        points: NDArray[np.float32],
        labels: NDArray[np.int64],
        box: NDArray[np.float32] | None = None,
        mask_logits: NDArray[np.float32] | None = None,
        *,
        multimask: bool = True,
    ) -> SimpleNamespace:
        self.calls.append(SimpleNamespace(points=points, labels=labels, box=box, mask=mask_logits, multimask=multimask))
        logits = self.masks[len(self.calls) - 1].copy()
        logits[0, 0] = -len(self.calls)
        return decoded(*[(logits, 0.9)] * (3 if multimask else 1))


def ask(memory: PromptMemory, decoder: Recorder, prompts: PromptList, key: str = "a") -> Answer:
    return memory.answer(decoder, key, EMBEDDING, ALL, prompts, lambda: None)


def test_every_correction_is_fed_the_answer_before_it() -> None:
    memory, decoder = PromptMemory(), Recorder()
    points = ((40.0, 40.0, True), (50.0, 50.0, True), (60.0, 60.0, False))
    ask(memory, decoder, PromptList(points))
    assert [len(call.points) for call in decoder.calls] == [1, 2, 3]
    assert [call.multimask for call in decoder.calls] == [True, False, False]
    assert decoder.calls[0].mask is None
    assert [call.mask[0, 0] for call in decoder.calls[1:]] == [-1, -2]
    assert decoder.calls[2].labels.tolist() == [1, 1, 0]
    assert decoder.calls[2].points.dtype == np.float32


@pytest.mark.parametrize("useless", [WHOLE, EMPTY])
def test_a_useless_answer_is_not_built_on(useless: NDArray[np.float32]) -> None:
    memory, decoder = PromptMemory(), Recorder()
    decoder.masks = [useless, OBJECT, OBJECT]
    answer = ask(memory, decoder, PromptList(((40.0, 40.0, True), (100.0, 100.0, False), (90.0, 90.0, False))))
    assert [call.mask is None for call in decoder.calls] == [True, True, False]
    assert answer.doubt is Doubt.NONE


def test_a_box_alone_is_the_first_step() -> None:
    memory, decoder = PromptMemory(), Recorder()
    ask(memory, decoder, PromptList(((40.0, 40.0, True),), (0.0, 0.0, 90.0, 90.0)))
    assert [(len(call.points), call.multimask) for call in decoder.calls] == [(0, False), (1, False)]
    assert decoder.calls[0].points.shape == (0, 2)
    assert decoder.calls[1].box.tolist() == [0, 0, 90, 90]


def test_undo_and_repeats_cost_nothing_and_other_embeddings_are_other_answers() -> None:
    memory, decoder = PromptMemory(), Recorder()
    two = PromptList(((40.0, 40.0, True), (50.0, 50.0, True)))
    first = ask(memory, decoder, two)
    assert ask(memory, decoder, two) is first
    ask(memory, decoder, PromptList(two.points[:1]))
    assert len(decoder.calls) == 2
    ask(memory, decoder, two, key="b")
    assert len(decoder.calls) == 4


def test_memory_is_bounded_and_forgets_what_was_used_longest_ago() -> None:
    memory, decoder = PromptMemory(capacity=2), Recorder()
    lists = [PromptList(((float(x), 40.0, True),)) for x in (36, 40, 44)]
    ask(memory, decoder, lists[0])
    ask(memory, decoder, lists[1])
    ask(memory, decoder, lists[0])
    ask(memory, decoder, lists[2])
    ask(memory, decoder, lists[0])
    assert len(decoder.calls) == 3
    ask(memory, decoder, lists[1])
    assert len(decoder.calls) == 4


def test_a_chain_longer_than_the_memory_is_answered_all_the_same() -> None:
    memory, decoder = PromptMemory(capacity=2), Recorder()
    points = tuple((40.0 + x, 40.0, True) for x in range(6))
    assert ask(memory, decoder, PromptList(points)).doubt is Doubt.NONE
    assert len(decoder.calls) == 6
    memory.clear()
    ask(memory, decoder, PromptList(points[:1]))
    assert len(decoder.calls) == 7


def test_cancel_keeps_what_was_answered() -> None:
    memory, decoder = PromptMemory(), Recorder()
    prompts = PromptList(((40.0, 40.0, True), (50.0, 50.0, True)))

    def impatient() -> None:
        if decoder.calls:
            raise CancelledByUser

    with pytest.raises(CancelledByUser):
        memory.answer(decoder, "a", EMBEDDING, ALL, prompts, impatient)
    ask(memory, decoder, prompts)
    assert [len(call.points) for call in decoder.calls] == [1, 2]
