"""Segmenting by likeness to a labelled object, without training."""

from __future__ import annotations

import pytest
import torch
from samtune.models import few_shot
from samtune.models.batch_decode import decode_batch
from samtune.models.encoder import encode
from samtune.models.errors import PromptError
from samtune.models.few_shot import clicks_by, segment_alike, similarity, target_vector
from samtune.models.losses import true_iou
from samtune.models.prompt_mask import draw_prompts
from torch.nn.functional import avg_pool2d, normalize

from .scenes import SIZE, disc, discs, shipped


def _two_kinds(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a (16, 8, 8) embedding with an object of 2 x 2 cells unlike the rest, and its (128, 128) mask."""
    random = torch.Generator().manual_seed(seed)
    ground, thing = torch.randn(16, generator=random), torch.randn(16, generator=random)
    embedding = ground[:, None, None] + 0.1 * torch.randn(16, 8, 8, generator=random)
    embedding[:, 2:4, 5:7] = thing[:, None, None] + 0.1 * torch.randn(16, 2, 2, generator=random)
    mask = torch.zeros(128, 128, dtype=torch.bool)
    mask[32:64, 80:112] = True
    return embedding, mask


def test_the_target_is_half_mean_and_half_maximum_of_length_one() -> None:
    embedding, mask = _two_kinds()
    inside = embedding[:, 2:4, 5:7].flatten(1)
    expected = normalize((inside.mean(dim=1) + inside.amax(dim=1)) / 2, dim=0)
    target = target_vector(embedding, mask)
    assert torch.allclose(target, expected)
    assert torch.allclose(target.norm(), torch.tensor(1.0))


def test_only_cells_mostly_of_the_object_count() -> None:
    embedding, mask = _two_kinds()
    wider = mask.clone()
    wider[26:70, 74:118] = True
    assert torch.equal(target_vector(embedding, wider), target_vector(embedding, mask))


def test_an_object_smaller_than_a_cell_has_its_cell() -> None:
    embedding, mask = _two_kinds()
    mask[:] = False
    mask[50:53, 85:88] = True
    assert torch.allclose(target_vector(embedding, mask), normalize(embedding[:, 3, 5], dim=0))


def test_several_labelled_objects_make_one_target() -> None:
    one, mask = _two_kinds(0)
    other, _ = _two_kinds(1)
    inside = torch.cat([one[:, 2:4, 5:7].flatten(1), other[:, 2:4, 5:7].flatten(1)], dim=1)
    expected = normalize((inside.mean(dim=1) + inside.amax(dim=1)) / 2, dim=0)
    assert torch.allclose(target_vector(torch.stack([one, other]), torch.stack([mask, mask])), expected)


def test_an_empty_object_is_refused() -> None:
    embedding, mask = _two_kinds()
    with pytest.raises(PromptError, match="Label"):
        target_vector(torch.stack([embedding, embedding]), torch.stack([mask, torch.zeros_like(mask)]))


def test_similarity_is_the_cosine() -> None:
    embedding, mask = _two_kinds()
    target = target_vector(embedding, mask)
    alike = similarity(3 * embedding, target)
    assert alike.shape == (8, 8)
    assert torch.allclose(alike[1, 2], torch.cosine_similarity(embedding[:, 1, 2], target, dim=0))
    assert alike[2:4, 5:7].min() > 0.9 > alike[:, :5].max()


def test_the_most_and_the_least_alike_place_are_clicked_in_their_middle() -> None:
    alike = torch.zeros(4, 6)
    alike[1, 4], alike[3, 0] = 0.9, -0.7
    clicks = clicks_by(alike)
    assert clicks.points.tolist() == [[[72.0, 24.0], [8.0, 56.0]]]
    assert clicks.labels.tolist() == [[1, 0]]
    assert clicks.highest == pytest.approx(0.9)
    alone = clicks_by(alike, negative=False)
    assert alone.points.tolist() == [[[72.0, 24.0]]]
    assert alone.labels.tolist() == [[1]]


def test_places_without_data_are_not_clicked() -> None:
    alike = torch.zeros(4, 6)
    alike[1, 4], alike[3, 0], alike[2, 2], alike[2, 3] = 0.9, -0.7, 0.5, -0.2
    valid = torch.ones(4, 6, dtype=torch.bool)
    valid[1, 4] = valid[3, 0] = False
    assert clicks_by(alike, valid).points.tolist() == [[[40.0, 40.0], [56.0, 40.0]]]
    with pytest.raises(PromptError, match="no data"):
        clicks_by(alike, torch.zeros(4, 6, dtype=torch.bool))


def _scene() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the embedding of the discs' image, and its left-right mirror image's."""
    image = discs().image
    with torch.no_grad():
        return tuple(encode(shipped().image_encoder, one).embedding[0] for one in (image, image.flip(3)))  # type: ignore[return-value]


def test_a_labelled_disc_finds_a_disc_in_another_image() -> None:
    here, there = _scene()
    target = target_vector(here, discs().masks[7])
    clicks = clicks_by(similarity(there, target))
    mirrored = discs().masks.flip(2)
    x, y = (int(value) for value in clicks.points[0, 0])
    hit = mirrored[:, y, x].nonzero()
    assert len(hit), "the most alike place is no disc"
    x, y = (int(value) for value in clicks.points[0, 1])
    assert not mirrored[:, y, x].any()
    found = segment_alike(shipped(), there, clicks, bumps=True)
    share = avg_pool2d(mirrored[int(hit[0])][None].float(), 4)[0]
    assert true_iou(found.logits, share) > 0.5
    assert 0 <= found.iou <= 1
    assert found.prompts is clicks


def test_one_click_takes_the_best_of_three_and_two_the_single_mask() -> None:
    here, _ = _scene()
    target = target_vector(here, discs().masks[7])
    for negative in (True, False):
        clicks = clicks_by(similarity(here, target), negative=negative)
        planes = draw_prompts((SIZE // 4,) * 2, clicks.points, clicks.labels, None, None, here[None])
        with torch.no_grad():
            logits, iou = decode_batch(shipped(), here[None], clicks.points, clicks.labels, None, planes)
        expected = 0 if negative else 1 + int(iou[0, 1:].argmax())
        found = segment_alike(shipped(), here, clicks, bumps=True, refinements=0)
        assert torch.allclose(found.logits, logits[0, expected], atol=1e-4)


def test_refinements_give_back_the_answer_and_then_its_box(monkeypatch: pytest.MonkeyPatch) -> None:
    here, _ = _scene()
    clicks = clicks_by(similarity(here, target_vector(here, discs().masks[7])))
    asked: list[tuple[torch.Tensor | None, torch.Tensor | None]] = []
    answer = torch.full((1, 4, SIZE // 4, SIZE // 4), -3.0)
    answer[:, :, 10:20, 30:34] = 3.0

    def decode(*arguments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append((arguments[4], arguments[5]))
        return answer, torch.full((1, 4), 0.5)

    monkeypatch.setattr(few_shot, "decode_batch", decode)
    segment_alike(shipped(), here, clicks, bumps=False)
    assert [box is not None for box, _ in asked] == [False, False, True]
    assert asked[0][1] is None
    assert asked[1][1] is not None and torch.equal(asked[1][1][0, 0], answer[0, 0])
    assert asked[2][0] is not None and asked[2][0].tolist() == [[120, 40, 136, 80]]


def test_an_empty_answer_is_not_refined(monkeypatch: pytest.MonkeyPatch) -> None:
    here, _ = _scene()
    calls: list[int] = []

    def decode(*_arguments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(1)
        return torch.full((1, 4, SIZE // 4, SIZE // 4), -3.0), torch.full((1, 4), 1.5)

    monkeypatch.setattr(few_shot, "decode_batch", decode)
    found = segment_alike(shipped(), here, clicks_by(torch.zeros(16, 16)), bumps=False)
    assert len(calls) == 1
    assert found.iou == 1.0
    assert not (found.logits > 0).any()


def test_the_masks_of_the_target_may_be_of_any_size() -> None:
    embedding, mask = _two_kinds()
    small = torch.zeros(32, 32, dtype=torch.bool)
    small[8:16, 20:28] = True
    assert torch.equal(target_vector(embedding, mask), target_vector(embedding, small))
    assert target_vector(embedding, disc(100, 75.0, 40.0, 12)).shape == (16,)
