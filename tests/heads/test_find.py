"""Finding objects: peaks, prompts into the decoder, de-duplication, and neighbours in contact kept apart."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from samtune.models import registry
from samtune.models.batch_decode import decode_batch
from samtune.models.encoder import Features
from samtune.models.heads import find as finding
from samtune.models.heads.find import FindOptions, Found, Prompt, distinct, find, peaks
from samtune.models.heads.instances import (
    InstanceMaps,
    Instances,
    InstancesConfig,
    instance_loss,
    instance_targets,
)
from samtune.models.promptable import PromptableModel
from torch.nn.functional import interpolate

from .scenes import SIZE, TOUCHING, connected_parts, disc, discs, seen, shipped

BUMPS = FindOptions(bumps=True)


@functools.cache
def _taught() -> Instances:
    """Return a head that has learnt the scene of discs by heart."""
    torch.manual_seed(0)
    head = InstancesConfig().build(shipped())
    assert isinstance(head, Instances)
    masks = discs().masks
    known = torch.ones(1, SIZE, SIZE, dtype=torch.bool)
    targets = instance_targets([masks], [torch.zeros(len(masks), dtype=torch.int64)], known)
    optimiser = torch.optim.AdamW(head.parameters(), 1e-3)
    for _ in range(80):
        optimiser.zero_grad()
        instance_loss(head(seen()), targets).backward()
        optimiser.step()
    return head


@functools.cache
def _found(options: FindOptions = BUMPS) -> Found:
    return find(shipped(), _taught(), seen(), options)[0]


def _ious(found: Found) -> torch.Tensor:
    """Return (N, M): of what was found with the discs."""
    answers = interpolate(found.logits[None], (SIZE, SIZE), mode="bilinear")[0] > 0
    truth = discs().masks
    both = (answers[:, None] & truth[None]).sum(dim=(2, 3))
    return both / (answers[:, None] | truth[None]).sum(dim=(2, 3))


def _peaky(*places: tuple[int, int, int, float], kinds: int = 1, stride: int = 8, cells: int = 16) -> InstanceMaps:
    """Return maps of 16 x 16 cells with peaks (class, row, column, logit) and boxes of 24 px around every cell."""
    heat = torch.full((1, kinds, cells, cells), -9.0)
    for kind, row, column, logit in places:
        heat[0, kind, row, column] = logit
    middle = (torch.arange(cells) + 0.5) * stride
    x, y = middle.expand(cells, cells), middle[:, None].expand(cells, cells)
    return InstanceMaps(heat, torch.stack([x - 12, y - 12, x + 12, y + 12])[None], stride)


def test_every_disc_is_found_once_and_neighbours_in_contact_stay_apart() -> None:
    found = _found()
    assert connected_parts(discs().masks.any(dim=0)) < len(discs().masks), "the scene has no contacts"
    assert len(found.scores) == len(discs().masks)
    best = _ious(found).max(dim=0)
    assert sorted(best.indices.tolist()) == list(range(len(discs().masks)))
    assert best.values.min() > 0.5
    assert best.values.mean() > 0.65


def test_each_disc_in_contact_is_clicked_within() -> None:
    distances = torch.cdist(_found().clicks, discs().centres)
    assert (distances.min(dim=0).values[: len(TOUCHING)] < 9).all()
    assert (distances.min(dim=1).values < 9).all()


def test_no_two_objects_share_ground() -> None:
    assert (_found().logits > 0).sum(dim=0).max() == 1
    shared = _found(replace(BUMPS, exclusive=False))
    assert (shared.logits > 0).sum(dim=0).max() > 1


def test_the_surest_comes_first_and_all_belongs_together() -> None:
    found = _found()
    assert (found.scores.diff() <= 0).all()
    assert ((found.scores > 0) & (found.scores <= 1)).all()
    assert found.classes.tolist() == [0] * len(found.scores)
    inside = (found.clicks >= found.boxes[:, :2]) & (found.clicks <= found.boxes[:, 2:])
    assert inside.all()
    for logits, (x, y) in zip(found.logits, found.clicks.tolist(), strict=True):
        assert logits[int(y / 4), int(x / 4)] > 0


def test_it_finds_the_same_every_time_in_any_chunks() -> None:
    again = find(shipped(), _taught(), seen(), BUMPS)[0]
    assert torch.equal(again.logits, _found().logits)
    chunked = _found(replace(BUMPS, chunk=2))
    assert torch.allclose(chunked.scores, _found().scores, atol=1e-5)
    assert torch.allclose(chunked.logits, _found().logits, atol=1e-3)


def test_memory_is_bounded_by_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def decode(*arguments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(len(arguments[2]))
        return decode_batch(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(finding, "decode_batch", decode)
    find(shipped(), _taught(), seen(), replace(BUMPS, chunk=4))
    assert max(sizes) == 4
    assert sum(sizes) >= len(discs().masks)


@pytest.mark.parametrize("prompt", list(Prompt))
def test_objects_are_outlined_as_the_same_prompt_by_hand_would_be(prompt: Prompt) -> None:
    found = _found(replace(BUMPS, exclusive=False, slack=9.0, prompt=prompt))
    model = PromptableModel(registry.card("tiny"), shipped(), torch.device("cpu"))
    embedding = seen().embedding[0].numpy().astype(np.float16)
    for index in (0, 3):
        click, box = found.clicks[index].numpy()[None], found.boxes[index].numpy()
        clicks = click if prompt is Prompt.BOX_AND_CLICK else click[:0]
        decoded = model.decode(embedding, clicks, np.ones(len(clicks), np.int64), box, multimask=False)
        same = (decoded.logits[0] > 0) == (found.logits[index] > 0).numpy()
        assert same.mean() > 0.99


def test_published_models_get_plain_prompts() -> None:
    plain, drawn = _found(FindOptions()), _found()
    assert plain.logits.shape[1:] == drawn.logits.shape[1:]
    size = min(len(plain.logits), len(drawn.logits))
    assert not torch.allclose(plain.logits[:size], drawn.logits[:size], atol=0.1)
    first, _ = decode_batch(
        shipped(),
        seen().embedding,
        plain.clicks[:1, :0].reshape(1, 0, 2),
        torch.ones(1, 0, dtype=torch.int64),
        plain.boxes[:1],
        None,
    )
    sure = plain.logits[0] > 0
    assert torch.allclose(first[0, 0][sure], plain.logits[0][sure], atol=1e-3)


def test_images_of_a_batch_are_searched_apart() -> None:
    one = seen()
    ground = torch.zeros_like(one.embedding)
    both = Features(
        torch.cat([ground, one.embedding]), {k: torch.cat([torch.zeros_like(v), v]) for k, v in one.blocks.items()}
    )
    found = find(shipped(), _taught(), both, BUMPS)
    assert len(found) == 2
    assert len(found[0].scores) < len(found[1].scores) == len(_found().scores)


def test_nothing_is_found_where_nothing_is_sure_enough() -> None:
    found = _found(replace(BUMPS, threshold=1.1))
    assert found.logits.shape == (0, SIZE // 4, SIZE // 4)
    assert len(found.classes) == len(found.scores) == len(found.clicks) == len(found.boxes) == 0


def test_the_threshold_and_the_limit_take_the_surest() -> None:
    maps = _peaky((0, 2, 3, 1.0), (0, 8, 8, 3.0), (0, 12, 2, -0.5))
    assert peaks(maps, 0, FindOptions(threshold=0.3)).chances.tolist() == pytest.approx(
        torch.sigmoid(torch.tensor([3.0, 1.0, -0.5])).tolist()
    )
    assert len(peaks(maps, 0, FindOptions(threshold=0.5)).chances) == 2
    assert peaks(maps, 0, FindOptions(most=1)).clicks.tolist() == [[68.0, 68.0]]


def test_a_slope_has_one_peak() -> None:
    maps = _peaky((0, 5, 5, 2.0), (0, 5, 6, 1.5), (0, 6, 6, 1.9), (0, 5, 8, 0.5))
    assert len(peaks(maps, 0, FindOptions()).chances) == 2


def test_peaks_have_their_class() -> None:
    maps = _peaky((0, 5, 5, 2.0), (2, 9, 9, 1.0), kinds=3)
    found = peaks(maps, 0, FindOptions())
    assert found.classes.tolist() == [0, 2]
    assert found.boxes[1].tolist() == [64, 64, 88, 88]


def test_boxes_end_at_the_image_and_clicks_lie_in_their_middle() -> None:
    maps = _peaky((0, 0, 0, 2.0), (0, 9, 9, 1.0))
    maps.boxes[0, :, 9, 9] = torch.tensor([76.0, 60.0, 80.0, 76.0])
    found = peaks(maps, 0, FindOptions())
    assert found.boxes[0].tolist() == [0, 0, 16, 16]
    assert found.clicks[1].tolist() == [77, 72]


def test_the_same_object_under_two_names_is_one() -> None:
    big, same, other = disc(64, 20.0, 20.0, 12), disc(64, 21.0, 20.0, 12), disc(64, 48.0, 48.0, 8)
    masks = torch.stack([big, same, other])
    assert distinct(masks, torch.tensor([0, 1, 0]), 0.5, 0.8).tolist() == [0, 2]
    assert distinct(masks[[1, 0, 2]], torch.tensor([0, 1, 0]), 0.5, 0.8).tolist() == [0, 2]


def test_a_part_of_the_same_class_goes_and_one_of_another_stays() -> None:
    masks = torch.stack([disc(64, 32.0, 32.0, 20), disc(64, 38.0, 32.0, 7)])
    assert distinct(masks, torch.tensor([0, 0]), 0.5, 0.8).tolist() == [0]
    assert distinct(masks, torch.tensor([0, 1]), 0.5, 0.8).tolist() == [0, 1]


def test_neighbours_in_contact_are_distinct_and_empty_masks_nothing() -> None:
    masks = torch.stack([disc(64, 20.0, 32.0, 10), disc(64, 40.0, 32.0, 10.5), torch.zeros(64, 64, dtype=torch.bool)])
    assert distinct(masks, torch.zeros(3, dtype=torch.int64), 0.5, 0.8).tolist() == [0, 1]
    assert distinct(masks[:0], torch.zeros(0, dtype=torch.int64), 0.5, 0.8).tolist() == []


def test_what_was_dropped_suppresses_nothing() -> None:
    """Of a chain of overlaps the first and the last stay: only objects that are kept count."""
    row = [disc(64, x, 32.0, 10) for x in (20.0, 25.0, 30.0)]
    assert distinct(torch.stack(row), torch.arange(3), 0.5, 0.8).tolist() == [0, 2]
