"""How long units are on the ground."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS
from samtune.engine.ground import aspect, metres_per_unit

WGS84 = CRS.from_epsg(4326).to_wkt()
UTM = CRS.from_epsg(32633).to_wkt()
LOCAL = CRS.from_wkt(
    'ENGCRS["site",EDATUM["site"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'
)


@pytest.mark.parametrize(("latitude", "ratio"), [(0.0, 1.0), (60.0, 0.5), (-60.0, 0.5), (90.0, 1e-3), (-90.0, 1e-3)])
def test_degrees_of_longitude_shrink_with_the_cosine(latitude: float, ratio: float) -> None:
    assert aspect(WGS84, latitude) == pytest.approx(ratio)


def test_units_other_than_degrees_are_known() -> None:
    grads = CRS.from_epsg(4807).to_wkt()
    assert aspect(grads, 200 / 3) == pytest.approx(0.5), "60 degrees are 66.7 grads"


@pytest.mark.parametrize("crs", ["", UTM, LOCAL.to_wkt(), "no CRS at all"])
def test_elsewhere_axes_are_alike(crs: str) -> None:
    assert aspect(crs, 5_300_000.0) == 1.0


@pytest.mark.parametrize(
    ("crs", "x", "y", "metres"),
    [
        (UTM, 500_000.0, 5_300_000.0, 1 / 0.9996),
        (CRS.from_epsg(2263).to_wkt(), 990_000.0, 200_000.0, 0.3048006),
        (CRS.from_epsg(3857).to_wkt(), 0.0, 8_399_737.89, math.cos(math.radians(60))),
        (WGS84, 10.0, 0.0, math.sqrt(111_319.5 * 110_574.3)),
        ("", 5.0, 5.0, 1.0),
        (LOCAL.to_wkt(), 5.0, 5.0, 1.0),
        (UTM, 1e30, 1e30, 1.0),
    ],
)
def test_the_length_of_a_unit(crs: str, x: float, y: float, metres: float) -> None:
    assert metres_per_unit(crs, x, y) == pytest.approx(metres, rel=0.003)


@given(st.floats(-85, 85), st.floats(-179, 179))
def test_a_square_degree_has_its_area(latitude: float, longitude: float) -> None:
    unit = metres_per_unit(WGS84, longitude, latitude)
    assert unit**2 == pytest.approx(111_319.5 * 110_946.0 * math.cos(math.radians(latitude)), rel=0.012)
