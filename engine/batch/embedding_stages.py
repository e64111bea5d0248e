"""The store is filled with the crops that clicks are answered on, so that clicks need not wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..messages import PrepareParams
from .items import Unit, UnitResult

if TYPE_CHECKING:
    from ..areas.tiles import Tile
    from ..segment_work import Looked
    from ..segmenter import Segmenter


class EmbeddingStages:
    """Encodes the tiles of one raster. Its parts are tiles."""

    def __init__(self, segmenter: Segmenter, params: PrepareParams) -> None:
        """Join the parts.

        Args:
            segmenter: has the store.
            params: raster, model and adapter.
        """
        self._segmenter, self._params = segmenter, params

    @property
    def batch(self) -> int:
        """How many tiles are computed at once."""
        return 1

    def read(self, part: Tile) -> Looked | None:
        """Read a tile unless it is in the store."""
        return self._segmenter.look(self._params, part.crop)

    def compute(self, parts: list[Looked]) -> list[str]:
        """Encode into the store."""
        return [self._segmenter.encode(part) for part in parts]

    def shape(self, part: Tile, computed: str) -> str:  # noqa: ARG002 - the interface
        """Keep nothing but where it came from."""
        return computed

    def finish(self, unit: Unit, shaped: list[str], skipped: int) -> UnitResult:  # noqa: ARG002 - the interface
        """Give nothing: all of it is in the store."""
        return UnitResult(unit.number)
