"""What the drawn mask prompt says, cell by cell."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from samtune.models.prompt_mask import (
    BOX_INSIDE,
    BOX_OUTSIDE,
    CLICK_LOGIT,
    CLIP_LOGIT,
    LIKENESS_LOGIT,
    contrast,
    draw_one,
    draw_prompts,
)

SIZE = (32, 32)
NO_POINTS = torch.zeros(1, 0, 2)
NO_LABELS = torch.zeros(1, 0)


def test_nothing_gives_a_plane_of_zeros() -> None:
    assert torch.equal(draw_prompts(SIZE, NO_POINTS, NO_LABELS), torch.zeros(1, 1, 32, 32))


@pytest.mark.parametrize(("label", "height"), [(1, CLICK_LOGIT), (0, -CLICK_LOGIT)])
def test_a_click_is_a_bump_at_its_cell(label: int, height: float) -> None:
    plane = draw_prompts(SIZE, torch.tensor([[[42.0, 18.0]]]), torch.tensor([[label]]))[0, 0]
    assert plane[4, 10].item() == pytest.approx(height)
    assert plane[4, 13].item() == pytest.approx(height * np.exp(-0.5))
    assert plane[4, 7].item() == pytest.approx(height * np.exp(-0.5))
    assert abs(plane[31, 31].item()) < 1e-6


def test_no_click_is_drawn_for_label_minus_one() -> None:
    points = torch.tensor([[[42.0, 18.0], [10.0, 10.0]]])
    only = draw_prompts(SIZE, points, torch.tensor([[1, -1]]))
    assert torch.equal(only, draw_prompts(SIZE, points[:, :1], torch.tensor([[1]])))


def test_later_clicks_lie_on_earlier_ones() -> None:
    same = torch.tensor([[[42.0, 18.0], [42.0, 18.0]]])
    assert draw_prompts(SIZE, same, torch.tensor([[1, 0]]))[0, 0, 4, 10].item() == pytest.approx(-CLICK_LOGIT)
    assert draw_prompts(SIZE, same, torch.tensor([[0, 1]]))[0, 0, 4, 10].item() == pytest.approx(CLICK_LOGIT)


def test_a_box_has_an_inside_and_an_outside() -> None:
    plane = draw_prompts(SIZE, NO_POINTS, NO_LABELS, torch.tensor([[16.0, 8.0, 32.0, 40.0]]))[0, 0]
    inside = plane == BOX_INSIDE
    assert inside[2:10, 4:8].all()
    assert inside.sum() == 32
    assert (plane[~inside] == BOX_OUTSIDE).all()


def test_a_box_of_nan_is_no_box() -> None:
    boxes = torch.full((1, 4), float("nan"))
    assert torch.equal(draw_prompts(SIZE, NO_POINTS, NO_LABELS, boxes), torch.zeros(1, 1, 32, 32))


def test_previous_logits_come_first_and_are_clipped() -> None:
    previous = torch.full((1, 32, 32), 40.0)
    previous[0, :16] = -3.0
    box = torch.tensor([[16.0, 8.0, 32.0, 40.0]])
    plane = draw_prompts(SIZE, NO_POINTS, NO_LABELS, box, previous)[0, 0]
    assert plane.unique().tolist() == [-3.0, CLIP_LOGIT]
    clicked = draw_prompts(SIZE, torch.tensor([[[42.0, 18.0]]]), torch.tensor([[1]]), None, previous)[0, 0]
    assert clicked[4, 10].item() == pytest.approx(CLICK_LOGIT)
    assert clicked[31, 31].item() == CLIP_LOGIT


def test_one_object_in_numpy_equals_the_batch() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 128, (3, 2)).astype(np.float32)
    labels = np.array([1, 0, 1])
    box = np.array([10, 12, 90, 80], np.float32)
    previous = rng.normal(0, 5, SIZE).astype(np.float32)
    batch = draw_prompts(
        SIZE,
        torch.from_numpy(np.stack([points, points[::-1].copy()])),
        torch.from_numpy(np.stack([labels, labels])),
        torch.from_numpy(np.stack([box, box])),
        torch.from_numpy(np.stack([previous, previous])),
    )
    assert torch.equal(draw_one(SIZE, points, labels, box, previous)[0], batch[0])
    assert not torch.equal(batch[0], batch[1])
    assert draw_one(SIZE, points[:0], labels[:0]).abs().max() == 0


def halves() -> torch.Tensor:
    """Return an embedding (1, 4, 8, 8) whose left and right halves are of two kinds."""
    embedding = torch.zeros(1, 4, 8, 8)
    embedding[0, 0, :, :4] = 3.0
    embedding[0, 1, :, 4:] = 3.0
    return embedding + 1.0


def test_without_previous_answer_the_plane_is_the_likeness_to_the_click() -> None:
    plane = draw_prompts(SIZE, torch.tensor([[[20.0, 64.0]]]), torch.tensor([[1]]), embeddings=halves())[0, 0]
    assert plane[:, :12].min() > 5.9
    assert plane[:2, 20:].max() < -5.9
    assert plane[-2:, 20:].max() < -5.9


def test_likeness_to_background_clicks_counts_against() -> None:
    points = torch.tensor([[[20.0, 64.0], [110.0, 64.0]]])
    both = draw_prompts(SIZE, points, torch.tensor([[1, 0]]), embeddings=halves())[0, 0]
    assert both[0, 2].item() == pytest.approx(2 * LIKENESS_LOGIT)
    assert both[0, 30].item() == pytest.approx(-2 * LIKENESS_LOGIT)
    ignored = draw_prompts(SIZE, points, torch.tensor([[1, -1]]), embeddings=halves())
    assert torch.equal(ignored, draw_prompts(SIZE, points[:, :1], torch.tensor([[1]]), embeddings=halves()))


def test_boxes_and_previous_answers_come_before_likeness() -> None:
    point, label, box = torch.tensor([[[20.0, 64.0]]]), torch.tensor([[1]]), torch.tensor([[16.0, 8.0, 32.0, 40.0]])
    previous = torch.zeros(1, 32, 32)
    for extra in ((box, None), (None, previous)):
        assert torch.equal(draw_prompts(SIZE, point, label, *extra, halves()), draw_prompts(SIZE, point, label, *extra))


def test_an_embedding_without_contrast_says_nothing() -> None:
    plane = draw_prompts(SIZE, torch.tensor([[[20.0, 64.0]]]), torch.tensor([[1]]), embeddings=torch.ones(1, 4, 8, 8))
    assert torch.allclose(plane, draw_prompts(SIZE, torch.tensor([[[20.0, 64.0]]]), torch.tensor([[1]])), atol=1e-4)


def test_likeness_teaches_the_encoder() -> None:
    embedding = halves().requires_grad_()
    draw_prompts(SIZE, torch.tensor([[[20.0, 64.0]]]), torch.tensor([[1]]), embeddings=embedding)[
        0, 0, 0, 30
    ].backward()
    assert embedding.grad is not None
    assert embedding.grad.abs().sum() > 0


def test_what_is_alike_but_apart_stays_undecided() -> None:
    embedding = torch.zeros(1, 4, 8, 8)
    embedding[0, 0] = 3.0
    embedding[0, 0, :, 3:5] = 0.0
    embedding[0, 1, :, 3:5] = 3.0
    plane = draw_prompts(SIZE, torch.tensor([[[20.0, 64.0]]]), torch.tensor([[1]]), embeddings=embedding)[0, 0]
    assert plane[:, :8].min() > 5.9
    assert plane[:2, 14:18].max() < -5.9
    assert plane[:2, 26:].abs().max() < 0.1


def test_a_winding_way_is_followed() -> None:
    embedding = torch.zeros(1, 4, 8, 8)
    embedding[0, 1] = 3.0
    for row, columns in ((0, range(8)), (1, [7]), (2, range(8))):
        for column in columns:
            embedding[0, :, row, column] = torch.tensor([3.0, 0.0, 0.0, 0.0])
    plane = draw_prompts(SIZE, torch.tensor([[[8.0, 8.0]]]), torch.tensor([[1]]), embeddings=embedding)[0, 0]
    assert plane[9, 2].item() > 2


def test_a_box_holds_what_differs_from_its_surroundings() -> None:
    embedding = torch.zeros(1, 4, 8, 8)
    embedding[0, 0] = 3.0
    embedding[0, :, 2:6, 2:4] = torch.tensor([0.0, 3.0, 0.0, 0.0])[:, None, None]
    box = torch.tensor([[32.0, 32.0, 96.0, 96.0]])
    plane = draw_prompts(SIZE, NO_POINTS, NO_LABELS, box, embeddings=embedding)[0, 0]
    assert plane[9:23, 9:15].min() > BOX_INSIDE + 2
    assert plane[9:23, 19:23].max() < 0
    assert (plane[:, :8] == BOX_OUTSIDE).all()
    assert (plane[:, 24:] == BOX_OUTSIDE).all()


def test_a_small_box_counts_the_cells_it_touches_by_their_share() -> None:
    embedding = halves()
    found = contrast(embedding, torch.tensor([[60.0, 50.0, 66.0, 56.0]]), SIZE)
    assert found.isfinite().all()
    assert found.abs().max() <= 1.0001
    assert contrast(embedding, torch.full((1, 4), float("nan")), SIZE).abs().max() == 0
