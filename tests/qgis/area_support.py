"""What the tests of whole areas share: layers with objects, answers of the engine, a session with an adapter."""

from __future__ import annotations

from pathlib import Path

from qgis.core import QgsFeature, QgsGeometry, QgsVectorLayer
from samtune.engine.area_messages import FindParams, FindResult, FoundObject, Suggestion
from samtune.plugin.adapter_files import AdapterSummary
from samtune_test_support import LEFT, TOP, square

FIELDS = "field=class:string(20)&field=score:double&field=adapter:string&field=prompt:string&field=reviewed:bool"


def summary(head: str = "instances", **changes: object) -> AdapterSummary:
    values: dict[str, object] = {
        "path": Path("/adapters/crowns.safetensors"),
        "stamp": (1, 2048),
        "name": "crowns",
        "base": "tiny",
        "head": head,
    }
    return AdapterSummary(**(values | changes))  # type: ignore[arg-type]


def found_objects(count: int, columns: int = 15) -> tuple[FoundObject, ...]:
    """Objects of 4 m beside one another, inside the test raster."""
    made = []
    for number in range(count):
        row, column = divmod(number, columns)
        outline = square(LEFT + 10 + 6 * column, TOP - 10 - 6 * (row % 12), 4.0)
        made.append(FoundObject(bytes(outline.asWkb()).hex(), "crown", 0.9 - 0.5 * number / max(count, 1), 16.0))
    return tuple(made)


def find_result(count: int, **changes: object) -> FindResult:
    values: dict[str, object] = {
        "objects": found_objects(count),
        "adapter": "crowns",
        "level": 0,
        "crops": 4,
        "skipped": 0,
        "seconds": 1.0,
    }
    return FindResult(**(values | changes))  # type: ignore[arg-type]


def layer_of(scores: list[float | None], fields: str = FIELDS, crs: str = "EPSG:32617") -> QgsVectorLayer:
    """A memory layer of squares, not reviewed, with these scores."""
    layer = QgsVectorLayer(f"MultiPolygon?crs={crs}&{fields}", "objects", "memory")
    features = []
    for number, score in enumerate(scores):
        feature = QgsFeature(layer.fields())
        feature.setGeometry(square(LEFT + 10 + 12 * number, TOP - 20, 8.0))
        for name, value in (("class", "crown"), ("score", score), ("reviewed", False)):
            if layer.fields().lookupField(name) >= 0:
                feature.setAttribute(name, value)
        features.append(feature)
    layer.dataProvider().addFeatures(features)
    return layer


def geometry_of(layer: QgsVectorLayer, feature_id: int) -> QgsGeometry:
    return layer.getFeature(feature_id).geometry()


def find_params(call: object) -> FindParams:
    params = call.params  # type: ignore[attr-defined]
    assert isinstance(params, FindParams)
    return params


def places(count: int = 3) -> tuple[Suggestion, ...]:
    made = []
    for number in range(count):
        x, y = LEFT + 20 + 30 * number, TOP - 30.0
        wkb = bytes(square(x, y, 10.0).asWkb()).hex()
        made.append(Suggestion(x + 5, y - 5, wkb, 0.9, 0.4, 0.5, "unlike the rest"))
    return tuple(made)
