"""Where the prompts of one object lie: on the raster, in a crop that holds them all, on data. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..models.errors import PromptError
from .crops import CropFrame, RasterFrame, clamp_level, crop_holding
from .messages import Prompt, SegmentParams
from .prompting import PromptList


@dataclass(frozen=True)
class Place:
    """Where an object is looked for.

    Attributes:
        frame: the crop.
        prompts: in input pixels of that crop.
    """

    frame: CropFrame
    prompts: PromptList


def locate(raster: RasterFrame, size: int, params: SegmentParams) -> Place:
    """Choose the crop for all prompts of an object and bring them into its coordinates.

    Args:
        raster: size and georeference.
        size: side of the model's input, pixels.
        params: the request.

    Returns:
        The crop and the prompts in it.

    Raises:
        PromptError: a prompt is beyond the raster, or there is no positive one to begin with.
    """
    _check_order(params.points, params.box)
    points = on_raster(raster, np.array([[point.x, point.y] for point in params.points]).reshape(-1, 2), "A point")
    box = _box_on_raster(raster, params.box)
    every = np.concatenate([points, box])
    anchor = box.mean(axis=0) if len(box) else points[0]
    level = clamp_level(raster, size, params.level)
    frame = CropFrame(raster, crop_holding(raster, size, level, (float(anchor[0]), float(anchor[1])), every))
    inside = (every - [frame.crop.col, frame.crop.row]) / frame.crop.scale
    clicks = tuple(
        (float(x), float(y), point.positive) for (x, y), point in zip(inside[: len(points)], params.points, strict=True)
    )
    corners = inside[len(points) :]
    bounds = (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()) if len(box) else None
    return Place(frame, PromptList(clicks, bounds))


def _check_order(points: tuple[Prompt, ...], box: tuple[tuple[float, float], ...]) -> None:
    if not box and not points:
        raise PromptError("There is nothing to segment by. Click a point on the object, or draw a box around it.")
    if not box and not points[0].positive:
        raise PromptError(
            "The first click must be on the object. Click it, then click away what does not belong to it."
        )


def on_raster(raster: RasterFrame, points: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    """Bring map points to pixels.

    Args:
        raster: size and georeference.
        points: (n, 2) x, y in the raster's CRS.
        what: what they are called in the complaint, for example ``A point``.

    Returns:
        (n, 2) column, row.

    Raises:
        PromptError: one of them is beyond the raster.
    """
    pixels = raster.to_pixel(points)
    if not (np.isfinite(pixels).all() and raster.contains(pixels).all()):
        raise PromptError(f"{what} lies outside the raster. Click within the layer.")
    return pixels


def _box_on_raster(raster: RasterFrame, box: tuple[tuple[float, float], ...]) -> NDArray[np.float64]:
    """Return two opposite corners of a box in pixels, cut to the raster: (2, 2), or (0, 2) without a box."""
    if not box:
        return np.zeros((0, 2))
    pixels = raster.to_pixel(np.array(box, np.float64))
    low = np.maximum(pixels.min(axis=0), 0.0)
    high = np.minimum(pixels.max(axis=0), [raster.width, raster.height])
    if not (low < high).all():
        raise PromptError("The box is empty or lies outside the raster. Draw it around an object within the layer.")
    return np.stack([low, high])


def check_on_data(valid: NDArray[np.bool_] | None, prompts: PromptList | None) -> None:
    """Check that positive clicks lie on data.

    Args:
        valid: (S, S), False for nodata and padding; None when all is valid.
        prompts: in input pixels; None for none.

    Raises:
        PromptError: a positive click lies on nodata.
    """
    if valid is None or prompts is None:
        return
    last = len(valid) - 1
    for x, y, positive in prompts.points:
        if positive and not valid[min(int(y), last), min(int(x), last)]:
            raise PromptError("The raster has no data at this point. Click where it has.")
