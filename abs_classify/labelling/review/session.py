"""The review of a folder by one person: its rows and decisions as JSON values, and what that person decides.

Everything that the page asks for, without HTTP. Imports no torch.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from abs_classify.labelling.decisions import Action, DecisionLog, ReviewDecision, ReviewDecisions, ShownBy
from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.review.queue import RANDOM_SHARE, ReviewFilter, ReviewQueue
from abs_classify.labelling.rows import LabelRow
from abs_core.errors import AbsError

__all__ = ["MAX_ROWS", "Entry", "ReviewSession", "StaleEntryError"]

#: rows of one answer
MAX_ROWS = 500

# pairs of classes that are listed
_MOST_PAIRS = 200

# seconds between two looks at rows that a labelling run is adding, and how many times what a look takes
_LOOK, _PAUSE = 5.0, 20.0


class StaleEntryError(AbsError):
    """A decision on what is no longer there: the image or the class is another one now."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A decision as the page makes it.

    Attributes:
        number: of the row.
        image: the id of the image that was seen.
        action: what was decided.
        label: the position of the class, for ``accept`` and ``label``; of ``accept`` the row's own if None.
        shown_by: how the image came before the reviewer.
        resolves: whether it was made in view of the decisions of others.
    """

    number: int
    image: str
    action: Action
    label: int | None = None
    shown_by: ShownBy = "chosen"
    resolves: bool = False


class ReviewSession:
    """A folder under review. Safe for threads.

    Args:
        folder: of the run.
        reviewer: who decides.
        random_share: of the queue, see ``ReviewQueue``.

    Raises:
        UsageError: a name or share that cannot be.
        StorageError: the folder cannot be read.
    """

    def __init__(self, folder: LabelFolder, reviewer: str, random_share: float = RANDOM_SHARE) -> None:
        self.folder = folder
        self._decisions = ReviewDecisions(folder.path)
        self._log = DecisionLog(folder.path, reviewer, self._decisions)
        self._decisions.refresh()
        self._decisions.take_changes()
        self._queue = ReviewQueue(folder, random_share, self._decisions.current)
        self._positions = {label.id: position for position, label in enumerate(folder.classes)}
        self._lock = threading.Lock()
        # what changed, in order; tokens name a place in it, and this session
        self._changes: list[str] = []
        self._start = secrets.token_hex(4)
        self._next_look = 0.0
        self._refresh()

    def close(self) -> None:
        """Let others use the file of decisions."""
        with self._lock:
            self._log.close()
            self._queue.close()

    def __enter__(self) -> ReviewSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self) -> dict[str, Any]:
        """What the run is: classes, counts, how much is reviewed."""
        with self._lock:
            self._refresh()
            counts = dict(self._queue.counts_by("status"))
            labels = [[label, count] for label, count in self._queue.counts_by("label") if label is not None]
            return {
                "title": self.folder.path.resolve().name,
                "reviewer": self._log.reviewer,
                "classes": [
                    {"id": label.id, "name": name}
                    for label, name in zip(self.folder.classes, self.folder.names, strict=True)
                ],
                "total": sum(counts.values()),
                "random_share": self._queue.random_share,
                "counts": counts,
                "reviewed": self._queue.reviewed(),
                "labels": labels,
            }

    def images(self, query: ReviewFilter, start: int, count: int, *, from_open: bool = False) -> dict[str, Any]:
        """Rows in the order of a query.

        Args:
            query: which, in which order.
            start: how many of these to leave out.
            count: how many at most, up to ``MAX_ROWS``.
            from_open: begin with the first one from ``start`` on that is open.

        Returns:
            ``total`` of the query, ``start`` and ``rows``.
        """
        with self._lock:
            self._refresh()
            total = self._queue.total(query)
            if from_open:
                place = self._queue.first_open(query, start)
                start = total if place is None else place
            places = self._queue.select(query, start, min(count, MAX_ROWS))
            return {"total": total, "start": start, "rows": self._values(places)}

    def rows(self, query: ReviewFilter, count: int) -> list[tuple[LabelRow, ShownBy]]:
        """The first rows of a query, each with why it is shown."""
        with self._lock:
            self._refresh()
            places = self._queue.select(query, 0, count)
            rows = self.folder.rows_of_numbers([number for number, _, _ in places])
            return [(row, shown_by) for row, (_, shown_by, _) in zip(rows, places, strict=True) if row is not None]

    def confusions(self) -> list[list[int]]:
        """Labels and second classes, with how many rows have them, the most frequent ones first."""
        with self._lock:
            self._refresh()
            pairs = (pair for pair in self._queue.counts_by("label", "second") if None not in pair)
            return [list(pair) for pair, _ in zip(pairs, range(_MOST_PAIRS), strict=False)]

    def decide(self, entries: Sequence[Entry]) -> dict[str, Any]:
        """Write decisions; they are on the disk when this returns.

        Returns:
            The ``rows`` as they are now.

        Raises:
            StaleEntryError: an image or a class is another one now; then nothing is written.
            StorageError: they cannot be written.
        """
        with self._lock:
            self._refresh()
            rows = self.folder.rows_of_numbers([entry.number for entry in entries])
            drawn = self._queue.drawn(
                [entry.number for entry in entries if entry.shown_by == "random" and entry.action != "undo"]
            )
            self._log.append(
                [
                    self._decision(entry, row, "random" if entry.number in drawn else "chosen")
                    for entry, row in zip(entries, rows, strict=True)
                ]
            )
            self._take_changes()
            places = [(entry.number, entry.shown_by, False) for entry in entries]
            return {"rows": self._values(places), "reviewed": self._queue.reviewed()}

    def changes(self, after: str) -> dict[str, Any]:
        """Rows whose decisions changed, by whomever.

        Args:
            after: the ``token`` of the answer before; empty for a token alone.

        Returns:
            ``token``, ``rows`` and how many rows are ``reviewed``.
        """
        with self._lock:
            self._refresh()
            start, _, place = after.partition("-")
            first = int(place) if start == self._start and place.isdecimal() else len(self._changes)
            images = self._changes[first : first + MAX_ROWS]
            end = min(len(self._changes), first + len(images))
            places: list[tuple[int, ShownBy, bool]] = [
                (row.number, "chosen", False) for row in self.folder.rows_of_images(dict.fromkeys(images))
            ]
            return {
                "token": f"{self._start}-{end}",
                "rows": self._values(places),
                "reviewed": self._queue.reviewed(),
            }

    def row(self, number: int) -> LabelRow | None:
        """The row of that number, if there is one."""
        return self.folder.row(number)

    def _refresh(self) -> None:
        """Take what was decided and labelled since the last time."""
        now = time.monotonic()
        if now >= self._next_look:
            if not self._queue.is_current():
                self._queue.read_rows()
            end = time.monotonic()
            self._next_look = end + max(_LOOK, _PAUSE * (end - now))
        self._decisions.refresh()
        self._take_changes()

    def _take_changes(self) -> None:
        changed = self._decisions.take_changes()
        if changed:
            self._queue.set_decisions({image: self._decisions.current.get(image) for image in changed})
            self._changes += changed

    def _decision(self, entry: Entry, row: LabelRow | None, shown_by: ShownBy) -> ReviewDecision:
        if row is None or not row.image_id or row.image_id != entry.image:
            raise StaleEntryError(f"the image of row {entry.number} is not there", remedy="Load the page again")
        position = row.label if entry.action == "accept" and entry.label is None else entry.label
        needs_label = entry.action in ("accept", "label")
        if needs_label and (position is None or not 0 <= position < len(self.folder.classes)):
            raise StaleEntryError(f"there is no class {position}", remedy="Load the page again")
        label = self.folder.classes[position].id if needs_label and position is not None else ""
        return ReviewDecision(
            image_id=entry.image,
            action=entry.action,
            label=label,
            shown_by=shown_by,
            path=row.path,
            model_label="" if row.label is None else self.folder.classes[row.label].id,
            resolves=entry.resolves,
        )

    def _values(self, places: Sequence[tuple[int, ShownBy, bool]]) -> list[dict[str, Any]]:
        rows = self.folder.rows_of_numbers([number for number, _, _ in places])
        return [
            {
                "number": row.number,
                "image": row.image_id,
                "path": row.path,
                "status": row.status,
                "reason": row.reason,
                "label": row.label,
                "confidence": row.confidence,
                "margin": row.margin,
                "ranking": [[entry.position, entry.confidence] for entry in row.ranking],
                "shown_by": shown_by,
                "due": is_due,
                "decision": self._decision_value(row.image_id),
            }
            for row, (_, shown_by, is_due) in zip(rows, places, strict=True)
            if row is not None
        ]

    def _decision_value(self, image_id: str) -> Mapping[str, Any] | None:
        decision = self._decisions.current.get(image_id)
        if decision is None:
            return None
        return {
            "action": decision.action,
            "label": self._positions.get(decision.label),
            "reviewer": decision.reviewer,
            "time": decision.time,
            "conflict": decision.conflict,
            "others": [
                {"reviewer": other.reviewer, "action": other.action, "label": self._positions.get(other.label)}
                for other in decision.others
            ],
        }
