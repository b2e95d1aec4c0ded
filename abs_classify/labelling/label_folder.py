"""The folder of a labelling run: what it is a run of, and a row for each image in a database beside the tables.

labelled/
  labels.csv          written while the run goes on
  run.json            classes, model, method: what the rows are of
  classes.json        the classes with their descriptions, so that labels can be computed anew without the bundle
  rows.sqlite         the rows with what the table does not show; the tables are made from it
  decisions/          what reviewers decided, a file each
  learned/            what was learned from the decisions
  exports/            labels in the formats of other tools
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from abs_classify.labelling.locations import ImageLocation
from abs_classify.labelling.rows import ClassConfidence, LabelRow, Status, table_names
from abs_core.errors import ResultError, StorageError, UsageError
from abs_core.files import atomic_write, lock_file, storage_errors
from abs_core.labels import ClassLabel
from abs_core.text import json_text

__all__ = ["KnownRow", "LabelFolder", "RowOrder", "RowQuery", "locked_folder"]

_RUN, _ROWS, _LOCK = "run.json", "rows.sqlite", ".lock"
_FORMAT, _VERSION = "abs-labels", 1

# rows that are read or written in one step
_STEP = 500

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (
  number INTEGER PRIMARY KEY,
  key BLOB NOT NULL UNIQUE,
  path TEXT NOT NULL,
  location TEXT NOT NULL,
  stamp TEXT NOT NULL,
  image TEXT NOT NULL,
  status TEXT NOT NULL,
  label INTEGER,
  second INTEGER,
  confidence REAL,
  margin REAL,
  ranking TEXT NOT NULL,
  known REAL,
  views INTEGER,
  reason TEXT NOT NULL,
  generation INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS rows_confidence ON rows (confidence, number);
CREATE INDEX IF NOT EXISTS rows_label ON rows (label, second, confidence);
CREATE INDEX IF NOT EXISTS rows_image ON rows (image);
CREATE INDEX IF NOT EXISTS rows_status ON rows (status, confidence);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT OR IGNORE INTO facts VALUES ('changes', '0');
CREATE TRIGGER IF NOT EXISTS rows_changed AFTER UPDATE ON rows
WHEN (old.path, old.image, old.status, old.ranking, old.reason, old.known, old.views)
  IS NOT (new.path, new.image, new.status, new.ranking, new.reason, new.known, new.views)
BEGIN
  UPDATE facts SET value = CAST(value AS INTEGER) + 1 WHERE name = 'changes';
END;
"""

#: the order of rows: of arrival, least confident first, most confident first, of paths; those without a label come last
#: where confidence decides
RowOrder: TypeAlias = Literal["arrival", "doubtful", "confident", "path"]

_COLUMNS = "number, path, location, image, status, ranking, known, views, reason"


class KnownRow(NamedTuple):
    """What a run knows of an image that it met before.

    Attributes:
        number: of its row.
        stamp: of its file when it was labelled.
        status: of its row.
        generation: of the labels that it has.
        image_id: of the image; empty where its bytes could not be read.
    """

    number: int
    stamp: str
    status: Status
    generation: int
    image_id: str


@dataclass(frozen=True)
class RowQuery:
    """Which rows, and in which order.

    Attributes:
        order: ``arrival``, ``doubtful`` (least confident first), ``confident`` or ``path``.
        statuses: only rows of these; all of them if empty.
        label: only rows with this class position as label.
        second: only rows with this class position in second place.
        search: only rows whose path contains this text, whatever its case.
    """

    order: RowOrder = "arrival"
    statuses: tuple[Status, ...] = ()
    label: int | None = None
    second: int | None = None
    search: str = ""

    def where(self) -> tuple[str, list[Any]]:
        """The condition in SQL, and its values."""
        parts: list[str] = []
        values: list[Any] = []
        if self.statuses:
            parts.append(f"status IN ({','.join('?' * len(self.statuses))})")
            values += self.statuses
        for column, value in (("label", self.label), ("second", self.second)):
            if value is not None:
                parts.append(f"{column} = ?")
                values.append(value)
        if self.search:
            parts.append("instr(lower(path), lower(?)) > 0")
            values.append(self.search)
        return " AND ".join(parts) or "1", values

    def order_by(self) -> str:
        """The order in SQL."""
        return {
            "arrival": "number",
            "doubtful": "confidence NULLS LAST, number",
            "confident": "confidence DESC, number",
            "path": "path, number",
        }[self.order]


@contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """As ``LabelFolder.locked``, of a folder that need not be there yet."""
    with storage_errors(path, "write in"):
        path.mkdir(parents=True, exist_ok=True)
        stream = (path / _LOCK).open("ab")
    with closing(stream):
        if not lock_file(stream, wait=False):
            raise UsageError(
                f"another process is labelling into {str(path)!r}",
                remedy="Wait until it ends, or give another folder with --out",
            )
        yield


class LabelFolder:
    """The folder of a labelling run.

    Any number of processes may read it; one at a time labels into it, see ``locked``.

    Args:
        path: the folder.
        run: what it is a run of, the content of ``run.json``.
    """

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        self.path, self.run = path, run
        self.classes: tuple[ClassLabel, ...] = tuple(ClassLabel(entry["id"], entry["name"]) for entry in run["classes"])
        #: what each class is called in tables
        self.names = table_names(self.classes)

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether a path is the folder of a run."""
        return (path / _RUN).is_file()

    @classmethod
    def open(cls, path: Path) -> LabelFolder:
        """A folder that ``abs label`` made.

        Raises:
            UsageError: it is none.
            ResultError: it was made by a newer version, or ``run.json`` is damaged.
            StorageError: it cannot be read.
        """
        if not cls.exists(path):
            below = any(path.glob(f"*/{_RUN}"))  # such as the parent of the folders of shares
            remedy = f"Name those in it, as in {path}/*" if below else "Name the folder that was given with --out"
            raise UsageError(f"{str(path)!r} is no folder of `abs label`: it has no {_RUN}", remedy=remedy)
        with storage_errors(path / _RUN, "read"):
            data = (path / _RUN).read_bytes()
        try:
            run = json.loads(data)
            if run["format"] != _FORMAT or run["format_version"] != _VERSION:
                raise ResultError(
                    f"{path / _RUN} has the format {run['format']!r} version {run['format_version']!r}",
                    remedy="Upgrade the toolkit, or label into another folder",
                )
            if not (run["classes"] and isinstance(run["identity"], dict) and isinstance(run["settings"], dict)):
                raise ValueError("a part is empty or of another type")
            return cls(path, run)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ResultError(
                f"{path / _RUN} is damaged",
                remedy="Label into another folder, which costs little with the same cache, and take in what was "
                f"decided: abs label merge OTHER {path}",
            ) from error

    @classmethod
    def create(
        cls,
        path: Path,
        classes: Sequence[ClassLabel],
        identity: Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
    ) -> LabelFolder:
        """Make the folder of a run, whose ``run.json`` must not be there yet.

        Args:
            path: the folder; parents are made.
            classes: the candidate classes, in order.
            identity: what else the labels depend on, JSON values by name; a run with another one is refused.
            settings: how to open the model again, JSON values, on which labels do not depend.

        Raises:
            StorageError: it cannot be written.
        """
        run = {
            "format": _FORMAT,
            "format_version": _VERSION,
            "classes": [{"id": label.id, "name": label.name} for label in classes],
            "identity": dict(identity),
            "settings": dict(settings or {}),
        }
        with atomic_write(path / _RUN) as stream:
            stream.write((json_text(run) + "\n").encode())
        return cls(path, run)

    @property
    def has_rows(self) -> bool:
        """Whether the database is there; it is made when a run begins."""
        return (self.path / _ROWS).is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other labelling runs out of the folder for the time of the block.

        Raises:
            UsageError: another process is labelling into it.
            StorageError: the folder cannot be written.
        """
        with locked_folder(self.path):
            yield

    @contextmanager
    def _database(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        path = self.path / _ROWS
        try:
            if write:
                base = sqlite3.connect(path.absolute().as_uri(), uri=True, timeout=60)
            else:
                base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=60)
            with closing(base):
                if write:
                    base.executescript(_SCHEMA)
                # a view of that name could take for ever, and what runs in SQLite cannot be interrupted
                views = "SELECT 1 FROM sqlite_master WHERE lower(name) = 'rows' AND type <> 'table'"
                if base.execute(views).fetchone():
                    raise sqlite3.DatabaseError("rows is not a table")
                yield base
        except sqlite3.Error as error:
            raise _database_error(path, error) from error

    # --- reading -----------------------------------------------------------------------------------------------------

    def count(self, query: RowQuery | None = None) -> int:
        """How many rows there are."""
        where, values = (query or RowQuery()).where()
        with self._database() as base:
            return int(base.execute(f"SELECT count(*) FROM rows WHERE {where}", values).fetchone()[0])  # noqa: S608

    def rows(self, query: RowQuery | None = None, *, start: int = 0, count: int = -1) -> Iterator[LabelRow]:
        """Rows, as they are read; memory does not grow with their number.

        Args:
            query: which, and in which order; None for all in the order of arrival.
            start: how many of these to leave out.
            count: how many at most; -1 for all.
        """
        query = query or RowQuery()
        if query.order == "arrival":
            yield from self._rows_by_number(query, start, count)
            return
        where, values = query.where()
        text = f"SELECT {_COLUMNS} FROM rows WHERE {where} ORDER BY {query.order_by()} LIMIT ? OFFSET ?"  # noqa: S608
        with self._database() as base:
            for values_of_row in base.execute(text, [*values, count, start]):
                yield _row(values_of_row)

    def _rows_by_number(self, query: RowQuery, start: int, count: int) -> Iterator[LabelRow]:
        """Rows in the order of arrival, in steps between which others can write, however long each takes."""
        where, values = query.where()
        text = f"SELECT {_COLUMNS} FROM rows WHERE {where} AND number > ? ORDER BY number LIMIT ? OFFSET ?"  # noqa: S608
        last, left = 0, count
        while left:
            size = _STEP if left < 0 else min(_STEP, left)
            with self._database() as base:
                page = base.execute(text, [*values, last, size, start]).fetchall()
            yield from map(_row, page)
            if len(page) < size:
                return
            last, start, left = page[-1][0], 0, left - size if left > 0 else left

    def row(self, number: int) -> LabelRow | None:
        """The row of that number, if there is one."""
        with self._database() as base:
            values = base.execute(f"SELECT {_COLUMNS} FROM rows WHERE number = ?", [number]).fetchone()  # noqa: S608
        return None if values is None else _row(values)

    def rows_of_images(self, image_ids: Iterable[str]) -> Iterator[LabelRow]:
        """The rows of images, copies too, in no particular order."""
        ids = list(image_ids)
        with self._database() as base:
            for start in range(0, len(ids), _STEP):
                part = ids[start : start + _STEP]
                marks = ",".join("?" * len(part))
                yield from map(_row, base.execute(f"SELECT {_COLUMNS} FROM rows WHERE image IN ({marks})", part))  # noqa: S608

    def rows_of_numbers(self, numbers: Sequence[int]) -> list[LabelRow | None]:
        """The rows of these numbers; None where there is none."""
        rows: dict[int, LabelRow] = {}
        with self._database() as base:
            for start in range(0, len(numbers), _STEP):
                part = numbers[start : start + _STEP]
                marks = ",".join("?" * len(part))
                text = f"SELECT {_COLUMNS} FROM rows WHERE number IN ({marks})"  # noqa: S608
                rows |= {row.number: row for row in map(_row, base.execute(text, part))}
        return [rows.get(number) for number in numbers]

    def version(self) -> tuple[int, int]:
        """Another value whenever rows were added or changed."""
        with self._database() as base:
            newest = base.execute("SELECT max(number) FROM rows").fetchone()[0] or 0
        return newest, int(self.fact("changes") or 0)

    @contextmanager
    def attached(self, base: sqlite3.Connection, name: str) -> Iterator[None]:
        """Let another database, which was opened with ``uri``, read the table ``rows`` under a name, in the block."""
        path = self.path / _ROWS
        try:
            base.execute(f"ATTACH ? AS {name}", [f"{path.absolute().as_uri()}?mode=ro"])
            try:
                yield
            finally:
                if base.in_transaction:
                    base.rollback()
                base.execute(f"DETACH {name}")
        except sqlite3.Error as error:
            raise _database_error(path, error) from error

    def counts_by(self, *columns: str) -> dict[tuple[Any, ...], int]:
        """How many rows there are of each combination of values.

        Args:
            columns: of ``status``, ``label`` and ``second``.
        """
        if not set(columns) <= {"status", "label", "second"}:
            raise UsageError(f"cannot count by {columns}", remedy="Count by status, label or second")
        names = ", ".join(columns)
        with self._database() as base:
            counted = base.execute(f"SELECT count(*), {names} FROM rows GROUP BY {names}")  # noqa: S608
            return {tuple(values): int(number) for number, *values in counted}

    # --- writing, by one process at a time ---------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the database, if it is not there."""
        with self._database(write=True):
            pass

    def known(self, keys: Sequence[bytes]) -> list[KnownRow | None]:
        """What is known of each image of these keys; None of one that was never met."""
        known: dict[bytes, KnownRow] = {}
        with self._database() as base:
            for start in range(0, len(keys), _STEP):
                part = keys[start : start + _STEP]
                marks = ",".join("?" * len(part))
                text = f"SELECT key, number, stamp, status, generation, image FROM rows WHERE key IN ({marks})"  # noqa: S608
                for key, *values in base.execute(text, part):
                    known[bytes(key)] = KnownRow(*values)
        return [known.get(key) for key in keys]

    def statuses_after(self, number: int, count: int) -> list[tuple[int, Status]]:
        """Number and status of the next rows after a number, in order."""
        with self._database() as base:
            text = "SELECT number, status FROM rows WHERE number > ? ORDER BY number LIMIT ?"
            return base.execute(text, [number, count]).fetchall()

    def locations(self, numbers: Sequence[int]) -> dict[int, ImageLocation]:
        """Where the images of rows are, by number."""
        locations: dict[int, ImageLocation] = {}
        with self._database() as base:
            for start in range(0, len(numbers), _STEP):
                part = numbers[start : start + _STEP]
                marks = ",".join("?" * len(part))
                text = f"SELECT number, location FROM rows WHERE number IN ({marks})"  # noqa: S608
                for number, location in base.execute(text, part):
                    locations[number] = ImageLocation.from_json(json.loads(location))
        return locations

    def mark_vanished(self, numbers: Sequence[int], reason: str) -> None:
        """Say of rows that their images are no longer there; what they were labelled as stays."""
        with self._database(write=True) as base, base:
            base.executemany(
                "UPDATE rows SET status = 'vanished', reason = ? WHERE number = ?",
                [(reason, number) for number in numbers],
            )

    def relabel(self, rows: Sequence[LabelRow], generation: int) -> None:
        """Replace what is said of the images of rows that are there, all or none; the images stay as they are.

        Args:
            rows: with their numbers.
            generation: of the labels.
        """
        with self._database(write=True) as base, base:
            base.executemany(
                "UPDATE rows SET status = :status, label = :label, second = :second, confidence = :confidence, "
                "margin = :margin, ranking = :ranking, known = :known, views = :views, reason = :reason, "
                "generation = :generation WHERE number = :number",
                [{**_said(row), "generation": generation, "number": row.number} for row in rows],
            )

    def judge(self, threshold: float, known_threshold: float | None, reasons: Mapping[Status, str]) -> int:
        """Give all rows with a label the status that thresholds give them; see ``Thresholds.judge``, which it follows.

        Returns:
            How many rows changed.
        """
        values = {
            "threshold": threshold,
            "known": known_threshold,
            "doubtful": reasons["doubtful"],
            "rejected": reasons["rejected"],
        }
        with self._database(write=True) as base, base:
            return base.execute(_JUDGE, values).rowcount

    def add_rows_of(self, other: LabelFolder) -> None:
        """Add the rows of another folder of the same classes, in their order; those of images that have one stay out.

        Raises:
            StorageError: the other one cannot be read, or this one not be written.
        """
        names = ", ".join(_FIELDS)
        with self._database(write=True) as base, other.attached(base, "other"):
            base.execute(f"INSERT OR IGNORE INTO rows ({names}) SELECT {names} FROM other.rows ORDER BY number")  # noqa: S608
            base.commit()

    def fact(self, name: str) -> Any:
        """A JSON value that was set before; None if there is none."""
        with self._database() as base:
            row = base.execute("SELECT value FROM facts WHERE name = ?", [name]).fetchone()
        return None if row is None else json.loads(row[0])

    def set_fact(self, name: str, value: Any) -> None:
        """Remember a JSON value in the database."""
        with self._database(write=True) as base, base:
            base.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", [name, json.dumps(value)])

    def store(
        self,
        entries: Sequence[tuple[bytes, str, LabelRow]],
        generation: int = 0,
        facts: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Add rows, or replace those of the same keys, all or none.

        Args:
            entries: of each row the key of its image, unique in the folder, the stamp of its file, and the row.
            generation: of the labels.
            facts: are set with the rows.

        Returns:
            The numbers of the rows.
        """
        with self._database(write=True) as base, base:
            base.executemany(
                "INSERT OR REPLACE INTO facts VALUES (?, ?)",
                [(name, json.dumps(value)) for name, value in (facts or {}).items()],
            )
            return [
                int(
                    base.execute(
                        _UPSERT,
                        {
                            "key": key,
                            "path": row.path,
                            "location": json.dumps(row.location.as_json() if row.location else {}),
                            "stamp": stamp,
                            "image": row.image_id,
                            **_said(row),
                            "generation": generation,
                        },
                    ).fetchone()[0]
                )
                for key, stamp, row in entries
            ]


_FIELDS = (
    *("key", "path", "location", "stamp", "image", "status", "label", "second", "confidence", "margin", "ranking"),
    *("known", "views", "reason", "generation"),
)
_UPSERT = (
    f"INSERT INTO rows ({', '.join(_FIELDS)}) VALUES ({', '.join(f':{name}' for name in _FIELDS)}) "  # noqa: S608
    f"ON CONFLICT (key) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _FIELDS[1:])} RETURNING number"
)

_JUDGED = (
    "CASE WHEN :known IS NOT NULL AND known < :known THEN 'rejected' "
    "WHEN confidence < :threshold OR margin < 0 THEN 'doubtful' ELSE 'labelled' END"
)
_JUDGE = (
    f"UPDATE rows SET status = {_JUDGED}, "  # noqa: S608
    f"reason = CASE {_JUDGED} WHEN 'rejected' THEN :rejected WHEN 'doubtful' THEN :doubtful ELSE '' END "
    f"WHERE status IN ('labelled', 'doubtful', 'rejected') AND status != {_JUDGED}"
)


def _said(row: LabelRow) -> dict[str, Any]:
    """What a row says of its image, as columns of the database."""
    return {
        "status": row.status,
        "label": row.label,
        "second": row.ranking[1].position if len(row.ranking) > 1 else None,
        "confidence": row.confidence,
        "margin": row.margin,
        "ranking": json.dumps([[entry.position, entry.confidence] for entry in row.ranking]),
        "known": row.known,
        "views": row.views,
        "reason": row.reason,
    }


def _row(values: Sequence[Any]) -> LabelRow:
    number, path, location, image, status, ranking, known, views, reason = values
    return LabelRow(
        path=path,
        status=status,
        ranking=tuple(ClassConfidence(position, confidence) for position, confidence in json.loads(ranking)),
        reason=reason,
        image_id=image,
        known=known,
        views=views,
        location=ImageLocation.from_json(json.loads(location)),
        number=number,
    )


def _database_error(path: Path, error: sqlite3.Error) -> StorageError:
    code = getattr(error, "sqlite_errorname", "")
    if code == "SQLITE_FULL":
        return StorageError(f"cannot write {str(path)!r}: no space left on device", remedy="Free some space")
    again = "run the `abs label` command of the folder again: what was computed is in the cache"
    remedy = "Check the folder and its permissions"
    if not path.exists():
        return StorageError(f"there is no {str(path)!r}", remedy=again.capitalize())
    if code in ("SQLITE_CORRUPT", "SQLITE_NOTADB") or "no such table" in str(error):
        remedy = f"Remove the file and {again}"
    elif code.startswith("SQLITE_IOERR"):
        remedy = "Check the disk, its free space and your quota"
    return StorageError(f"cannot use {str(path)!r}: {error}", remedy=remedy)
