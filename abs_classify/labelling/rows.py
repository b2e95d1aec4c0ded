"""What a labelling run says of an image: one row. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from abs_classify.labelling.locations import ImageLocation
from abs_core.labels import ClassLabel

__all__ = ["COLUMNS", "STATUSES", "ClassConfidence", "LabelRow", "Status", "table_cells", "table_names"]

#: what became of an image: the label can be used; its confidence is below the threshold; it shows none of the classes;
#: it cannot be read; it is no longer there; a reviewer has decided
Status: TypeAlias = Literal["labelled", "doubtful", "rejected", "failed", "vanished", "reviewed"]

STATUSES: tuple[Status, ...] = ("labelled", "doubtful", "rejected", "failed", "vanished", "reviewed")

#: the header of ``labels.csv``
COLUMNS = ("path", "label", "confidence", "second_label", "margin", "status", "reason")


@dataclass(frozen=True, slots=True)
class ClassConfidence:
    """A class and the confidence that an image shows it.

    Attributes:
        position: of the class in the label space.
        confidence: in [0, 1].
    """

    position: int
    confidence: float


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One image of a run, as the model saw it.

    Attributes:
        path: the image as the user named it: the path of its file, with ``::NAME`` for an image in an archive and
            ``#xywh=X,Y,W,H`` for a box of an image.
        status: what became of it; ``reviewed`` only after decisions were merged.
        ranking: the best classes, best first; the label is the first. Empty where the image could not be read.
        reason: why it is doubtful, rejected, failed or vanished; empty for a label that can be used.
        image_id: the sha256 of the image's bytes, of a box that of its pixels as they are encoded; empty where they
            could not be read. Copies have the same one.
        known: how similar the image is to the label space, larger for images of its classes; None if not asked for.
        views: how many views of each kind were looked at; None where it was a fixed number.
        location: where the image is.
        number: of the row in its folder, from 1 on, in the order in which images were first met; 0 before it is stored.
    """

    path: str
    status: Status
    ranking: tuple[ClassConfidence, ...] = ()
    reason: str = ""
    image_id: str = ""
    known: float | None = None
    views: int | None = None
    location: ImageLocation | None = field(default=None, compare=False)
    number: int = field(default=0, compare=False)

    @property
    def label(self) -> int | None:
        """The position of the class that was chosen; None if there is none."""
        return self.ranking[0].position if self.ranking else None

    @property
    def confidence(self) -> float | None:
        """The confidence of the label."""
        return self.ranking[0].confidence if self.ranking else None

    @property
    def margin(self) -> float | None:
        """The confidence of the label less that of the second class; the label's own where it is the only class."""
        if not self.ranking:
            return None
        return self.ranking[0].confidence - (self.ranking[1].confidence if len(self.ranking) > 1 else 0.0)


def table_names(classes: Sequence[ClassLabel]) -> tuple[str, ...]:
    """What a class is called in tables: its name; with its id where several classes have the name."""
    counts = Counter(label.name for label in classes)
    return tuple(label.name if counts[label.name] == 1 else f"{label.name} ({label.id})" for label in classes)


def table_cells(row: LabelRow, names: Sequence[str]) -> dict[str, Any]:
    """The values of ``COLUMNS``, None for an empty cell.

    Args:
        row: the row.
        names: ``table_names`` of the classes.
    """
    second = row.ranking[1].position if len(row.ranking) > 1 else None
    return {
        "path": row.path,
        "label": None if row.label is None else names[row.label],
        "confidence": row.confidence,
        "second_label": None if second is None else names[second],
        "margin": row.margin,
        "status": row.status,
        "reason": row.reason,
    }
