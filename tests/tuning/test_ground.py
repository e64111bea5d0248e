"""From labels to crops: objects, blocks of ground, what is known, bands and a second raster."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from rasterio.transform import Affine
from rasterio.warp import transform_geom
from samtune.engine.crops import Crop
from samtune.engine.tune_messages import Parting
from samtune.engine.tuning.dataset import Dataset, load_dataset
from samtune.engine.tuning.reading import GroundReader
from samtune.engine.tuning.samples import Samples
from samtune.engine.tuning.settings import Bands, Index, Labels, Task, TuneSettings
from samtune.engine.tuning.split import Split, folds, parting_of, split
from samtune.models.heads.contract import IGNORE
from samtune.models.peft.contract import TuningError
from shapely.geometry import mapping, shape

from .ground import LEFT, PIXEL, TOP, Ground, make_ground, write_raster, write_shapes

SIZE = 512


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return make_ground(tmp_path_factory.mktemp("ground"), size=1024)


@pytest.fixture
def settings(ground: Ground, tmp_path: Path) -> TuneSettings:
    return ground.settings(tmp_path / "a.safetensors", hold_out=0.3)


@pytest.fixture
def reader(settings: TuneSettings) -> Iterator[GroundReader]:
    opened = GroundReader(settings)
    yield opened
    opened.close()


def never() -> None:
    """Nobody stops a test's reads."""


def box(x: float, y: float, wide: float, high: float) -> shapely.Polygon:
    """Return a rectangle given in pixels."""
    return shapely.box(LEFT + x * PIXEL, TOP - (y + high) * PIXEL, LEFT + (x + wide) * PIXEL, TOP - y * PIXEL)


def dataset_of(ground: Ground, folder: Path, shapes: list[object], **changes: object) -> tuple[Dataset, GroundReader]:
    labels = write_shapes(folder / "own.gpkg", shapes)
    settings = ground.settings(folder / "a.safetensors", labels=Labels(labels), **changes)
    reader = GroundReader(settings)
    return load_dataset(settings, reader, SIZE), reader


def test_objects_are_in_pixels(ground: Ground, settings: TuneSettings, reader: GroundReader) -> None:
    found = load_dataset(settings, reader, SIZE)
    assert len(found.objects) == len(ground.circles)
    assert found.classes == ("disc", "ring")
    for item, (x, y, radius) in zip(found.objects, ground.circles, strict=True):
        assert item.anchor == pytest.approx((x, y), abs=0.1)
        assert item.extent == pytest.approx(2 * radius, abs=0.1)


def test_the_level_follows_the_objects_unless_fixed(
    ground: Ground, settings: TuneSettings, reader: GroundReader
) -> None:
    free = load_dataset(replace(settings, level=None), reader, SIZE)
    for number, item in enumerate(free.objects):
        _, crop = free.place(number)
        assert item.extent <= 0.4 * crop.side
        assert item.extent > 0.2 * crop.side or crop.level == -2
    fixed = load_dataset(replace(settings, level=1), reader, SIZE)
    assert {fixed.place(number)[1].level for number in range(len(fixed.objects))} == {1}
    assert fixed.common_level() == 1


def test_objects_beyond_the_raster_are_left_out(ground: Ground, tmp_path: Path) -> None:
    outside, half, sliver = box(2000, 0, 50, 50), box(990, 0, 68, 40), box(1014, 100, 68, 40)
    found, reader = dataset_of(ground, tmp_path, [outside, half, sliver])
    reader.close()
    assert [item.row for item in found.objects] == [2]
    assert found.objects[0].geometry.area == pytest.approx(34 * 40)
    with pytest.raises(TuningError, match="None of the labelled polygons"):
        dataset_of(ground, tmp_path, [outside])


def parted(ground: Ground, settings: TuneSettings, reader: GroundReader, seed: int = 0) -> tuple[Dataset, Split]:
    found = load_dataset(settings, reader, SIZE)
    return found, split(found, settings.hold_out, seed)


@pytest.mark.parametrize("seed", range(4))
def test_blocks_part_the_objects(ground: Ground, settings: TuneSettings, reader: GroundReader, seed: int) -> None:
    found, sides = parted(ground, settings, reader, seed)
    assert set(sides.train) | set(sides.held_out) == set(range(len(found.objects)))
    assert not set(sides.train) & set(sides.held_out)
    assert 3 <= len(sides.held_out) <= 7
    assert {found.objects[i].label for i in sides.held_out} == {"disc", "ring"}
    anchors = shapely.points(found.anchors())
    for block in sides.blocks:
        assert all(block.geometry.intersects(anchors[i]) for i in block.objects)
    assert split(found, settings.hold_out, seed) == sides


def test_too_few_objects_are_all_learnt_from(ground: Ground, tmp_path: Path) -> None:
    found, reader = dataset_of(ground, tmp_path, [box(100 * i, 10, 30, 30) for i in range(2)])
    reader.close()
    sides = split(found, 0.2, 0)
    assert (sides.train, sides.held_out) == ((0, 1), ())
    assert "only 2 objects" in sides.notes[0]
    assert sides.in_words() == "no hold-out"
    none = split(found, 0.0, 0)
    assert "Nothing is held out" in none.notes[0]


def test_objects_in_one_place_cannot_be_parted(ground: Ground, tmp_path: Path) -> None:
    shapes = [box(100, 100, 60 + i, 60) for i in range(6)]
    found, reader = dataset_of(ground, tmp_path, shapes, level=2)
    reader.close()
    sides = split(found, 0.2, 0)
    assert not sides.held_out
    assert "in one place" in sides.notes[0]


def test_every_object_is_held_out_once_and_its_block_taught_to_nobody(
    ground: Ground, settings: TuneSettings, reader: GroundReader
) -> None:
    found = load_dataset(settings, reader, SIZE)
    parts = folds(found, 0)
    assert 2 <= len(parts) <= 5
    assert sorted(number for sides in parts for number in sides.held_out) == list(range(len(found.objects)))
    for sides in parts:
        assert sides.train
        assert not set(sides.train) & set(sides.held_out)
        middles = shapely.points(found.anchors())
        assert all(sides.forbidden.covers(middles[number]) for number in sides.held_out)
        assert not any(sides.forbidden.contains(middles[number]) for number in sides.train)
        taught = Samples(found, sides, reader, held_out=False, maps=False)
        shown = {number for item in taught.items for number in item.shown}
        assert not shown & set(sides.held_out)


def test_how_objects_are_parted_depends_on_how_many_there_are(ground: Ground, tmp_path: Path) -> None:
    def with_objects(count: int) -> Dataset:
        shapes = [box(20 + 110 * (i % 4), 20 + 20 * (i // 4), 12, 12) for i in range(count)]
        found, reader = dataset_of(ground, tmp_path, shapes, level=0)
        reader.close()
        return found

    assert parting_of(with_objects(2), 0.2) is Parting.NONE
    assert parting_of(with_objects(3), 0.2) is Parting.EACH_BLOCK
    few = with_objects(12)
    sides = split(few, 0.2, 0)
    assert (sides.parting, sides.held_out, len(sides.train)) == (Parting.EACH_BLOCK, (), 12)
    assert "too few objects" in sides.notes[0]
    assert "each held out once" in sides.in_words()
    assert parting_of(with_objects(20), 0.2) is Parting.BLOCKS
    assert parting_of(few, 0.4) is Parting.BLOCKS
    assert parting_of(few, 0.0) is Parting.NONE


def test_one_feature_on_two_rasters_stays_on_one_side(ground: Ground, settings: TuneSettings) -> None:
    both = replace(settings, rasters=(ground.raster, ground.raster))
    opened = GroundReader(both)
    found, sides = parted(ground, both, opened)
    opened.close()
    assert len(found.objects) == 2 * len(ground.circles)
    rows = [{found.objects[i].row for i in side} for side in (sides.train, sides.held_out)]
    assert not rows[0] & rows[1]


@pytest.mark.parametrize(
    ("count", "share", "held"), [(18, 0.2, 6), (30, 0.2, 10), (45, 0.2, 10), (60, 0.2, 12), (60, 0.1, 10)]
)
def test_enough_objects_are_held_out_to_prove_something(
    ground: Ground, tmp_path: Path, count: int, share: float, held: int
) -> None:
    shapes = [box(20 + 110 * (i % 9), 20 + 110 * (i // 9), 12, 12) for i in range(count)]
    found, reader = dataset_of(ground, tmp_path, shapes, level=-1)
    reader.close()
    sides = split(found, share, 0)
    assert abs(len(sides.held_out) - held) <= 1
    assert len(sides.train) == count - len(sides.held_out)


def test_parts_of_a_dissolved_layer_are_parted_like_other_objects(ground: Ground, tmp_path: Path) -> None:
    rows = [[box(60 * i + 10, 100 * k + 10, 40, 40) for i in range(8)] for k in range(5)]
    for shapes in ([shapely.MultiPolygon(row) for row in rows], [shapely.MultiPolygon([*itertools.chain(*rows)])]):
        found, reader = dataset_of(ground, tmp_path, shapes, level=-1)
        reader.close()
        sides = split(found, 0.2, 0)
        assert len(sides.train) + len(sides.held_out) == 40
        assert 4 <= len(sides.held_out) <= 12


@pytest.mark.parametrize("maps", [False, True])
def test_nothing_held_out_is_learnt_from(
    ground: Ground, settings: TuneSettings, reader: GroundReader, maps: bool
) -> None:
    found, sides = parted(ground, settings, reader)
    train = Samples(found, sides, reader, held_out=False, maps=maps)
    held = set(sides.held_out)
    forbidden = found.to_raster(sides.forbidden, 0)
    assert train.items
    for item in train.items:
        assert not held & {*item.targets, *item.shown}
        labels = train.labels(item, never)
        crop = item.crop
        known = shapely.points(
            np.argwhere(labels.known)[::97, ::-1] * crop.scale + [crop.col, crop.row] + crop.scale / 2
        )
        own = shapely.union_all([found.objects[i].geometry for i in item.shown]).buffer(1)
        others = shapely.union_all([found.objects[i].geometry for i in held]).buffer(-1)
        strangers = shapely.union_all([forbidden.buffer(-1), others])
        assert not (shapely.intersects(strangers, known) & ~shapely.intersects(own, known)).any()


def test_every_object_is_a_target_somewhere(ground: Ground, settings: TuneSettings, reader: GroundReader) -> None:
    found, sides = parted(ground, settings, reader)
    for held_out, members in ((False, sides.train), (True, sides.held_out)):
        samples = Samples(found, sides, reader, held_out=held_out, maps=False)
        assert {number for item in samples.items for number in item.targets} == set(members)


def test_only_surroundings_of_objects_are_known(ground: Ground, tmp_path: Path) -> None:
    found, reader = dataset_of(ground, tmp_path, [box(100, 200, 40, 20)])
    samples = Samples(found, split(found, 0.0, 0), reader, held_out=False, maps=False)
    labels = samples.labels(samples.items[0], never)
    crop = samples.items[0].crop
    expected = np.zeros((SIZE, SIZE), bool)
    top, left = 200 - crop.row, 100 - crop.col
    expected[top - 10 : top + 30, left - 20 : left + 60] = True
    assert np.array_equal(labels.known, expected)
    assert labels.masks[0].sum() == 40 * 20
    assert (labels.classes[expected] >= 0).all()
    assert (labels.classes[~expected] == IGNORE).all()
    assert (labels.classes == 1).sum() == 40 * 20
    reader.close()


@pytest.mark.parametrize(("kinds", "background"), [(["forest", "forest"], True), (["forest", "field"], False)])
def test_beside_samples_of_several_classes_a_map_knows_nothing(
    ground: Ground, tmp_path: Path, kinds: list[str], background: bool
) -> None:
    shapes = [box(100, 200, 40, 20), box(300, 200, 2, 3)]
    labels = Labels(write_shapes(tmp_path / "own.gpkg", shapes, kinds), class_field="kind")
    reader = GroundReader(ground.settings(tmp_path / "a.safetensors", labels=labels, task=Task.SEMANTIC, level=0))
    found = load_dataset(ground.settings(tmp_path / "a.safetensors", labels=labels, task=Task.SEMANTIC), reader, SIZE)
    assert [item.geometry.area for item in found.objects] == pytest.approx([800, 6]), "a few pixels show a class too"
    samples = Samples(found, split(found, 0.0, 0), reader, held_out=False, maps=True)
    known = {int(kind) for item in samples.items for kind in np.unique(samples.labels(item, never).classes)}
    reader.close()
    assert (0 in known) is background
    assert set(range(1, 1 + len(set(kinds)))) <= known


def test_polygons_that_are_no_objects_are_no_background_of_maps(ground: Ground, tmp_path: Path) -> None:
    extent = write_shapes(tmp_path / "extent.gpkg", [box(50, 50, 300, 300)])
    shapes = [box(100, 200, 40, 20), box(200, 200, 3, 3), box(-4000, 300, 4100, 30)]
    found, reader = dataset_of(ground, tmp_path, shapes, extent=extent, level=0)
    unknown = []
    for maps in (False, True):
        samples = Samples(found, split(found, 0.0, 0), reader, held_out=False, maps=maps)
        item = next(item for item in samples.items if item.crop == Crop(0, SIZE, 0, 0))
        labels = samples.labels(item, never)
        assert labels.masks.shape[0] == 1
        unknown.append(300 * 300 - int(labels.known.sum()))
    assert unknown == [0, 9 + 50 * 30]
    reader.close()


@pytest.mark.parametrize("maps", [False, True])
def test_no_ground_is_known_on_both_sides(ground: Ground, tmp_path: Path, maps: bool) -> None:
    extent = write_shapes(tmp_path / "extent.gpkg", [box(0, 0, 1024, 1024)])
    settings = ground.settings(tmp_path / "a.safetensors", extent=extent, hold_out=0.3)
    opened = GroundReader(settings)
    found, sides = parted(ground, settings, opened)
    everywhere = []
    for held_out in (False, True):
        known = np.zeros((1024, 1024), bool)
        samples = Samples(found, sides, opened, held_out=held_out, maps=maps)
        for item in samples.items:
            crop, seen = item.crop, samples.labels(item, never).known
            known[crop.row : crop.row + SIZE, crop.col : crop.col + SIZE] |= seen
        everywhere.append(known)
    opened.close()
    assert all(known.any() for known in everywhere)
    assert not (everywhere[0] & everywhere[1]).any()


def test_an_extent_says_what_is_known(ground: Ground, tmp_path: Path) -> None:
    extent = write_shapes(tmp_path / "extent.gpkg", [box(50, 150, 300, 100)])
    found, reader = dataset_of(ground, tmp_path, [box(100, 200, 40, 20), box(340, 200, 40, 40)], extent=extent)
    samples = Samples(found, split(found, 0.0, 0), reader, held_out=False, maps=False)
    labels = samples.labels(samples.items[0], never)
    # Of the second object a part lies beyond the extent; it was drawn, so it is known all the same.
    assert labels.known.sum() == 300 * 100 + 30 * 40
    reader.close()


def test_small_shares_of_objects_are_no_targets_but_partial(ground: Ground, tmp_path: Path) -> None:
    shapes = [box(100, 100, 100, 100), box(460, 100, 200, 40)]
    found, reader = dataset_of(ground, tmp_path, shapes, level=0)
    samples = Samples(found, split(found, 0.0, 0), reader, held_out=False, maps=False)
    item = next(item for item in samples.items if item.crop == Crop(0, SIZE, 0, 0))
    assert (item.targets, item.shown) == ((0,), (0, 1))
    labels = samples.labels(item, never)
    assert labels.partial.sum() == 52 * 40
    assert labels.masks.shape == (1, SIZE, SIZE)
    reader.close()


def test_ways_to_lay_agree_between_masks_and_known(ground: Ground, tmp_path: Path) -> None:
    found, reader = dataset_of(ground, tmp_path, [box(100, 200, 40, 20)])
    samples = Samples(found, split(found, 0.0, 0), reader, held_out=False, maps=False)
    labels = samples.labels(samples.items[0], never)
    seen = set()
    for way in range(8):
        laid = labels.laid(way)
        assert not (laid.masks[0] & ~laid.known).any()
        assert np.array_equal(laid.classes == 1, laid.masks[0])
        seen.add(laid.masks.tobytes())
    assert len(seen) == 8
    reader.close()


def test_bands_and_indices_are_standardised(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal([[[1000]], [[200]], [[300]], [[4000]]], 30, (4, 600, 600)).clip(1).astype(np.uint16)
    raster = write_raster(tmp_path / "many.tif", values, nodata=0)
    labels = write_shapes(tmp_path / "l.gpkg", [box(100, 100, 50, 50)])
    settings = TuneSettings(
        (raster,), Labels(labels), tmp_path / "o", make_methods(), bands=Bands.ALL, indices=(Index("ndvi", 4, 1),)
    )
    reader = GroundReader(settings)
    given = reader.read(0, Crop(0, 512, 0, 0), never)
    assert given.bands is not None
    assert given.bands.shape == (5, 512, 512)
    assert np.abs(given.bands.mean(axis=(1, 2))).max() < 0.1
    assert np.abs(given.bands.std(axis=(1, 2)) - 1).max() < 0.2
    records = reader.record.bands
    assert [record.number for record in records] == [1, 2, 3, 4, 0]
    assert (records[4].name, records[4].formula) == ("ndvi", "(b4 - b1) / (b4 + b1)")
    assert records[4].mean == pytest.approx(0.6, abs=0.01)
    edge = reader.read(0, Crop(0, 512, 88, 256), never)
    assert edge.bands is not None
    assert np.isnan(edge.bands[:, 344:]).all()
    assert np.isfinite(edge.bands[:, :344]).all()
    reader.close()


def make_methods() -> tuple[object, ...]:
    from samtune.models.peft.selective import DecoderConfig

    return (DecoderConfig(),)


def test_bands_that_are_not_there_are_refused(ground: Ground, settings: TuneSettings) -> None:
    with pytest.raises(TuningError, match="no band 7"):
        GroundReader(replace(settings, bands=(7,)))
    with pytest.raises(TuningError, match="no band 9"):
        GroundReader(replace(settings, indices=(Index("x", 9, 1),)))


@pytest.mark.parametrize("level", [-1, 0, 1])
def test_the_second_raster_lies_on_the_first_ones_grid(tmp_path: Path, level: int) -> None:
    height = np.zeros((1, 300, 300), np.float32)
    height[0, 50:100, 100:200] = 9.0
    coarse = write_raster(tmp_path / "height.tif", height, pixel=2 * PIXEL)
    picture = write_raster(tmp_path / "rgb.tif", np.full((3, 600, 600), 90, np.uint8))
    labels = write_shapes(tmp_path / "l.gpkg", [box(100, 100, 50, 50)])
    reader = GroundReader(TuneSettings((picture,), Labels(labels), tmp_path / "o", make_methods(), second=coarse))
    scale = 2.0**level
    given = reader.read(0, Crop(level, 512, 0, 0), never)
    reader.close()
    assert given.second is not None
    assert given.second_valid is not None
    high = given.second[..., 0] > 128
    # In pixels of the picture the tower spans rows 100 to 200 and columns 200 to 400.
    inside = np.zeros((512, 512), bool)
    rows, columns = (np.arange(512) + 0.5) * scale, (np.arange(512) + 0.5) * scale
    inside[np.ix_((rows > 100) & (rows < 200), (columns > 200) & (columns < 400))] = True
    assert (high == inside).mean() > 0.995
    assert reader.record.second is not None
    assert reader.record.second.name == "height"


def test_a_second_raster_of_another_crs_is_warped(tmp_path: Path) -> None:
    tower = box(200, 100, 200, 100)
    degrees = shape(transform_geom("EPSG:32633", "EPSG:4326", mapping(tower)))
    left, bottom, right, top = degrees.buffer(0.002).bounds
    import rasterio
    from rasterio.features import rasterize

    grid = Affine((right - left) / 900, 0, left, 0, -(top - bottom) / 900, top)
    burnt = rasterize([(degrees, 1.0)], (900, 900), transform=grid, dtype="float32")
    path = tmp_path / "height.tif"
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "crs": "EPSG:4326", "transform": grid}
    with rasterio.open(path, "w", width=900, height=900, **profile) as dataset:
        dataset.write(burnt, 1)
    picture = write_raster(tmp_path / "rgb.tif", np.full((3, 600, 600), 90, np.uint8))
    labels = write_shapes(tmp_path / "l.gpkg", [tower])
    reader = GroundReader(TuneSettings((picture,), Labels(labels), tmp_path / "o", make_methods(), second=path))
    given = reader.read(0, Crop(0, 512, 0, 0), never)
    reader.close()
    assert given.second is not None
    high = given.second[..., 0] > 128
    expected = np.zeros((512, 512), bool)
    expected[100:200, 200:400] = True
    assert (high == expected).mean() > 0.99
