"""Labels as they come: other formats and CRSs, broken and odd geometries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import rasterio.crs
import shapely
from pyproj import Transformer
from samtune.engine.tuning.settings import Labels
from samtune.engine.tuning.vectors import read_extent, read_shapes
from samtune.models.peft.contract import TuningError

from .ground import CRS, LEFT, TOP, write_shapes

WKT = rasterio.crs.CRS.from_user_input(CRS).to_wkt()


def box(x: float, y: float, side: float = 10.0) -> shapely.Polygon:
    return shapely.box(LEFT + x, TOP - y - side, LEFT + x + side, TOP - y)


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.shp", "a.fgb"])
def test_any_format_is_read(tmp_path: Path, name: str) -> None:
    path = write_shapes(tmp_path / name, [box(0, 0), box(20, 0)], ["roof", "pool"])
    found = read_shapes(Labels(path, class_field="kind"), WKT)
    assert found.classes == ("pool", "roof")
    assert sorted(item.label for item in found.items) == ["pool", "roof"]
    assert sum(item.geometry.area for item in found.items) == pytest.approx(200, rel=1e-3)


def test_another_crs_is_reprojected(tmp_path: Path) -> None:
    mover = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    degrees = shapely.transform(box(0, 0), lambda xy: np.column_stack(mover.transform(xy[:, 0], xy[:, 1])))
    path = write_shapes(tmp_path / "a.gpkg", [degrees], crs="EPSG:4326")
    (found,) = read_shapes(Labels(path), WKT).items
    assert found.geometry.bounds == pytest.approx(box(0, 0).bounds, abs=1e-4)


def test_a_raster_without_crs_takes_labels_as_they_are(tmp_path: Path) -> None:
    path = write_shapes(tmp_path / "a.gpkg", [box(0, 0)])
    assert read_shapes(Labels(path), "").items[0].geometry.equals(box(0, 0))


def test_invalid_polygons_are_repaired_and_listed(tmp_path: Path) -> None:
    bow = shapely.Polygon([(LEFT, TOP), (LEFT + 10, TOP - 10), (LEFT + 10, TOP), (LEFT, TOP - 10)])
    path = write_shapes(tmp_path / "a.gpkg", [box(50, 0), bow])
    found = read_shapes(Labels(path), WKT)
    assert all(item.geometry.is_valid for item in found.items)
    assert [item.row for item in found.items] == [1, 2, 2]
    assert any("repaired (feature 2)" in note for note in found.notes)


def test_parts_are_objects_of_their_own(tmp_path: Path) -> None:
    path = write_shapes(tmp_path / "a.gpkg", [shapely.MultiPolygon([box(0, 0), box(20, 0)])])
    found = read_shapes(Labels(path), WKT).items
    assert [(item.row, item.part) for item in found] == [(1, 0), (1, 1)]


def test_objects_without_a_class_share_one_name(tmp_path: Path) -> None:
    shapes = [box(20 * place, 0) for place in range(4)]
    path = write_shapes(tmp_path / "a.gpkg", shapes, ["", None, "  ", "roof"])
    assert read_shapes(Labels(path, class_field="kind"), WKT).classes == ("roof", "unnamed")


def test_overlapping_polygons_stay_two(tmp_path: Path) -> None:
    path = write_shapes(tmp_path / "a.gpkg", [box(0, 0), box(5, 5)])
    assert len(read_shapes(Labels(path), WKT).items) == 2


def test_points_and_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write_shapes(tmp_path / "a.gpkg", [shapely.Point(LEFT, TOP), box(0, 0)])
    found = read_shapes(Labels(path), WKT)
    assert len(found.items) == 1
    assert any("1 features are no polygons" in note for note in found.notes)
    only = write_shapes(tmp_path / "b.gpkg", [shapely.Point(LEFT, TOP)])
    with pytest.raises(TuningError, match="no polygon"):
        read_shapes(Labels(only), WKT)


def test_heights_are_dropped(tmp_path: Path) -> None:
    path = write_shapes(tmp_path / "a.gpkg", [shapely.force_3d(box(0, 0), 7.0)])
    assert not read_shapes(Labels(path), WKT).items[0].geometry.has_z


def test_a_filter_and_a_layer_are_obeyed(tmp_path: Path) -> None:
    path = write_shapes(tmp_path / "a.gpkg", [box(0, 0), box(20, 0)], ["roof", "pool"])
    found = read_shapes(Labels(path, where="kind = 'pool'", class_name="water"), WKT)
    assert [item.label for item in found.items] == ["water"]
    assert read_shapes(Labels(path, layer="a"), WKT).classes == ("a",)
    with pytest.raises(TuningError, match="cannot be read"):
        read_shapes(Labels(path, layer="b"), WKT)
    with pytest.raises(TuningError, match="cannot be read"):
        read_shapes(Labels(path, where="nonsense ="), WKT)


def test_a_missing_field_is_named_with_those_there_are(tmp_path: Path) -> None:
    path = write_shapes(tmp_path / "a.gpkg", [box(0, 0)])
    with pytest.raises(TuningError, match="no field 'class'; its fields are: kind"):
        read_shapes(Labels(path, class_field="class"), WKT)


def test_a_missing_file_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="Check file"):
        read_shapes(Labels(tmp_path / "none.gpkg"), WKT)


def test_classes_of_numbers_and_nothing_have_names(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    geometry = np.array([shapely.to_wkb(box(20 * i, 0)) for i in range(3)], object)
    pyogrio.raw.write(path, geometry, [np.array([1.0, 2.0, np.nan])], ["kind"], geometry_type="Polygon", crs=CRS)
    assert read_shapes(Labels(path, class_field="kind"), WKT).classes == ("1", "2", "unnamed")


def test_an_extent_is_one_geometry(tmp_path: Path) -> None:
    path = write_shapes(tmp_path / "a.gpkg", [box(0, 0), box(5, 5)])
    assert read_extent(path, WKT).area == pytest.approx(175)
