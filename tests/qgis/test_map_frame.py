"""Coordinates between map and raster, levels by scale, lengths on the ground."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsCoordinateReferenceSystem, QgsGeometry, QgsPointXY, QgsProject, QgsRasterLayer
from qgis.gui import QgsMapCanvas
from samtune.models.errors import PromptError
from samtune.plugin.map_frame import MapFrame, auto_level, from_wkb_hex, ground_text, metres_per_unit, polygon
from samtune_test_support import LEFT, TOP, UTM17, raster_info, show_layer, square

UTM = QgsCoordinateReferenceSystem(UTM17)


def test_there_and_back_in_another_crs(frame: MapFrame, canvas: QgsMapCanvas) -> None:
    place = QgsPointXY(LEFT + 30, TOP - 40)
    on_map = frame.to_map(QgsGeometry.fromPointXY(place), UTM)
    assert on_map is not None
    back = frame.to_raster(on_map.asPoint(), UTM)
    assert back.distance(place) < 1e-3
    assert on_map.asPoint().distance(place) > 1e6, "the canvas is in another CRS"


def test_it_follows_the_canvas_to_another_crs(frame: MapFrame, canvas: QgsMapCanvas) -> None:
    canvas.setDestinationCrs(UTM)
    shown = frame.to_map(square(), UTM)
    assert shown is not None
    assert shown.equals(square())


@pytest.mark.parametrize("crs", ["", UTM17])
def test_without_a_crs_coordinates_are_taken_as_they_are(frame: MapFrame, canvas: QgsMapCanvas, crs: str) -> None:
    canvas.setDestinationCrs(QgsCoordinateReferenceSystem(crs))
    place = frame.to_raster(QgsPointXY(12.0, -7.0), QgsCoordinateReferenceSystem())
    assert (place.x(), place.y()) == (12.0, -7.0)


def test_a_place_that_does_not_exist_there_is_a_clear_error(frame: MapFrame, canvas: QgsMapCanvas) -> None:
    canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    with pytest.raises(PromptError, match="Click on the raster"):
        frame.to_raster(QgsPointXY(1e9, 1e9), UTM)


def test_screen_pixel_is_in_raster_units(frame: MapFrame, canvas: QgsMapCanvas, raster_layer: QgsRasterLayer) -> None:
    show_layer(canvas, raster_layer)
    on_map = canvas.center()
    measured = frame.screen_pixel(on_map, UTM)
    stretch = 1 / math.cos(math.radians(29.83))  # of Web Mercator at this latitude
    assert measured == pytest.approx(canvas.mapUnitsPerPixel() / stretch, rel=0.01)


@pytest.mark.parametrize(
    ("screen", "level"),
    [(2.0, 0), (2.8, 0), (2.9, 1), (4.0, 1), (1.0, -1), (0.01, -2), (1e6, 4), (0.0, 0), (math.inf, 0), (math.nan, 0)],
)
def test_level_is_that_of_the_screen_within_the_rasters_range(screen: float, level: int) -> None:
    assert auto_level(screen, raster_info()) == level


def test_level_without_scale_stays_in_range() -> None:
    assert auto_level(0.0, raster_info(max_level=-1)) == -1


def test_polygon_is_densified_and_empty_for_nothing() -> None:
    corners = ((0.0, 0.0), (9.0, 0.0), (9.0, 9.0), (0.0, 9.0))
    made = polygon(corners)
    assert made.area() == pytest.approx(81.0)
    assert made.constGet().nCoordinates() == 37
    assert polygon(()).isNull()


def test_wkb_round_trip() -> None:
    assert from_wkb_hex(bytes(square().asWkb()).hex()).equals(square())


def test_metres_per_unit(project: QgsProject) -> None:
    here = QgsPointXY(0.0, 60.0)
    assert metres_per_unit(UTM, here, project) == 1.0
    assert metres_per_unit(QgsCoordinateReferenceSystem("EPSG:2263"), here, project) == pytest.approx(0.3048, rel=1e-4)
    degrees = metres_per_unit(QgsCoordinateReferenceSystem("EPSG:4326"), here, project)
    assert degrees == pytest.approx(math.sqrt(111_412 * 55_800), rel=0.01)


@pytest.mark.parametrize(
    ("length", "text"), [(0.0, "0 m"), (0.1, "10 cm"), (1.5, "1.5 m"), (640.0, "640 m"), (2500.0, "2.5 km")]
)
def test_ground_text(project: QgsProject, length: float, text: str) -> None:
    assert ground_text(length, UTM, QgsPointXY(LEFT, TOP), project) == text


def test_ground_text_without_crs_is_in_pixels(project: QgsProject) -> None:
    assert ground_text(4.0, QgsCoordinateReferenceSystem(), QgsPointXY(), project) == "4 px"
