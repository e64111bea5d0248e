"""Which bands of a raster the model sees, and whether a raster can be used at all. Works on plain metadata."""

from __future__ import annotations

from dataclasses import dataclass

from ..models.errors import RasterError

RGB = ("red", "green", "blue")


@dataclass(frozen=True)
class BandChoice:
    """What was chosen.

    Attributes:
        bands: one or three band numbers, counted from 1.
        palette: the single band holds indices of a colour table.
        notes: what the user should know about the choice, as sentences.
    """

    bands: tuple[int, ...]
    palette: bool
    notes: tuple[str, ...]


def choose_bands(asked: tuple[int, ...], interpretation: tuple[str, ...]) -> BandChoice:
    """Choose the bands shown to the model as red, green and blue.

    Without a wish: the bands that the raster calls red, green and blue; else the colour table of a palette; else the
    first three bands that are not transparency; with fewer than three, the first one in grey.

    Args:
        asked: band numbers counted from 1: none, one or three.
        interpretation: per band the name of its colour interpretation, as rasterio gives it.

    Returns:
        The choice.

    Raises:
        RasterError: the wish does not fit the raster.
    """
    if asked:
        return _asked(asked, interpretation)
    if all(name in interpretation for name in RGB):
        return BandChoice(tuple(interpretation.index(name) + 1 for name in RGB), palette=False, notes=())
    if interpretation[0] == "palette":
        return BandChoice((1,), palette=True, notes=("The raster has a colour table; its colours are used.",))
    colour = tuple(band for band, name in enumerate(interpretation, 1) if name != "alpha")
    if not colour:
        raise RasterError("The raster has only a transparency band. Choose another layer.")
    if len(colour) >= 3:
        note = (
            f"The raster has {len(colour)} bands and does not name red, green and blue: bands {colour[0]}, {colour[1]} "
            f"and {colour[2]} are used. Choose others where those suit your objects better."
        )
        return BandChoice(colour[:3], palette=False, notes=(note,))
    note = f"Band {colour[0]} is shown to the model in grey."
    return BandChoice(colour[:1], palette=False, notes=(note,))


def _asked(asked: tuple[int, ...], interpretation: tuple[str, ...]) -> BandChoice:
    if len(asked) not in (1, 3):
        raise RasterError(f"Choose one band or three bands, not {len(asked)}.")
    count = len(interpretation)
    for band in asked:
        if not 1 <= band <= count:
            raise RasterError(f"The raster has no band {band}; its bands are 1 to {count}. Choose one of those.")
    return BandChoice(asked, palette=len(asked) == 1 and interpretation[asked[0] - 1] == "palette", notes=())


def band_names(descriptions: tuple[str | None, ...], interpretation: tuple[str, ...]) -> tuple[str, ...]:
    """Name every band for the user.

    Args:
        descriptions: as the file gives them.
        interpretation: per band the name of its colour interpretation.

    Returns:
        One name per band; "Band 3 (NIR)", "Band 1 (red)", "Band 7".
    """
    names = []
    for band, (description, colour) in enumerate(zip(descriptions, interpretation, strict=True), 1):
        extra = (description or "").strip() or (colour if colour not in ("gray", "undefined") else "")
        names.append(f"Band {band} ({extra})" if extra else f"Band {band}")
    return tuple(names)


def check_stretch(stretch: tuple[tuple[float, float], ...], bands: int) -> None:
    """Check a stretch that the user gave.

    Args:
        stretch: (low, high) per band, or one pair for all bands.
        bands: number of chosen bands.

    Raises:
        RasterError: another number of pairs, or a pair that is not rising.
    """
    if len(stretch) not in (1, bands):
        raise RasterError(
            f"The stretch has {len(stretch)} ranges for {bands} bands. Give one for each band, or one for all."
        )
    for low, high in stretch:
        if not (low < high and abs(low) < float("inf") and abs(high) < float("inf")):
            raise RasterError(f"The stretch from {low:g} to {high:g} is no rising range. Give the smaller value first.")
