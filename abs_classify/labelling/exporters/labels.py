"""What is exported of a labelling run: which rows, with which label, and of which image. Imports no torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from abs_classify.labelling.decisions import CurrentDecision
from abs_classify.labelling.label_folder import LabelFolder, RowQuery
from abs_classify.labelling.locations import ImageLocation
from abs_classify.labelling.rows import LabelRow, Status
from abs_core.text import hidden_characters

__all__ = ["EXPORTED_STATUSES", "ExportContents", "ImageLabel", "LabelSelection", "has_plain_path"]

#: the statuses of rows that have a label to export
EXPORTED_STATUSES: tuple[Status, ...] = ("labelled", "doubtful", "reviewed")


@dataclass(frozen=True, slots=True)
class ImageLabel:
    """A label that is exported.

    Attributes:
        row: what the model said.
        position: of the class that the image shows: by the reviewer's decision if there is one, else by the model.
        decision: of a reviewer; None if there is none.
    """

    row: LabelRow
    position: int
    decision: CurrentDecision | None = None

    @property
    def status(self) -> Status:
        """``reviewed`` if a reviewer decided; else that of the row."""
        return self.row.status if self.decision is None else "reviewed"

    @property
    def location(self) -> ImageLocation:
        """Where the image is."""
        assert self.row.location is not None
        return self.row.location

    @property
    def confidence(self) -> float | None:
        """The model's confidence in this class; None if it is not among the best that the row keeps."""
        return next((entry.confidence for entry in self.row.ranking if entry.position == self.position), None)


@dataclass
class ExportContents:
    """What an export will contain.

    Attributes:
        labels: how many labels there are.
        reviewed: how many of them a reviewer decided.
        left_out: how many rows are left out, by reason.
        by_class: how many labels there are of each class position.
        has_boxes: whether some are of a box of an image.
        has_whole_images: whether some are of a whole image.
        last: the largest number of their rows; those that are added later are not exported.
        unnameable: how many of the labels are of images that have no path that any tool can hold.
        common: the folder that contains the files of the others; None if there are none.
    """

    labels: int = 0
    reviewed: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    by_class: Counter[int] = field(default_factory=Counter)
    has_boxes: bool = False
    has_whole_images: bool = False
    last: int = 0
    unnameable: int = 0
    common: Path | None = None

    def add(self, label: ImageLabel) -> None:
        """Count a label."""
        self.labels += 1
        self.reviewed += label.decision is not None
        self.by_class[label.position] += 1
        self.has_boxes |= label.location.box is not None
        self.has_whole_images |= label.location.box is None
        self.last = max(self.last, label.row.number)
        if not has_plain_path(label.location):
            self.unnameable += 1
            return
        parent = label.location.file.parent
        if self.common is None:
            self.common = parent
        elif self.common != parent and self.common not in parent.parents:
            self.common = Path(os.path.commonpath([self.common, parent]))


def has_plain_path(location: ImageLocation) -> bool:
    """Whether the image is a file whose path any tool can hold: valid text, nothing hidden in it."""
    path = str(location.file)
    is_plain = (path.isascii() and path.isprintable()) or not any(hidden_characters(path))
    return is_plain and not location.member


class LabelSelection:
    """The labels of a run that are exported.

    Args:
        folder: of the run.
        decisions: what reviewers decided, by the id of the image. Where they disagree nothing is decided.
        statuses: which rows, by what ``ImageLabel.status`` is.
    """

    def __init__(
        self, folder: LabelFolder, decisions: Mapping[str, CurrentDecision], statuses: tuple[Status, ...]
    ) -> None:
        self._folder, self._decisions, self._statuses = folder, decisions, statuses
        self._positions = {label.id: position for position, label in enumerate(folder.classes)}

    def contents(self) -> ExportContents:
        """Go through all rows, and count."""
        contents = ExportContents()
        for row in self._folder.rows():
            label = self._label(row)
            if isinstance(label, str):
                contents.left_out[label] += 1
            else:
                contents.add(label)
        return contents

    def labels(self, contents: ExportContents) -> Iterator[ImageLabel]:
        """The labels in the order of arrival; those of one image, if there are boxes, one behind another.

        Args:
            contents: what was counted before.
        """
        query = RowQuery(order="path") if contents.has_boxes else RowQuery()
        for row in self._folder.rows(query):
            label = self._label(row)
            if not isinstance(label, str) and row.number <= contents.last:
                yield label

    def _label(self, row: LabelRow) -> ImageLabel | str:
        """The label of a row, or why it has none."""
        if row.status in ("failed", "vanished") or row.location is None:
            return row.status
        decision = self._decisions.get(row.image_id)
        if decision is not None and decision.conflict:
            decision = None
        if decision is not None and decision.action == "reject":
            return "rejected by a reviewer"
        if decision is not None:
            position = self._positions.get(decision.label)
            if position is None:
                return "reviewed, with a class that is none of this run"
            label = ImageLabel(row, position, decision)
        elif row.label is None or row.status == "rejected":
            return "rejected"
        else:
            label = ImageLabel(row, row.label)
        return label if label.status in self._statuses else label.status
