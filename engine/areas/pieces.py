"""What one crop shows of an object."""

from __future__ import annotations

from dataclasses import dataclass

from shapely.geometry import MultiPolygon


@dataclass(frozen=True)
class Piece:
    """An object, or a part of one, as one crop shows it.

    Attributes:
        tile: number of the crop.
        window: left, top, right, bottom of the crop.
        outline: valid.
        label: its class.
        score: 0 to 1.
        cut: it reaches a side of the crop beyond which the raster goes on.
        owned: its middle lies in the crop's core; of a part, about there.
        border: it reaches beyond the core, so that a neighbour may have it too.
        opens: whether the raster goes on beyond the crop's left, upper, right and lower side.
    """

    tile: int
    window: tuple[float, float, float, float]
    outline: MultiPolygon
    label: int
    score: float
    cut: bool
    owned: bool
    border: bool
    opens: tuple[bool, bool, bool, bool] = (True, True, True, True)
