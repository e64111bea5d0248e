"""The job file: one SQLite file with what is to be done, which units are done, and everything they gave.

A unit and its results are written in one transaction, so it is done or it is not. The journal is the rollback kind and
every commit is flushed to the disk: slower than a write-ahead log, but right on network drives, where that one is not,
and a unit takes seconds anyway.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ...models.errors import OutputError
from ..messages import RasterInfo
from ..wire import from_wire, to_wire
from .claim import Claim
from .items import (
    BatchObject,
    Feature,
    Ground,
    JobHeader,
    JobRaster,
    RasterMark,
    Unit,
    UnitResult,
)

SUFFIX = ".samjob"
APPLICATION_ID = 0x53_4D_54_4A
FORMAT = 1
BUSY_SECONDS = 60.0
"""How long a commit waits for a reader."""

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


class JobFile:
    """An open job file. Its methods may be called from several threads, which take turns.

    Attributes:
        path: of the file.
        header: what was decided when it was made.
    """

    def __init__(self, path: Path) -> None:
        """Open a job file.

        Args:
            path: of it.

        Raises:
            OutputError: it is missing, no job file, or of a later SamTune.
        """
        if not path.is_file():
            raise OutputError(f"There is no job file {path}. Check the path.")
        self.path = path
        self._lock = threading.RLock()
        with job_errors(path):
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)
            try:
                self._set_up()
            except BaseException:
                self._db.close()
                raise

    def _set_up(self) -> None:
        if self._db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise OutputError(f"{self.path} is no job file of SamTune. Choose a *{SUFFIX} file.")
        known = self._db.execute("PRAGMA user_version").fetchone()[0]
        if known != FORMAT:
            raise OutputError(
                f"The job {self.path.name} was made by another version of SamTune, which keeps jobs in another way "
                f"(format {known}, here {FORMAT}). Resume it with that version, or make the job anew."
            )
        self._db.execute("PRAGMA journal_mode = DELETE")
        self._db.execute("PRAGMA synchronous = FULL")
        self.header = from_wire(JobHeader, json.loads(str(self.get("header"))))

    @classmethod
    def create(
        cls, path: Path, header: JobHeader, area: Ground, rasters: Iterable[JobRaster], features: Iterable[Feature]
    ) -> JobFile:
        """Make a job file; it appears when it is complete.

        Args:
            path: of it; must not exist.
            header: what is decided.
            area: to which the work is limited.
            rasters: of the job, not looked at yet.
            features: of prompts.

        Raises:
            OutputError: it exists, or cannot be written.
        """
        if path.exists():
            raise OutputError(
                f"The job file {path} exists. Resume it (samtune batch resume), name another one, or delete it first."
            )
        half = path.with_name(f".{path.name}.half")
        with job_errors(path):
            half.unlink(missing_ok=True)
            with contextlib.closing(sqlite3.connect(half, isolation_level=None)) as db:
                _fill(db, header, area, rasters, features)
            half.rename(path)
        return cls(path)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> JobFile:
        """Return itself, to be closed when the context ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def claim(self) -> Claim:
        """Return the right to work on this job, to be entered as a context; nobody has it yet."""
        return Claim(self.path, self._db, self._lock)

    @contextlib.contextmanager
    def writing(self, claim: Claim | None = None) -> Iterator[sqlite3.Connection]:
        """Change the file in one transaction.

        Args:
            claim: that must be ours still; None where none is needed.

        Raises:
            OutputError: the file cannot be written (disk full, drive gone); it is as it was before.
        """
        with self._lock, job_errors(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                if claim is not None:
                    claim.confirm()
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        with self._lock, job_errors(self.path):
            return self._db.execute(query, values).fetchall()

    def get(self, key: str, default: object = "") -> object:
        """Return a value that was put under a key."""
        rows = self._rows("SELECT value FROM job WHERE key = ?", key)
        return rows[0][0] if rows else default

    def put(self, claim: Claim | None, **values: object) -> None:
        """Put values under keys, all at once."""
        with self.writing(claim) as db:
            db.executemany("INSERT OR REPLACE INTO job VALUES (?, ?)", values.items())

    @property
    def area(self) -> Ground:
        """The polygons to which the work is limited."""
        wkb = self.get("area", b"")
        return Ground(wkb if isinstance(wkb, bytes) else b"", str(self.get("area_crs")))

    def set_header(self, claim: Claim, header: JobHeader) -> None:
        """Replace the header."""
        self.put(claim, header=json.dumps(to_wire(header)))
        self.header = header

    def rasters(self) -> list[JobRaster]:
        """Return all rasters, in order."""
        rows = self._rows(
            "SELECT number, uri, inside, beside, mark, problem, fingerprint, info, level, tiles, second FROM raster"
            " ORDER BY number"
        )
        return [_raster(row) for row in rows]

    def plan_raster(self, claim: Claim, raster: JobRaster, units: Iterable[Unit]) -> None:
        """Note what was found out about a raster, and its units, numbered anew.

        Args:
            claim: ours.
            raster: with mark PLANNED.
            units: of it.
        """
        with self.writing(claim) as db:
            rows = [(raster.number, unit.tiles, _content(unit)) for unit in units]
            db.executemany("INSERT INTO unit (raster, tiles, content) VALUES (?, ?, ?)", rows)
            _update(db, replace(raster, tiles=sum(row[1] for row in rows)))

    def set_raster(self, claim: Claim, raster: JobRaster) -> None:
        """Replace what is known of a raster."""
        with self.writing(claim) as db:
            _update(db, raster)

    def set_output(self, claim: Claim, raster: int, path: str) -> None:
        """Note where a raster's class map was written."""
        with self.writing(claim) as db:
            db.execute("UPDATE raster SET output = ? WHERE number = ?", (path, raster))

    def pending(self, raster: int, after: int = 0, most: int = 256) -> list[Unit]:
        """Return units of a raster that are not done.

        Args:
            raster: its number.
            after: only units with a higher number.
            most: how many.
        """
        rows = self._rows(
            "SELECT number, raster, tiles, content FROM unit WHERE raster = ? AND finished IS NULL AND number > ?"
            " ORDER BY number LIMIT ?",
            raster,
            after,
            most,
        )
        return [_unit(row) for row in rows]

    def raster_of(self, unit: int) -> int:
        """Return the number of the raster that a unit is of."""
        return int(str(self._rows("SELECT raster FROM unit WHERE number = ?", unit)[0][0]))

    def tiles(self) -> tuple[int, int]:
        """Return how many tiles there are in all, and how many are done."""
        query = "SELECT total(tiles), total(CASE WHEN finished IS NULL THEN 0 ELSE tiles END) FROM unit"
        return _pair(self._rows(query)[0])

    def units(self) -> tuple[int, int]:
        """Return how many units there are in all, and how many are done."""
        return _pair(self._rows("SELECT count(*), count(finished) FROM unit")[0])

    def commit(self, claim: Claim, result: UnitResult, run: str = "") -> bool:
        """Write what a unit gave and that it is done, in one transaction.

        Args:
            claim: ours.
            result: of the unit.
            run: what is to be known of this run: see :class:`.status.Meter`.

        Returns:
            False where the unit was done before; nothing is written then.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self.writing(claim) as db:
            done = db.execute(
                "UPDATE unit SET finished = ?, skipped = ?, seconds = ? WHERE number = ? AND finished IS NULL",
                (now, result.skipped, result.seconds, result.unit),
            )
            if not done.rowcount:
                return False
            _insert(db, result)
            if run:
                db.execute("INSERT OR REPLACE INTO job VALUES ('run', ?)", (run,))
            if result.notes:
                _add_notes(db, result)
        return True

    def features(self, numbers: Iterable[int]) -> list[Feature]:
        """Return prompts by their numbers."""
        with self._lock, job_errors(self.path):
            query = "SELECT number, wkb, vals, label FROM feature WHERE number = ?"
            rows = [self._db.execute(query, (number,)).fetchone() for number in numbers]
        return [Feature(row[0], row[1], tuple(json.loads(row[2])), row[3]) for row in rows]

    def all_features(self) -> Iterator[Feature]:
        """Yield all prompts."""
        for row in self.stream("SELECT number, wkb, label FROM feature ORDER BY number"):
            yield Feature(int(str(row[0])), row[1] if isinstance(row[1], bytes) else b"", (), str(row[2]))

    def stream(self, query: str, *values: object, at_once: int = 2000) -> Iterator[tuple[object, ...]]:
        """Yield the rows of a query, without holding all of them.

        Args:
            query: SQL.
            *values: for its question marks.
            at_once: rows fetched together.
        """
        with self._lock, job_errors(self.path):
            cursor = self._db.execute(query, values)
        while True:
            with self._lock, job_errors(self.path):
                rows = cursor.fetchmany(at_once)
            if not rows:
                return
            yield from rows


def _fill(
    db: sqlite3.Connection, header: JobHeader, area: Ground, rasters: Iterable[JobRaster], features: Iterable[Feature]
) -> None:
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


def _update(db: sqlite3.Connection, raster: JobRaster) -> None:
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


def _insert(db: sqlite3.Connection, result: UnitResult) -> None:
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


def _add_notes(db: sqlite3.Connection, result: UnitResult) -> None:
    query = "SELECT number, notes FROM raster WHERE number = (SELECT raster FROM unit WHERE number = ?)"
    number, known = db.execute(query, (result.unit,)).fetchone()
    notes = [*json.loads(known), *result.notes][:_MOST_NOTES]
    db.execute("UPDATE raster SET notes = ? WHERE number = ?", (json.dumps(notes), number))


def _raster(row: tuple[object, ...]) -> JobRaster:
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


def _pair(row: tuple[object, ...]) -> tuple[int, int]:
    return int(float(str(row[0]))), int(float(str(row[1])))


def _content(unit: Unit) -> str:
    if unit.features:
        return json.dumps({"features": unit.features})
    return json.dumps({"block": unit.block, "coarser": unit.coarser})


def _unit(row: tuple[object, ...]) -> Unit:
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


@contextlib.contextmanager
def job_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system say of a job file into words.

    Args:
        path: of the file.

    Raises:
        OutputError: in place of their errors.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        text = str(error).lower()
        if "full" in text or "no space" in text:
            remedy = "The disk is full. Free some space, then resume the job: what is done so far is kept."
        elif "locked" in text:
            remedy = "Another program holds the file. Close it there, then resume the job: what is done is kept."
        elif isinstance(error, sqlite3.DatabaseError) and ("malformed" in text or "not a database" in text):
            remedy = "It is damaged, or no job file of SamTune. Choose another one."
        else:
            remedy = "Check that its drive is there and can be written to, then resume the job: what is done is kept."
        raise OutputError(
            f"The job file {path} cannot be used. {remedy}", f"{type(error).__name__}: {error}"
        ) from error
