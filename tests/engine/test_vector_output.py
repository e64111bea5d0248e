"""Writing GeoPackages: attributes, areas, appending, and failures that leave everything as it was."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from dataclasses import replace
from pathlib import Path

import pyogrio
import pytest
import shapely
from pyproj import CRS
from samtune.engine import vector_output
from samtune.engine.provenance import FIELDS
from samtune.engine.vector_output import Outline, Target, check_target, ground_area, write_outlines
from samtune.models.errors import OutputError
from shapely.geometry import MultiPolygon, box

UTM = CRS.from_epsg(32633).to_wkt()
SQUARE = MultiPolygon([box(500_000, 5_300_000, 500_100, 5_300_100)])
OUTLINE = Outline(SQUARE, "roof", 0.75, "tiny", "box", "/data/ortho.tif", (4, 3, 2))


def rows(path: Path, layer: str = "segments") -> list[dict[str, object]]:
    facts, _, geometry, fields = pyogrio.raw.read(path, layer=layer)
    return [
        {**dict(zip(facts["fields"], values, strict=True)), "geometry": shapely.from_wkb(wkb)}
        for wkb, *values in zip(geometry, *fields, strict=True)
    ]


def test_features_carry_their_provenance(tmp_path: Path) -> None:
    path = tmp_path / "out.gpkg"
    second = replace(OUTLINE, label="ä €", adapter="lora", reviewed=True, bands=(1,))
    write_outlines(Target(path), [OUTLINE, second], UTM)
    facts = pyogrio.read_info(path, layer="segments")
    assert tuple(facts["fields"]) == tuple(FIELDS)
    assert facts["geometry_type"] == "MultiPolygon"
    assert facts["crs"] == "EPSG:32633"
    one, two = rows(path)
    assert one["geometry"].equals(SQUARE)
    assert (one["class"], one["score"], one["bands"], one["adapter"], one["reviewed"]) == (
        "roof",
        0.75,
        "4,3,2",
        None,
        False,
    )
    assert (two["class"], two["bands"], two["adapter"], two["reviewed"]) == ("ä €", "1", "lora", True)
    assert list(tmp_path.iterdir()) == [path]


def test_areas_are_on_the_ellipsoid() -> None:
    assert ground_area(SQUARE, UTM) == pytest.approx(10_000 / 0.9996**2, rel=1e-6), "the central meridian's scale"
    mercator = MultiPolygon([box(0, 8_399_737.889818, 100, 8_399_837.889818)])
    assert ground_area(mercator, CRS.from_epsg(3857).to_wkt()) == pytest.approx(
        10_000 * math.cos(math.radians(60)) ** 2, rel=0.01
    )
    degrees = MultiPolygon([box(10.0, 0.0, 10.001, 0.001)])
    assert ground_area(degrees, CRS.from_epsg(4326).to_wkt()) == pytest.approx(111.32 * 110.57, rel=0.001)
    feet = MultiPolygon([box(1_500_000, 500_000, 1_500_100, 500_100)])
    assert ground_area(feet, CRS.from_epsg(2229).to_wkt()) == pytest.approx(10_000 * 0.3048**2, rel=0.01)


def test_holes_and_directions_do_not_matter_for_the_area() -> None:
    holed = MultiPolygon([box(500_000, 5_300_000, 500_100, 5_300_100) - box(500_010, 5_300_010, 500_020, 5_300_020)])
    assert ground_area(holed, UTM) == pytest.approx(9_900 / 0.9996**2, rel=1e-6)
    assert ground_area(shapely.reverse(holed), UTM) == pytest.approx(9_900 / 0.9996**2, rel=1e-6)


@pytest.mark.parametrize("crs", ["", 'LOCAL_CS["site",UNIT["metre",1]]'])
def test_an_area_nowhere_on_earth_is_unknown(crs: str, tmp_path: Path) -> None:
    assert math.isnan(ground_area(SQUARE, crs))
    write_outlines(Target(tmp_path / "out.gpkg"), [OUTLINE], crs)
    assert math.isnan(rows(tmp_path / "out.gpkg")[0]["area"])


def test_coordinates_off_the_globe_have_no_area() -> None:
    assert math.isnan(ground_area(MultiPolygon([box(1e30, 1e30, 2e30, 2e30)]), UTM))


def test_an_existing_file_is_safe_without_consent(tmp_path: Path) -> None:
    path = tmp_path / "out.gpkg"
    path.write_text("precious")
    with pytest.raises(OutputError, match="--overwrite"):
        write_outlines(Target(path), [OUTLINE], UTM)
    assert path.read_text() == "precious"
    write_outlines(Target(path, overwrite=True), [OUTLINE], UTM)
    assert len(rows(path)) == 1


def test_appending_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "out.gpkg"
    write_outlines(Target(path, append=True), [OUTLINE], UTM)
    write_outlines(Target(path, append=True), [replace(OUTLINE, label="two")], UTM)
    write_outlines(Target(path, layer="other", append=True), [OUTLINE], CRS.from_epsg(4326).to_wkt())
    assert [row["class"] for row in rows(path)] == ["roof", "two"]
    assert len(rows(path, "other")) == 1


def test_appending_to_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.gpkg"
    write_outlines(Target(path), [OUTLINE], UTM)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="another CRS"):
        write_outlines(Target(path, append=True), [OUTLINE], CRS.from_epsg(4326).to_wkt())
    with pytest.raises(OutputError, match="another CRS"):
        write_outlines(Target(path, append=True), [OUTLINE], "")
    assert path.read_bytes() == before
    import numpy as np

    pyogrio.raw.write(
        str(tmp_path / "mine.gpkg"),
        np.array([SQUARE.wkb], object),
        [np.array([1])],
        ["n"],
        layer="segments",
        driver="GPKG",
        geometry_type="MultiPolygon",
        crs="EPSG:32633",
    )
    with pytest.raises(OutputError, match="other attributes"):
        write_outlines(Target(tmp_path / "mine.gpkg", append=True), [OUTLINE], UTM)


def test_appending_to_a_file_that_is_no_geopackage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.gpkg"
    path.write_text("hello")
    with pytest.raises(OutputError, match="cannot be written"):
        write_outlines(Target(path, append=True), [OUTLINE], UTM)
    assert path.read_text() == "hello"


def test_a_failure_midway_leaves_the_old_file_and_no_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.gpkg"
    write_outlines(Target(path), [OUTLINE], UTM)
    before = path.read_bytes()
    real = pyogrio.raw.write

    def failing(*arguments: object, **more: object) -> None:
        real(*arguments, **more)
        raise OSError("No space left on device")

    monkeypatch.setattr(vector_output.pyogrio.raw, "write", failing)
    for target in (Target(path, overwrite=True), Target(path, append=True), Target(tmp_path / "new.gpkg")):
        with pytest.raises(OutputError, match="free space") as caught:
            write_outlines(target, [OUTLINE], UTM)
        assert "No space" in caught.value.details
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("name", "words"), [("out.geojson", r"\.gpkg"), ("no/such/out.gpkg", "no folder")])
def test_targets_that_cannot_be_are_refused(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(OutputError, match=words):
        check_target(Target(tmp_path / name))


@pytest.mark.parametrize("target", [{"append": True}, {"overwrite": True}])
def test_a_file_open_elsewhere_is_left_alone(tmp_path: Path, target: dict[str, bool]) -> None:
    """QGIS keeps a GeoPackage in WAL mode while it shows it: what is saved there lies in the -wal file first."""
    path = tmp_path / "out.gpkg"
    write_outlines(Target(path), [OUTLINE], UTM)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE saved_elsewhere (id INTEGER)")
        with pytest.raises(OutputError, match="open in another program"):
            check_target(Target(path, **target))
        with pytest.raises(OutputError, match="open in another program"):
            write_outlines(Target(path, **target), [OUTLINE], UTM)
        assert other.execute("SELECT count(*) FROM saved_elsewhere").fetchone() == (0,)
        assert other.execute("SELECT count(*) FROM segments").fetchone() == (1,)
    assert not path.with_name("out.gpkg-wal").exists()
    write_outlines(Target(path, **target), [OUTLINE], UTM)
    assert len(rows(path)) == (2 if "append" in target else 1)


def test_a_file_opened_while_we_write_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.gpkg"
    write_outlines(Target(path), [OUTLINE], UTM)
    before = path.read_bytes()

    def write_slowly(*_arguments: object, **_options: object) -> None:
        path.with_name("out.gpkg-wal").touch()

    monkeypatch.setattr(vector_output, "write_layer", write_slowly)
    with pytest.raises(OutputError, match="open in another program"):
        write_outlines(Target(path, append=True), [OUTLINE], UTM)
    assert path.read_bytes() == before


def test_a_link_is_followed_to_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "real.gpkg"
    write_outlines(Target(path), [OUTLINE], UTM)
    link = tmp_path / "link.gpkg"
    link.symlink_to(path)
    path.with_name("real.gpkg-wal").touch()
    with pytest.raises(OutputError, match="open in another program"):
        check_target(Target(link, append=True))
