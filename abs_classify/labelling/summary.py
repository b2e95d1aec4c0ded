"""What a labelling run did, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abs_classify.labelling.decisions import read_decisions
from abs_classify.labelling.effective import EffectiveLabels
from abs_classify.labelling.rows import STATUSES, Status
from abs_core.text import counted, format_duration

if TYPE_CHECKING:
    from abs_classify.labelling.label_folder import LabelFolder

__all__ = ["LabelSummary"]


@dataclass(frozen=True)
class LabelSummary:
    """The rows of a folder after a run.

    Attributes:
        statuses: how many rows have each status; all statuses are named.
        classes: how many images have each class as their label, by its name in tables, the most first; those that are
            rejected, failed or vanished are left out.
        labelled_now: how many rows this run made or made anew.
        seconds: how long it took.
    """

    statuses: Mapping[Status, int]
    classes: Mapping[str, int]
    labelled_now: int
    seconds: float

    @classmethod
    def of(
        cls, counts: Mapping[tuple[Status, int | None], int], names: Sequence[str], labelled_now: int, seconds: float
    ) -> LabelSummary:
        """The summary of rows.

        Args:
            counts: how many rows have each status and label.
            names: what each class is called in tables.
            labelled_now, seconds: as the attributes.
        """
        statuses, classes = Counter[Status](), Counter[int]()
        for (status, label), count in counts.items():
            statuses[status] += count
            if label is not None and status in ("labelled", "doubtful", "reviewed"):
                classes[label] += count
        ordered = {status: statuses[status] for status in STATUSES}
        return cls(ordered, {names[label]: count for label, count in classes.most_common()}, labelled_now, seconds)

    @classmethod
    def of_folder(cls, folder: LabelFolder, labelled_now: int, seconds: float) -> LabelSummary:
        """The summary of the rows of a folder as its tables show them, with what reviewers decided.

        Args:
            folder: of the run.
            labelled_now, seconds: as the attributes.
        """
        counts = Counter[tuple[Any, ...]](folder.counts_by("status", "label"))
        decisions = read_decisions(folder.path).settled
        labels = EffectiveLabels(folder.classes, decisions)
        for row in folder.rows_of_images(decisions):
            decided = labels.effective(row)
            counts[row.status, row.label] -= 1
            counts[decided.status, decided.label] += 1
        kept = {(status, label): count for (status, label), count in counts.items() if count}
        return cls.of(kept, folder.names, labelled_now, seconds)

    @property
    def images(self) -> int:
        """How many rows there are."""
        return sum(self.statuses.values())

    def lines(self, most: int = 20) -> Iterator[str]:
        """For a terminal: the classes with counts, the most first, and the statuses.

        Args:
            most: how many classes to show.
        """
        rest = sum(list(self.classes.values())[most:])
        width = max(len(str(count)) for count in (*self.classes.values(), rest))
        for name, count in list(self.classes.items())[:most]:
            yield f"{count:>{width}}  {name}"
        if len(self.classes) > most:
            yield f"{rest:>{width}}  in {counted(len(self.classes) - most, 'further class', 'further classes')}"
        parts = [f"{count} {status}" for status, count in self.statuses.items() if count]
        images = counted(self.images, "image", "images")
        yield f"{images}: {', '.join(parts) or 'none'}; {self.labelled_now} now, in {format_duration(self.seconds)}"

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return {
            "images": self.images,
            "statuses": {status: self.statuses.get(status, 0) for status in STATUSES},
            "classes": dict(self.classes),
            "labelled_now": self.labelled_now,
            "seconds": round(self.seconds, 3),
        }
