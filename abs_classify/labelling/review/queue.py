"""In which order images come before a reviewer, and which of them were drawn at random. Imports no torch.

The images of a folder, copies once, have two orders. One is random: by a hash of the image's id, so it stays what it is
when images are added. The other is by doubt. The queue joins them: a stated share of its places, every fifth one at a
share of 0.2, belongs to the images that are first in the random order, in that order; the other places have all other
images, the doubtful ones first. So each image has one place, and an image that was drawn keeps it however doubtful it
is.

How right the labels are can be said from images that were drawn at random alone, and only if no reviewer chose among
them. So a decision counts as one on a drawn image (``shown_by`` ``random``) if it was made at a place of the random
order, and at most one in twenty of the images before it in that order lacks such a decision. Whoever looks at a screen
of drawn images and corrects the wrong ones only makes ordinary decisions, and so does whoever finds a drawn image in
another way; it is shown again at its place. The drawn images are then a random sample of all images at any time, also
when a reviewer stops early.
"""

from __future__ import annotations

import hashlib
import sqlite3
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, TypeAlias, get_args

from abs_classify.labelling.decisions import CurrentDecision, ShownBy
from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.rows import STATUSES
from abs_core.errors import UnknownNameError, UsageError

__all__ = ["RANDOM_SHARE", "DecidedFilter", "QueueOrder", "ReviewFilter", "ReviewQueue"]

#: the share of the places of the queue that random images have
RANDOM_SHARE = 0.2

#: the order of images: the queue, least confident first, most confident first, of paths, at random
QueueOrder: TypeAlias = Literal["queue", "doubtful", "confident", "path", "random"]

#: all; those without a decision, or with conflicting ones; decided ones; those on which reviewers disagree
DecidedFilter: TypeAlias = Literal["any", "open", "decided", "conflict"]

# one in so many of the images that were drawn before may lack a decision
_SKIPPED = 20

# counts that are remembered until something is decided
_MOST_COUNTS = 200

_OPEN, _DECIDED, _CONFLICT = 0, 1, 2

# In a database of its own, which is in memory and goes to the disk where it is too large. The column ``random`` is the
# place in the random order, from 1 on, ``queue`` that in the queue, from 0 on; NULL where an image cannot be looked at.
_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE decided (image TEXT PRIMARY KEY, state INTEGER, drawn INTEGER) WITHOUT ROWID;
CREATE TABLE drawn (number INTEGER PRIMARY KEY, random INTEGER, confidence REAL);
CREATE TABLE chosen (number INTEGER PRIMARY KEY, place INTEGER);
CREATE TABLE review (
  number INTEGER PRIMARY KEY, image TEXT, path TEXT, folded TEXT, status TEXT, label INTEGER, second INTEGER,
  confidence REAL, random INTEGER, reserved INTEGER, queue INTEGER, state INTEGER, drawn INTEGER
);
"""
_INDICES = """
CREATE INDEX review_queue ON review (queue, state, drawn, reserved);
CREATE INDEX review_random ON review (random, state, drawn);
CREATE INDEX review_doubt ON review (confidence, number, state);
CREATE INDEX review_path ON review (path, number, state);
CREATE INDEX review_label ON review (label, confidence, number, second, state);
CREATE INDEX review_second ON review (second);
CREATE INDEX review_image ON review (image);
CREATE INDEX review_state ON review (state);
CREATE INDEX review_status ON review (status);
CREATE INDEX review_pair ON review (label, second);
ANALYZE main;
"""

_EMPTY = "DELETE FROM review; DELETE FROM drawn; DELETE FROM chosen;"
_NO_INDICES = "".join(
    f"DROP INDEX IF EXISTS review_{name};"
    for name in ("queue", "random", "doubt", "path", "label", "second", "image", "state", "status", "pair")
)

# The random place r has the place r / share of the queue, rounded up, less 1; a chosen image k, from 0 on, the place
# k + k share / (1 - share), rounded down. These are all places from 0 on, each once.
_FILL = (
    """
INSERT INTO drawn SELECT min(number), row_number() OVER (ORDER BY draw(image)), confidence FROM source.rows
WHERE image != '' AND status NOT IN ('failed', 'vanished') GROUP BY image
""",
    """
INSERT INTO chosen SELECT number, row_number() OVER (ORDER BY confidence IS NULL, confidence, number) - 1 FROM drawn
WHERE random > (SELECT count(*) * :part / :whole FROM drawn)
""",
    """
INSERT INTO review SELECT
  rows.number, rows.image, rows.path, fold(rows.path), rows.status, rows.label, rows.second, rows.confidence,
  random, random IS NOT NULL AND place IS NULL,
  CASE
    WHEN random IS NULL THEN NULL
    WHEN place IS NULL THEN (random * :whole + :part - 1) / :part - 1
    ELSE place + place * :part / (:whole - :part)
  END,
  coalesce(state, 0), coalesce(decided.drawn, 0)
FROM source.rows AS rows
LEFT JOIN drawn ON drawn.number = rows.number
LEFT JOIN chosen ON chosen.number = rows.number
LEFT JOIN decided ON decided.image = rows.image
""",
)

_REMEMBER = "INSERT OR REPLACE INTO decided (state, drawn, image) VALUES (?, ?, ?)"

_ORDERS: Mapping[str, str] = {
    "queue": "queue",
    "random": "random",
    "doubtful": "confidence NULLS LAST, number",
    "confident": "confidence DESC, number",
    "path": "path, number",
}


@dataclass(frozen=True)
class ReviewFilter:
    """Which rows, and in which order.

    Attributes:
        order: of the rows; ``queue`` and ``random`` have the images that can be looked at, copies once.
        statuses: only rows of these; all of them if empty.
        label: only rows with this class position as label.
        second: only rows with this class position in second place.
        decided: only rows with or without decisions.
        search: only rows whose path contains this text, whatever its case.

    Raises:
        UnknownNameError: an order, status or state that there is not.
    """

    order: QueueOrder = "queue"
    statuses: tuple[str, ...] = ()
    label: int | None = None
    second: int | None = None
    decided: DecidedFilter = "any"
    search: str = ""

    def __post_init__(self) -> None:
        for kind, name, valid in (
            ("order", self.order, get_args(QueueOrder)),
            ("state", self.decided, get_args(DecidedFilter)),
            *(("status", status, STATUSES) for status in self.statuses),
        ):
            if name not in valid:
                raise UnknownNameError(kind, name, valid)

    @property
    def is_drawn(self) -> bool:
        """Whether the rows of the random order stand here by chance and not because somebody chose them."""
        is_whole = not self.statuses and self.label is None and self.second is None and not self.search
        return is_whole and self.order in ("queue", "random") and self.decided in ("any", "open")

    def where(self) -> tuple[str, list[Any]]:
        """The condition in SQL, and its values."""
        parts: list[str] = []
        values: list[Any] = []
        if self.order in ("queue", "random"):
            parts.append(f"{self.order} IS NOT NULL")
        if self.statuses:
            parts.append(f"status IN ({','.join('?' * len(self.statuses))})")
            values += self.statuses
        for column, value in (("label", self.label), ("second", self.second)):
            if value is not None:
                parts.append(f"{column} = ?")
                values.append(value)
        if self.decided == "open":
            parts.append(self.is_open())
        elif self.decided != "any":
            parts.append(f"state = {_DECIDED if self.decided == 'decided' else _CONFLICT}")
        if self.search:
            parts.append("instr(folded, ?) > 0")
            values.append(_folded(self.search))
        return " AND ".join(parts) or "1", values

    def is_open(self) -> str:
        """Whether a decision is due, in SQL: there is none, or the image is at its place of the random order, and none
        was made there."""
        return f"(state != {_DECIDED} OR {self.is_due()})"

    def is_due(self) -> str:
        """Whether the image is at its place of the random order, where no decision was made, in SQL."""
        return f"({self.is_drawn_sql()} AND drawn = 0)"

    def is_drawn_sql(self) -> str:
        """Whether a row is at its place of the random order, in SQL."""
        if not self.is_drawn:
            return "0"
        return "reserved" if self.order == "queue" else "1"


class ReviewQueue:
    """The orders of the images of a folder as it is now, with what is decided on each.

    For one thread at a time.

    Args:
        folder: of the run, whose database is there.
        random_share: of the places of the queue, which random images have.
        decisions: what is decided, by image id.

    Raises:
        UsageError: the share is not in [0, 1].
        StorageError: the database cannot be read.
    """

    def __init__(
        self,
        folder: LabelFolder,
        random_share: float = RANDOM_SHARE,
        decisions: Mapping[str, CurrentDecision] | None = None,
    ) -> None:
        if not 0 <= random_share <= 1:
            raise UsageError(f"the share of random images must be in [0, 1], got {random_share:g}")
        self.random_share = random_share
        share = Fraction(str(random_share)).limit_denominator(1000)
        self._share = {"part": share.numerator, "whole": share.denominator}
        self._folder = folder
        self._counts: dict[tuple[Any, ...], Any] = {}
        self._base = sqlite3.connect("", uri=True, check_same_thread=False, isolation_level=None)
        self._base.executescript(_SCHEMA)
        self._base.create_function("draw", 1, _draw, deterministic=True)
        self._base.create_function("fold", 1, _folded, deterministic=True)
        self.version: tuple[int, int] | None = None
        self._base.executemany(_REMEMBER, _states(decisions or {}))
        self.read_rows()

    def close(self) -> None:
        """Let the database go."""
        self._base.close()

    def is_current(self) -> bool:
        """Whether the rows are those that the folder has now."""
        return self.version == self._folder.version()

    def read_rows(self) -> None:
        """Take the rows that the folder has now.

        Raises:
            StorageError: they cannot be read.
        """
        self._counts.clear()
        version = self._folder.version()
        with self._folder.attached(self._base, "source"):
            self._base.executescript(_NO_INDICES + _EMPTY)
            for statement in _FILL:
                self._base.execute(statement, self._share)
            self._base.executescript(_INDICES)
        self.version = version

    def set_decisions(self, decisions: Mapping[str, CurrentDecision | None]) -> None:
        """Take what is decided on images, by image id; None if nothing is."""
        states = _states(decisions)
        self._counts.clear()
        self._base.execute("BEGIN")
        self._base.executemany(_REMEMBER, states)
        self._base.executemany("UPDATE review SET state = ?, drawn = ? WHERE image = ?", states)
        self._base.execute("COMMIT")

    def select(self, query: ReviewFilter, start: int, count: int) -> list[tuple[int, ShownBy, bool]]:
        """Rows in the order of a query: of each its number, why it is shown, and whether a decision is due although
        there may be one, see ``ReviewFilter.is_due``."""
        where, values = query.where()
        text = (
            f"SELECT number, {query.is_drawn_sql()}, {query.is_due()} FROM review WHERE {where} "  # noqa: S608
            f"ORDER BY {_ORDERS[query.order]} LIMIT ? OFFSET ?"
        )
        rows = self._base.execute(text, [*values, count, start])
        return [(number, "random" if is_drawn else "chosen", bool(is_due)) for number, is_drawn, is_due in rows]

    def total(self, query: ReviewFilter) -> int:
        """How many rows a query has."""
        where, values = query.where()
        return int(self._counted(f"SELECT count(*) FROM review WHERE {where}", values)[0][0])  # noqa: S608

    def first_open(self, query: ReviewFilter, start: int) -> int | None:
        """The place in the order of a query, from ``start`` on, of the first row that is open and can be decided."""
        where, values = query.where()
        text = (
            f"SELECT place FROM (SELECT row_number() OVER (ORDER BY {_ORDERS[query.order]}) - 1 AS place, "  # noqa: S608
            f"image != '' AND {query.is_open()} AS is_open FROM review WHERE {where}) "
            "WHERE place >= ? AND is_open LIMIT 1"
        )
        row = self._base.execute(text, [*values, start]).fetchone()
        return None if row is None else int(row[0])

    def counts_by(self, *columns: Literal["status", "label", "second", "state"]) -> list[tuple[Any, ...]]:
        """Combinations of values and how many rows have them, the most frequent ones first."""
        names = ", ".join(columns)
        text = f"SELECT {names}, count(*) FROM review GROUP BY {names} ORDER BY count(*) DESC, {names}"  # noqa: S608
        return self._counted(text, [])

    def reviewed(self) -> int:
        """How many rows are decided, without those on which reviewers disagree."""
        return sum(count for state, count in self.counts_by("state") if state == _DECIDED)

    def drawn(self, numbers: Sequence[int]) -> set[int]:
        """Which of the rows that are about to be decided at their places of the random order count as drawn."""
        marks = ",".join("?" * len(numbers))
        places = self._base.execute(
            f"SELECT random, number, drawn FROM review WHERE random > 0 AND number IN ({marks}) ORDER BY random",  # noqa: S608
            list(numbers),
        ).fetchall()
        counted: set[int] = set()
        newly = 0
        for random, number, is_drawn in places:
            text = "SELECT count(*) FROM review WHERE random < ? AND drawn = 0"
            missing = self._base.execute(text, [random]).fetchone()[0] - newly
            if is_drawn or missing <= (random - 1) // _SKIPPED:
                counted.add(number)
                newly += not is_drawn
        return counted

    def _counted(self, text: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        key = (text, *values)
        if key not in self._counts:
            if len(self._counts) > _MOST_COUNTS:
                self._counts.clear()
            self._counts[key] = self._base.execute(text, values).fetchall()
        counted: list[tuple[Any, ...]] = self._counts[key]
        return counted


def _states(decisions: Mapping[str, CurrentDecision | None]) -> list[tuple[int, int, str]]:
    """State of an image, whether it is drawn, and its id."""
    return [
        (_OPEN, 0, image)
        if decision is None
        else (_CONFLICT if decision.conflict else _DECIDED, int(decision.shown_by == "random"), image)
        for image, decision in decisions.items()
    ]


def _draw(image_id: str) -> bytes:
    """Where an image stands in the random order; another order than those by which learning splits images."""
    return hashlib.sha256(f"abs label review {image_id}".encode()).digest()


def _folded(text: str) -> str:
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()
