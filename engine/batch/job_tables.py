"""The tables of a job file, and what its rows are: from the job's own types to SQLite's and back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator

from ..messages import RasterInfo
from ..wire import from_wire, to_wire
from .items import BatchObject, Feature, Ground, JobHeader, JobRaster, RasterMark, Unit, UnitResult

APPLICATION_ID = 0x53_4D_54_4A
FORMAT = 1

_TABLES = (
    "CREATE TABLE job (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE feature (number INTEGER PRIMARY KEY, wkb BLOB NOT NULL, label TEXT NOT NULL, vals TEXT NOT NULL)",
    "CREATE TABLE raster (number INTEGER PRIMARY KEY, uri TEXT NOT NULL, inside TEXT NOT NULL, beside TEXT NOT NULL,"
    " second TEXT NOT NULL, mark TEXT NOT NULL, problem TEXT NOT NULL, fingerprint TEXT NOT NULL, info TEXT,"
    " level INTEGER, tiles INTEGER NOT NULL, notes TEXT NOT NULL DEFAULT '[]', output TEXT NOT NULL DEFAULT '')",
    "CREATE TABLE unit (number INTEGER PRIMARY KEY, raster INTEGER NOT NULL REFERENCES raster, tiles INTEGER NOT NULL,"
    " content TEXT NOT NULL, finished TEXT, skipped INTEGER NOT NULL DEFAULT 0, seconds REAL NOT NULL DEFAULT 0)",
    "CREATE INDEX unit_raster ON unit (raster, finished)",
    "CREATE TABLE object (number INTEGER PRIMARY KEY, unit INTEGER NOT NULL REFERENCES unit, place INTEGER NOT NULL,"
    " wkb BLOB NOT NULL, label TEXT NOT NULL, score REAL NOT NULL, prompt TEXT NOT NULL, feature INTEGER NOT NULL,"
    " adapter TEXT NOT NULL)",
    "CREATE INDEX object_unit ON object (unit)",
    "CREATE TABLE fragment (number INTEGER PRIMARY KEY, unit INTEGER NOT NULL REFERENCES unit, tile INTEGER NOT NULL,"
    " wkb BLOB NOT NULL, label TEXT NOT NULL, score REAL NOT NULL, extra TEXT NOT NULL)",
    "CREATE INDEX fragment_unit ON fragment (unit)",
    "CREATE TABLE block (number INTEGER PRIMARY KEY, unit INTEGER NOT NULL REFERENCES unit, row INTEGER NOT NULL,"
    " col INTEGER NOT NULL, classes INTEGER NOT NULL, side INTEGER NOT NULL, size INTEGER NOT NULL,"
    " data BLOB NOT NULL)",
    "CREATE INDEX block_place ON block (row, col)",
)


def fill(
    db: sqlite3.Connection, header: JobHeader, area: Ground, rasters: Iterable[JobRaster], features: Iterable[Feature]
) -> None:
    """Make the tables, and write down what is decided."""
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {FORMAT}")
    db.execute("BEGIN")
    for table in _TABLES:
        db.execute(table)
    values = {"header": json.dumps(to_wire(header)), "area": area.wkb, "area_crs": area.crs_wkt}
    db.executemany("INSERT INTO job VALUES (?, ?)", values.items())
    db.executemany(
        "INSERT INTO raster (number, uri, inside, beside, second, mark, problem, fingerprint, tiles)"
        " VALUES (?, ?, ?, ?, ?, ?, '', '', 0)",
        ((item.number, item.uri, item.inside, item.beside, item.second, item.mark.value) for item in rasters),
    )
    db.executemany(
        "INSERT INTO feature (number, wkb, label, vals) VALUES (?, ?, ?, ?)",
        ((item.number, item.wkb, item.label, json.dumps(item.values)) for item in features),
    )
    db.execute("COMMIT")


def update(db: sqlite3.Connection, raster: JobRaster) -> None:
    """Replace what is known of a raster."""
    db.execute(
        "UPDATE raster SET mark = ?, problem = ?, fingerprint = ?, info = ?, level = ?, tiles = ?, second = ?"
        " WHERE number = ?",
        (
            raster.mark.value,
            raster.problem,
            raster.fingerprint,
            None if raster.info is None else json.dumps(to_wire(raster.info)),
            raster.level,
            raster.tiles,
            raster.second,
            raster.number,
        ),
    )


def insert(db: sqlite3.Connection, result: UnitResult) -> None:
    """Write what a unit gave."""

    def rows(items: Iterable[BatchObject]) -> Iterator[tuple[object, ...]]:
        for place, item in enumerate(items):
            yield (result.unit, place, item.wkb, item.label, item.score, item.prompt, item.feature, item.adapter)

    db.executemany(
        "INSERT INTO object (unit, place, wkb, label, score, prompt, feature, adapter) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        rows(result.objects),
    )
    db.executemany(
        "INSERT INTO fragment (unit, tile, wkb, label, score, extra) VALUES (?, ?, ?, ?, ?, ?)",
        ((result.unit, f.tile, f.wkb, f.label, f.score, f.extra) for f in result.fragments),
    )
    db.executemany(
        "INSERT INTO block (unit, row, col, classes, side, size, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
        ((result.unit, b.row, b.col, *b.shape, b.data) for b in result.blocks),
    )


_MOST_NOTES = 100


def add_notes(db: sqlite3.Connection, result: UnitResult) -> None:
    """Keep what is to be told of a unit with its raster."""
    query = "SELECT number, notes FROM raster WHERE number = (SELECT raster FROM unit WHERE number = ?)"
    number, known = db.execute(query, (result.unit,)).fetchone()
    notes = [*json.loads(known), *result.notes][:_MOST_NOTES]
    db.execute("UPDATE raster SET notes = ? WHERE number = ?", (json.dumps(notes), number))


def raster_of(row: tuple[object, ...]) -> JobRaster:
    """Make a raster of a row."""
    number, uri, inside, beside, mark, problem, fingerprint, info, level, tiles, second = row
    return JobRaster(
        number=int(str(number)),
        uri=str(uri),
        inside=str(inside),
        beside=str(beside),
        mark=RasterMark(str(mark)),
        problem=str(problem),
        fingerprint=str(fingerprint),
        info=None if info is None else from_wire(RasterInfo, json.loads(str(info))),
        level=None if level is None else int(str(level)),
        tiles=int(str(tiles)),
        second=str(second),
    )


def pair(row: tuple[object, ...]) -> tuple[int, int]:
    """Make two whole numbers of a row."""
    return int(float(str(row[0]))), int(float(str(row[1])))


def content_of(unit: Unit) -> str:
    """Return what a unit is made of, as JSON."""
    if unit.features:
        return json.dumps({"features": unit.features})
    return json.dumps({"block": unit.block, "coarser": unit.coarser})


def unit_of(row: tuple[object, ...]) -> Unit:
    """Make a unit of a row."""
    number, raster, tiles, content = row
    parts = json.loads(str(content))
    first, end, left, right = parts.get("block", (0, 0, 0, 0))
    return Unit(
        number=int(str(number)),
        raster=int(str(raster)),
        tiles=int(str(tiles)),
        block=(first, end, left, right),
        features=tuple(parts.get("features", ())),
        coarser=parts.get("coarser", 0),
    )
