"""Modality masking: how much is hidden, of which modality, and that a seed decides all of it."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from samtune.models.peft.contract import TuningError
from samtune.models.peft.modality_masking import ModalityMasking, mask_modalities, rectangle


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hidden(batch: torch.Tensor) -> torch.Tensor:
    """Return (2 B,) the hidden share of each image of a batch of ones."""
    return (batch == 0).all(dim=1).float().mean(dim=(1, 2))


@pytest.mark.parametrize("size", [(64, 64), (256, 256), (48, 112), (16, 200)])
def test_areas_are_within_their_limits_and_use_the_whole_range(size: tuple[int, int]) -> None:
    areas = []
    for seed in range(300):
        row, column, height, width = rectangle(*size, seeded(seed))
        assert row >= 0 and column >= 0 and row + height <= size[0] and column + width <= size[1]
        areas.append(height * width / (size[0] * size[1]))
    assert min(areas) >= 0.1 and max(areas) <= 0.3
    assert min(areas) < 0.13 and max(areas) > 0.27


def test_rectangles_lie_everywhere_and_have_all_shapes() -> None:
    found = [rectangle(64, 64, seeded(seed)) for seed in range(300)]
    seen = torch.zeros(64, 64)
    for row, column, height, width in found:
        seen[row : row + height, column : column + width] += 1
    assert (seen > 0).float().mean() > 0.98, "all but the very corners"
    assert {0, 64} <= {edge for row, _, height, _ in found for edge in (row, row + height)}
    assert {0, 64} <= {edge for _, column, _, width in found for edge in (column, column + width)}
    ratios = [height / width for _, _, height, width in found]
    assert min(ratios) < 0.6 and max(ratios) > 1.7


def test_half_of_the_places_are_masked_in_one_modality_each() -> None:
    for seed in range(20):
        batch = torch.ones(16, 3, 32, 32)
        shares = hidden(mask_modalities(batch, seeded(seed)))
        first, second = shares[:8] > 0, shares[8:] > 0
        assert int((first | second).sum()) == 4
        assert not (first & second).any(), "a place keeps one modality whole"
        assert int(first.sum()) == int(second.sum()) == 2, "in turns"
        assert (shares[shares > 0] >= 0.1).all() and (shares <= 0.3).all()
        assert torch.equal(batch, torch.ones(16, 3, 32, 32)), "the batch itself is as it was"


def test_all_channels_of_a_rectangle_are_zero_and_the_rest_is_as_it_was() -> None:
    batch = torch.rand(8, 3, 32, 32) + 1
    found = mask_modalities(batch, seeded(1))
    zero = found == 0
    assert torch.equal(zero.any(dim=1), zero.all(dim=1))
    assert torch.equal(found[~zero], batch[~zero])
    for image in range(8):
        places = zero[image, 0].nonzero()
        if len(places):
            low, high = places.amin(dim=0), places.amax(dim=0)
            assert int((high - low + 1).prod()) == len(places), "one rectangle without gaps"


def test_small_batches_get_their_share_over_time() -> None:
    turns: Counter[int] = Counter()
    for seed in range(400):
        shares = hidden(mask_modalities(torch.ones(2, 1, 16, 16), seeded(seed)))
        turns.update((shares > 0).nonzero().flatten().tolist())
    assert 60 < turns[0] < 140 and 60 < turns[1] < 140
    odd = [int((hidden(mask_modalities(torch.ones(6, 1, 16, 16), seeded(seed))) > 0).sum()) for seed in range(100)]
    assert set(odd) == {1, 2}


def test_a_seed_decides_everything() -> None:
    batch = torch.ones(8, 3, 40, 40)
    one, again, other = (mask_modalities(batch, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    shared = seeded(3)
    mask_modalities(batch, shared)
    assert not torch.equal(mask_modalities(batch, shared), one), "the generator moves on"


def test_other_settings() -> None:
    batch = torch.ones(8, 3, 64, 64)
    assert torch.equal(mask_modalities(batch, seeded(0), ModalityMasking(portion=0.0)), batch)
    shares = hidden(mask_modalities(batch, seeded(0), ModalityMasking(portion=1.0, least=0.5, greatest=0.6)))
    assert int((shares > 0).sum()) == 4
    assert (shares[shares > 0] >= 0.5).all() and (shares <= 0.6).all()


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(TuningError):
        mask_modalities(torch.ones(3, 3, 8, 8), seeded(0))
    for wrong in ({"portion": 1.5}, {"least": 0.4}, {"least": 0.0}, {"greatest": 1.0}):
        with pytest.raises(TuningError):
            ModalityMasking(**wrong)
