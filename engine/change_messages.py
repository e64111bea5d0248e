"""Messages about change between two dates.

As :mod:`.messages`: plain dataclasses, standard library only, Python 3.9. Registered in :mod:`.wire`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional

from .messages import RasterSpec


class ChangeWay(str, Enum):
    """How change is found.

    OBJECTS: the objects of both dates, outlined before by whatever means, are matched. EMBEDDINGS: without objects and
    classes, by how differently the model sees the same ground on both dates.
    """

    OBJECTS = "objects"
    EMBEDDINGS = "embeddings"


@dataclass(frozen=True)
class DateInput:
    """What there is of one date.

    Attributes:
        objects: of OBJECTS: vector file with polygons, in any CRS.
        layer: in it; empty for its only or first one.
        class_field: attribute with the class; empty for none.
        raster: of EMBEDDINGS: the raster. Of OBJECTS: where given, objects of the other date beyond this raster are
            left out, for nobody can say what became of them.
    """

    objects: str = ""
    layer: str = ""
    class_field: str = ""
    raster: Optional[RasterSpec] = None


@dataclass(frozen=True)
class ChangeParams:
    """Find what changed between two dates.

    Attributes:
        way: how.
        before: the first date.
        after: the second date.
        output: GeoPackage to write; must not exist.
        layer: in it.
        area: polygon of the area, hexadecimal WKB in the CRS of the first date; empty for all that both dates show.
        shift: by which the dates may be misregistered, metres (units of the CRS where it has no place on Earth).
        match: of OBJECTS: least agreement of two objects that are one, 0 to 1.
        stable: of OBJECTS: least agreement of what did not change, 0 to 1.
        least: of OBJECTS, objects, of EMBEDDINGS, changes with less area are left out, square metres.
        model: of EMBEDDINGS: the base model whose embeddings are compared.
        level: of EMBEDDINGS: of detail.
        floor: of EMBEDDINGS: least distance that counts as change, 0 to 1, however little there is otherwise.
    """

    way: ChangeWay
    before: DateInput
    after: DateInput
    output: str
    layer: str = "changes"
    area: str = ""
    shift: float = 0.0
    match: float = 0.3
    stable: float = 0.8
    least: float = 0.0
    model: str = "tiny"
    level: int = 0
    floor: float = 0.1


@dataclass(frozen=True)
class ChangeCount:
    """How many changes there are of a kind, and what they cover (before where it is gone, else after), m²."""

    kind: str
    count: int
    area: float


@dataclass(frozen=True)
class ChangeResult:
    """Changes that were written.

    Attributes:
        output: path.
        counts: of each kind: ``new``, ``gone``, ``changed`` and ``stable``; of EMBEDDINGS ``changed`` alone.
        threshold: of EMBEDDINGS: the distance taken for change; else 0.
        seconds: it took.
        notes: what the user should know, as sentences.
    """

    output: str
    counts: tuple[ChangeCount, ...]
    threshold: float
    seconds: float
    notes: tuple[str, ...] = ()
