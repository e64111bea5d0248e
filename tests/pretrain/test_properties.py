"""What holds for every seed: partitions, textures, things, windows, radiometry, prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samtune.engine.pretrain import partitions
from samtune.engine.pretrain.augment import radiometric, textureless
from samtune.engine.pretrain.canvas import Canvas
from samtune.engine.pretrain.pack import Entry, read_pack, write_entry
from samtune.engine.pretrain.prompting import correction_clicks
from samtune.engine.pretrain.sampling import (
    Sampler,
    SamplingSettings,
    _aim,
    _choose,
    _cut,
    first_click,
    noisy_box,
    quarter_share,
)
from samtune.engine.pretrain.scenes import _compact, _large, _winding
from samtune.engine.pretrain.textures import TextureBank, smooth_noise
from samtune.engine.pretrain.things import add_buildings, add_crowns, add_rounds, add_vehicles, ragged

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=25, deadline=None)


@FEW
@given(SEEDS, st.sampled_from([48, 96, 130]))
def test_partitions_number_every_pixel_without_gaps(seed: int, size: int) -> None:
    cells = partitions.partition(np.random.default_rng(seed), size)
    assert cells.shape == (size, size)
    assert cells.dtype == np.int32
    numbers = np.unique(cells)
    assert np.array_equal(numbers, np.arange(len(numbers)))
    assert np.array_equal(cells, partitions.partition(np.random.default_rng(seed), size))


@FEW
@given(SEEDS, st.integers(9, 70))
def test_coarse_fields_fill_any_size(seed: int, size: int) -> None:
    assert partitions.pixel_fields(np.random.default_rng(seed), size).shape == (size, size)


@FEW
@given(SEEDS)
def test_pivots_only_add_cells(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = partitions.voronoi(rng, 80)
    after = partitions.with_pivots(rng, 80, before)
    changed = before != after
    assert (after[changed] > before.max()).all()
    assert (after[~changed] == before[~changed]).all()


@FEW
@given(SEEDS, st.floats(1, 60))
def test_noise_has_mean_nought_and_deviation_one(seed: int, cells: float) -> None:
    noise = smooth_noise(np.random.default_rng(seed), 96, cells)
    assert noise.dtype == np.float32
    assert abs(float(noise.mean())) < 1e-3
    assert float(noise.std()) == pytest.approx(1.0, abs=1e-3)


@FEW
@given(SEEDS, st.floats(0.05, 0.6))
def test_blobs_cover_the_share_asked_for(seed: int, share: float) -> None:
    assert ragged(np.random.default_rng(seed), 96, share).mean() == pytest.approx(share, abs=0.02)


@FEW
@given(SEEDS, st.sampled_from([0.0, 0.05, 0.15]))
def test_ways_lie_on_the_canvas(seed: int, bend: float) -> None:
    line = _winding(np.random.default_rng(seed), 96, bend)
    assert line.shape == (96, 96)
    assert line.any()
    assert line.mean() < 0.2


@pytest.fixture(scope="module")
def bank(entries: list[Entry]) -> TextureBank:
    return TextureBank(entries)


@pytest.mark.parametrize("maker", [add_buildings, add_crowns, add_vehicles, add_rounds])
@pytest.mark.parametrize("seed", range(4))
def test_things_stand_on_the_ground_and_not_on_one_another(maker: object, seed: int, bank: TextureBank) -> None:
    rng = np.random.default_rng(seed)
    canvas = Canvas(rng, np.full((128, 128, 3), 90, np.float32), np.ones((128, 128), np.uint16))
    before = canvas.image.copy()
    maker(canvas, rng, bank)  # type: ignore[operator]
    things = canvas.objects > 0
    assert np.array_equal(things, canvas.ground == 0)
    if things.any():
        numbers = np.unique(canvas.objects[things])
        assert len(numbers) <= canvas.objects.max()
        assert np.abs(canvas.image - before)[things].mean() > 1
    assert np.isfinite(canvas.image).all()


@pytest.mark.parametrize("seed", range(6))
def test_textures_keep_to_their_colour(seed: int, bank: TextureBank) -> None:
    rng = np.random.default_rng(seed)
    colour = bank.colour(rng)
    assert colour.shape == (3,)
    assert 0 <= colour.min() <= colour.max() <= 255
    texture = bank.texture(rng, 96, colour)
    assert texture.shape == (96, 96, 3)
    assert np.abs(texture.mean(axis=(0, 1)) - colour).max() < 25


def test_label_helpers() -> None:
    labels = np.array([[7, 7, 900], [0, 7, 900]], np.int64)
    assert _compact(labels).tolist() == [[1, 1, 2], [0, 1, 2]]
    assert _compact(labels + 1).min() == 1
    assert _large(np.array([[1, 1, 2], [3, 1, 2]], np.uint16), 2).tolist() == [[1, 1, 2], [0, 1, 2]]


@FEW
@given(SEEDS, st.sampled_from([32, 48]))
def test_radiometry_stays_in_range_and_is_seeded(seed: int, size: int) -> None:
    image = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, size, size), dtype=np.uint8))
    changed = radiometric(image, np.random.default_rng(seed))
    assert changed.shape == image.shape
    assert changed.dtype == torch.uint8
    assert torch.equal(changed, radiometric(image, np.random.default_rng(seed)))


def test_radiometry_covers_other_sensors() -> None:
    """Over many draws: gray images, much darker and much brighter ones."""
    rng = np.random.default_rng(0)
    base = torch.from_numpy(rng.integers(40, 200, (3, 16, 16), dtype=np.uint8)).repeat_interleave(3, 1)
    base = base.repeat_interleave(3, 2)
    gray = dark = bright = 0
    for seed in range(200):
        seen = radiometric(base, np.random.default_rng(seed)).float()
        gray += bool((seen - seen.mean(0, keepdim=True)).abs().mean() < 4)
        dark += bool(seen.mean() < 80)
        bright += bool(seen.mean() > 165)
    assert gray >= 8
    assert dark >= 4
    assert bright >= 4


@FEW
@given(SEEDS, st.sampled_from([32, 64]))
def test_textureless_crops_are_images(seed: int, size: int) -> None:
    image = textureless(np.random.default_rng(seed), size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """An image whose red is the row and whose green is the column, with twelve objects in a grid."""
    folder = tmp_path_factory.mktemp("marked")
    rows, columns = np.mgrid[:240, :200]
    image = np.stack([rows, columns, rows // 2], axis=-1).astype(np.uint8)
    labels = np.zeros((240, 200), np.uint16)
    for number in range(12):
        top, left = 60 * (number // 3) + 10, 66 * (number % 3) + 8
        labels[top : top + 12 + 2 * number, left : left + 40] = number + 1
    write_entry(folder, "m", "set", image, [("instance", labels)])
    return read_pack(folder)[0]


@FEW
@given(SEEDS, st.sampled_from([64, 128]))
def test_windows_show_what_they_aim_at(marked: Entry, seed: int, size: int) -> None:
    labels = np.asarray(marked.labels[0])
    rng = np.random.default_rng(seed)
    window = _aim(labels, rng, size, SamplingSettings({}, {}, smallest=0.1, largest=0.6))
    assert window is not None
    top, left, side, target = window
    assert size / 4 <= side <= 1.25 * max(labels.shape) + 1
    rows, columns = np.nonzero(labels == target)
    seen = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    assert seen.any()


@FEW
@given(SEEDS, st.floats(0, 360))
def test_cut_labels_lie_where_the_image_says(marked: Entry, seed: int, angle: float) -> None:
    """Rows and columns are written into the image, so every label can be looked up where its pixel came from."""
    rng = np.random.default_rng(seed)
    side = int(rng.integers(60, 150))
    top, left = int(rng.integers(-20, 150)), int(rng.integers(-20, 110))
    image, labels, valid = _cut(marked, top, left, side, 64, angle if rng.random() < 0.5 else 0.0)
    whole = np.asarray(marked.labels[0])
    rows, columns = (image[band].numpy().astype(int) for band in (0, 1))
    inner = valid.numpy().copy()
    inner[[0, -1]] = inner[:, [0, -1]] = False
    inner &= (rows > 3) & (columns > 3) & (rows < 236) & (columns < 196)
    if inner.sum() > 200:
        source = whole[rows[inner].clip(0, 239), columns[inner].clip(0, 199)]
        assert (source == labels[0][inner]).mean() > 0.85


@FEW
@given(SEEDS)
def test_the_object_aimed_at_is_among_those_chosen(marked: Entry, seed: int) -> None:
    labels = np.asarray(marked.labels)
    target = int(np.random.default_rng(seed).integers(1, 13))
    masks = _choose(labels, (0, target), np.ones(1), np.random.default_rng(seed), 4)
    assert masks is not None
    assert np.array_equal(masks[0], labels[0] == target)
    assert len({mask.tobytes() for mask in masks}) == 4


def test_a_single_object_is_asked_for_several_times() -> None:
    labels = np.zeros((1, 40, 40), np.uint16)
    labels[0, 5:20, 5:20] = 3
    masks = _choose(labels, (0, 3), np.ones(1), np.random.default_rng(0), 3)
    assert masks is not None
    assert (masks == (labels == 3)).all()
    assert _choose(np.zeros_like(labels), (0, 3), np.ones(1), np.random.default_rng(0), 3) is None
    assert _choose(np.full_like(labels, 3), (0, 3), np.ones(1), np.random.default_rng(0), 3) is None


@FEW
@given(SEEDS, st.integers(3, 30), st.integers(3, 30))
def test_first_prompts_belong_to_their_object(seed: int, high: int, wide: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((64, 64), bool)
    top, left = int(rng.integers(0, 64 - high)), int(rng.integers(0, 64 - wide))
    mask[top : top + high, left : left + wide] = True
    x, y = first_click(mask, quarter_share(mask[None])[0], rng)
    assert mask[min(int(y), 63), min(int(x), 63)]
    x0, y0, x1, y1 = noisy_box(mask, rng)
    assert 0 <= x0 < x1 <= 64
    assert 0 <= y0 < y1 <= 64
    overlap = max(0, min(x1, left + wide) - max(x0, left)) * max(0, min(y1, top + high) - max(y0, top))
    assert overlap > 0.2 * high * wide


@FEW
@given(SEEDS)
def test_corrections_are_where_answer_and_truth_differ(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 1, (3, 16, 16)).astype(np.float32))
    targets = torch.from_numpy((rng.random((3, 16, 16)) > 0.6).astype(np.float32))
    points, labels = correction_clicks(logits, targets, rng)
    for index in range(3):
        column, row = (int(value) // 4 for value in points[index, 0])
        assert labels[index, 0] == int(targets[index, row, column])
        assert (logits[index, row, column] > 0) != (targets[index, row, column] > 0.5)


def test_sets_of_no_weight_are_never_drawn(entries: list[Entry], tmp_path: Path) -> None:
    """Leaving a set out, as the checks in docs/models.md do, leaves all of it out."""
    sampler = Sampler(entries, SamplingSettings({"water": 1.0, "nwpu": 0.0}, {}, masks=2))
    assert sampler._names == ["water"]
    counted = Sampler(entries, SamplingSettings({"water": 3.0, "nwpu": 1.0}, {}, masks=2, empty=0.0))
    assert counted._weights.tolist() == [0.25, 0.75]
