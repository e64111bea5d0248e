"""Packs, samples, augmentation and composed scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from samtune.engine.pretrain import partitions
from samtune.engine.pretrain.augment import radiometric, textureless
from samtune.engine.pretrain.canvas import Canvas
from samtune.engine.pretrain.pack import Entry, names_in, read_pack, write_entry
from samtune.engine.pretrain.pool import components, image_jobs, pack_job, polygon_mask, pool_jobs
from samtune.engine.pretrain.prompting import correction_clicks, make_batch
from samtune.engine.pretrain.sampling import Sampler, SamplingSettings, first_click, noisy_box, quarter_share
from samtune.engine.pretrain.scenes import SIZE, Composer
from samtune.models.errors import SamTuneError

SETTINGS = SamplingSettings({"nwpu": 0.5, "water": 0.3, "bsds": 0.2}, {"felz-fine": 0.1}, masks=3, empty=0.0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_pack_gives_back_what_was_written(tmp_path: Path) -> None:
    image = rng().integers(0, 255, (40, 30, 3), dtype=np.uint8)
    labels = np.zeros((40, 30), np.uint16)
    labels[5:20, 5:20] = 700
    write_entry(tmp_path, "a", "set", image, [("instance", labels), ("empty", np.zeros_like(labels))])
    write_entry(tmp_path, "b", "set", image, [("empty", np.zeros_like(labels))])
    (entry,) = read_pack(tmp_path)
    assert (entry.name, entry.source, entry.layers) == ("a", "set", ("instance",))
    assert np.array_equal(entry.image, image)
    assert np.array_equal(entry.labels[0], labels)
    assert names_in(tmp_path) == {"a"}


def test_a_missing_pack_is_named(tmp_path: Path) -> None:
    assert names_in(tmp_path / "none") == set()
    with pytest.raises(SamTuneError, match="no data pack"):
        read_pack(tmp_path / "none")


def test_training_and_validation_images_are_kept_apart(pool: Path) -> None:
    training = {job.entry_name for job in pool_jobs(pool)}
    validation = {job.entry_name for job in pool_jobs(pool, nwpu_part="val")}
    assert training == {"nwpu-001", "nwpu-002", "water-a", "bsds-b"}
    assert validation == {"nwpu-003"}


def test_labels_of_the_sets(entries: list[Entry]) -> None:
    by_name = {entry.name: entry for entry in entries}
    tank = by_name["nwpu-001"].labels[0]
    assert tank[40, 50] > 0
    assert tank[20, 90] > 0
    assert tank[40, 50] != tank[20, 90]
    assert abs((tank == tank[40, 50]).sum() - np.pi * 400) < 40
    water = by_name["water-a"]
    assert water.layers[:3] == ("part", "class", "part")
    assert set(water.layers[3:]) <= {"felz-fine", "felz-middle", "felz-coarse"}
    assert water.labels[1][50, 50] == 1
    assert by_name["bsds-b"].layers == ("segment",) * 3


def test_unlabelled_images_get_regions(pool: Path, tmp_path: Path) -> None:
    (job,) = image_jobs(pool / "water" / "images", "aerial", (3, 2, 1))
    pack_job(job, tmp_path, regions=True)
    (entry,) = read_pack(tmp_path)
    assert entry.source == "aerial"
    assert entry.layers == ("felz-fine", "felz-middle", "felz-coarse")
    straight = image_jobs(pool / "water" / "images", "aerial", (1, 2, 3))[0].read()[0]
    assert np.array_equal(entry.image, straight[..., ::-1])


def test_components_leave_specks_out() -> None:
    mask = np.zeros((30, 30), bool)
    mask[2:12, 2:12] = mask[15:25, 15:25] = mask[28, 28] = True
    parts = components(mask)
    assert sorted(np.unique(parts)) == [0, 1, 2]
    assert parts[28, 28] == 0


def test_polygon_mask_covers_the_polygon() -> None:
    mask = polygon_mask([[2.0, 3.0, 8.0, 3.0, 8.0, 6.0, 2.0, 6.0]], (10, 12))
    assert mask[3:6, 2:8].all()
    assert mask.sum() == pytest.approx(18, abs=9)


def test_samples_are_a_function_of_the_seed(entries: list[Entry]) -> None:
    sampler = Sampler(entries, SETTINGS)
    first, again, other = (sampler.draw(rng(seed), 64) for seed in (5, 5, 6))
    assert torch.equal(first.image, again.image)
    assert np.array_equal(first.masks, again.masks)
    assert not torch.equal(first.image, other.image)


def test_samples_have_objects_of_many_sizes(entries: list[Entry]) -> None:
    sampler = Sampler(entries, SETTINGS)
    shares = []
    for seed in range(60):
        sample = sampler.draw(rng(seed), 64)
        assert sample.image.shape == (3, 64, 64)
        assert sample.image.dtype == torch.uint8
        assert sample.valid.shape == (64, 64)
        assert sample.masks.shape == (3, 64, 64)
        assert sample.masks.any(axis=(1, 2)).all()
        shares += sample.masks.mean(axis=(1, 2)).tolist()
    assert min(shares) < 0.05
    assert max(shares) > 0.3
    assert max(shares) <= 0.86


def test_masks_follow_the_image_through_every_turn(tmp_path: Path) -> None:
    """The object is the bright one, whatever the window, the scale and the rotation."""
    image = np.full((120, 120, 3), 40, np.uint8)
    labels = np.zeros((120, 120), np.uint16)
    labels[30:70, 20:80] = labels[70:90, 20:40] = 1
    image[labels > 0] = 200
    write_entry(tmp_path, "a", "set", image, [("instance", labels)])
    plain = SamplingSettings({"set": 1.0}, {}, masks=1, empty=0.0, rotated=0.7)
    sampler = Sampler(read_pack(tmp_path), plain)
    agreements = []
    for seed in range(60):
        sample = sampler.draw(rng(seed), 64)
        gray = sample.image.float().mean(0).numpy()
        inside, outside = sample.masks[0], ~sample.masks[0] & sample.valid.numpy()
        if outside.sum() > 50:
            contrast = gray[inside].mean() - gray[outside].mean()
            middle = (gray[inside].mean() + gray[outside].mean()) / 2
            agreements.append((((gray > middle) == (contrast > 0)) == inside)[sample.valid.numpy()].mean())
    assert len(agreements) > 40
    assert np.median(agreements) > 0.97


def test_a_share_of_the_samples_is_empty(entries: list[Entry]) -> None:
    sampler = Sampler(entries, SamplingSettings({"nwpu": 1.0}, {}, masks=2, empty=1.0))
    assert not sampler.draw(rng(), 64).masks.any()


def test_quarter_share() -> None:
    masks = np.zeros((1, 8, 8), bool)
    masks[0, :4, :2] = True
    assert quarter_share(masks)[0].tolist() == [[0.5, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("seed", range(8))
def test_first_clicks_lie_on_the_object(seed: int) -> None:
    mask = np.zeros((64, 64), bool)
    mask[8:40, 12:28] = True
    mask[30:40, 12:60] = True
    x, y = first_click(mask, quarter_share(mask[None])[0], rng(seed))
    assert mask[int(y), int(x)]


def test_boxes_are_tight_or_near() -> None:
    mask = np.zeros((64, 64), bool)
    mask[10:30, 20:60] = True
    boxes = np.array([noisy_box(mask, rng(seed)) for seed in range(100)])
    tight = (boxes == [20, 10, 60, 30]).all(axis=1)
    assert 30 < tight.sum() < 70
    assert (boxes[:, 2] > boxes[:, 0]).all()
    assert (boxes[:, 3] > boxes[:, 1]).all()
    assert np.abs(boxes - [20, 10, 60, 30]).max() <= 20


def test_batches_prompt_where_nothing_is(entries: list[Entry]) -> None:
    sampler = Sampler(entries, SamplingSettings({"nwpu": 1.0}, {}, masks=2, empty=1.0))
    batch = make_batch([sampler.draw(rng(seed), 64) for seed in range(2)], 1, rng())
    assert batch.targets.shape == (4, 16, 16)
    assert batch.targets.max() == 0
    assert (batch.boxes[:, 2] > batch.boxes[:, 0]).all()


def test_corrections_point_at_the_larger_error() -> None:
    targets = torch.zeros(3, 16, 16)
    targets[:, 4:12, 4:12] = 1.0
    logits = torch.full((3, 16, 16), -5.0)
    logits[1] = 5.0
    logits[2, 4:12, 4:12] = 5.0
    points, labels = correction_clicks(logits, targets, rng())
    assert labels[:, 0].tolist() == [1, 0, -1]
    cells = (points / 4).long()
    assert targets[0, cells[0, 0, 1], cells[0, 0, 0]] == 1
    assert targets[1, cells[1, 0, 1], cells[1, 0, 0]] == 0


def test_radiometry_changes_values_not_places() -> None:
    image = torch.full((3, 64, 64), 60, dtype=torch.uint8)
    image[:, 16:48, 16:48] = torch.tensor([200, 120, 90], dtype=torch.uint8)[:, None, None]
    seen = []
    for seed in range(40):
        changed = radiometric(image, rng(seed)).float()
        assert changed.shape == image.shape
        inside, outside = changed[:, 24:40, 24:40].mean((1, 2)), changed[:, :8].mean((1, 2))
        seen.append(float((inside - outside).abs().max()))
    assert np.median(seen) > 20
    assert np.std(seen) > 5


def test_textureless_images_have_no_edges() -> None:
    for seed in range(10):
        image = textureless(rng(seed), 64).astype(float)
        smooth = image.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3))
        assert np.abs(np.diff(smooth, axis=0)).max() < 40


@pytest.mark.parametrize(
    "maker",
    [partitions.voronoi, partitions.rectangles, partitions.strips, partitions.land_cover, partitions.pixel_fields],
)
def test_partitions_cover_everything_with_more_than_one_cell(maker: object) -> None:
    counts = []
    for seed in range(4):
        cells = maker(rng(seed), 128)  # type: ignore[operator]
        assert cells.shape == (128, 128)
        assert cells.min() >= 0
        counts.append(len(np.unique(cells)))
    assert max(counts) > 2


def test_scenes_are_labelled_and_seeded(entries: list[Entry]) -> None:
    donors = [entry for entry in entries if entry.layers[0] == "instance"]
    composer = Composer(entries, donors)
    image, layers = composer.compose(rng(3))
    again, _ = composer.compose(rng(3))
    assert np.array_equal(image, again)
    assert image.shape == (SIZE, SIZE, 3)
    assert [kind for kind, _ in layers] == ["cell", "object", "class"]
    labels = dict(layers)
    assert not ((labels["cell"] > 0) & (labels["object"] > 0)).any()


def test_stamped_objects_are_labelled_where_they_are_seen() -> None:
    canvas = Canvas(rng(), np.full((64, 64, 3), 50, np.float32), np.ones((64, 64), np.uint16))
    window = canvas.window(np.array([30.0, 20.0]), 10)
    mask = np.hypot(window.u, window.v) <= 8
    assert canvas.free(window, mask)
    number = canvas.stamp(window, mask, np.array([200.0, 10.0, 10.0], np.float32))
    assert (canvas.objects == number).sum() == mask.sum() == (canvas.ground == 0).sum()
    assert canvas.image[30, 20, 0] > 190
    assert not canvas.free(window, mask)


def test_shadows_fall_beside_objects_not_on_them() -> None:
    canvas = Canvas(rng(1), np.full((64, 64, 3), 100, np.float32), np.ones((64, 64), np.uint16))
    mask = np.zeros((64, 64), bool)
    mask[28:36, 28:36] = True
    canvas.shadow(mask, 6.0)
    assert (canvas.image[mask] == 100).all()
    dark = canvas.image[..., 0] < 95
    rows, columns = np.nonzero(dark)
    towards = np.array([rows.mean() - 31.5, columns.mean() - 31.5])
    assert towards @ canvas.sun > 2
