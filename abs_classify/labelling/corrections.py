"""The corrections of a labelled folder: gathered, learned from, and its rows labelled anew by what was learned.

labeller = reopen_labeller(folder, "embedded", cache="cache")
learning = learn_from_folder(folder, labeller)
changed = relabel(folder, labeller, learning.learned)
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from abs_classify.labelling.decisions import CurrentDecision, read_decisions
from abs_classify.labelling.judge import Judge, Thresholds, learned_thresholds
from abs_classify.labelling.label_folder import LabelFolder, RowQuery
from abs_classify.labelling.learned import Learned, learned_folder, subject_of_folder
from abs_classify.labelling.learning import CorrectedImages, LearningReport, learn, rest_weights
from abs_classify.labelling.reopening import evidence_of_rows
from abs_classify.labelling.tables import TABLE_FORMATS, TableFormat, TableWriter
from abs_core.errors import UsageError
from abs_core.progress import Progress, no_progress
from abs_core.remarks import Remark, RemarkCounter

if TYPE_CHECKING:
    from abs_classify.labelling.labeller import Evidence, Labeller
    from abs_classify.labelling.rows import LabelRow

__all__ = ["FolderLearning", "learn_from_folder", "relabel"]

# images drawn at random of each kind, of a class and of none, from which on their border is fitted
_MIN_OF_EACH = 10


@dataclass(frozen=True)
class FolderLearning:
    """What was learned from a folder.

    Attributes:
        learned: what the folder keeps from now on.
        report: what it is worth.
        remarks: the decisions that were left out, counted by reason.
    """

    learned: Learned
    report: LearningReport
    remarks: tuple[Remark, ...]


def learn_from_folder(
    folder: LabelFolder, labeller: Labeller, *, accuracy: float | None = None, save: bool = True
) -> FolderLearning:
    """Learn from what the reviewers of a folder decided.

    Args:
        folder: of a run.
        labeller: of the same run, see ``reopen_labeller``.
        accuracy: as ``learn`` takes it.
        save: whether the folder keeps it, for ``relabel`` and for images that are added later.

    Raises:
        UsageError: nothing is decided of any image that is still there.
        StorageError: what was learned cannot be written.
    """
    gathered = _Gathered(folder, labeller)
    images = gathered.images()
    learned, report = learn(images, accuracy=accuracy)
    learned = replace(learned, known=gathered.border(), subject=subject_of_folder(folder))
    if save:
        learned.save(learned_folder(folder))
    return FolderLearning(learned, report, gathered.remarks.remarks)


class _Gathered:
    """The decided images of a folder as arrays.

    Attributes:
        remarks: the decisions that were left out.
    """

    def __init__(self, folder: LabelFolder, labeller: Labeller) -> None:
        decisions = read_decisions(folder.path)
        self.remarks = RemarkCounter(decisions.problems)
        self._positions = {label.id: position for position, label in enumerate(folder.classes)}
        self._folder, self._labeller = folder, labeller
        conflicts = len(decisions.current) - len(decisions.settled)
        for _ in range(conflicts):
            self.remarks.add("left out: an image on which reviewers disagree", "")
        self._decisions = {image: entry for image, entry in decisions.settled.items() if self._is_usable(entry)}
        self._ids: list[str] = []
        self._confidences: list[float] = []
        self._seen: list[tuple[Evidence, list[int]]] = []
        # known scores of images drawn at random, and whether they show none of the classes
        self._known: list[tuple[float, bool]] = []
        self._gather()

    def _is_usable(self, decision: CurrentDecision) -> bool:
        if decision.action == "reject" or decision.label in self._positions:
            return True
        self.remarks.add("left out: a decision for a class that the folder does not have", decision.label)
        return False

    def _gather(self) -> None:
        rows: dict[str, LabelRow] = {}
        for row in self._folder.rows_of_images(self._decisions):
            if row.ranking and row.status != "vanished":
                rows.setdefault(row.image_id, row)
        for image, decision in self._decisions.items():
            if image not in rows:
                self.remarks.add("left out: a decision on an image that is no longer there", decision.path)
        done: set[str] = set()
        in_order = [rows[image] for image in sorted(rows)]
        for part, seen in evidence_of_rows(self._folder, self._labeller, in_order):
            kept = []
            for position, row in enumerate(part):
                done.add(row.image_id)
                decision = self._decisions[row.image_id]
                if row.known is not None and decision.shown_by == "random":
                    self._known.append((row.known, decision.action == "reject"))
                if decision.action == "reject":
                    self.remarks.add("left out: an image of none of the classes; it can fit `known` alone", row.path)
                else:
                    self._ids.append(row.image_id)
                    self._confidences.append(row.confidence or 0.0)
                    kept.append(position)
            self._seen.append((seen, kept))
        for row in in_order:
            if row.image_id not in done:
                self.remarks.add("left out: a decision on an image that cannot be read now", row.path)

    def images(self) -> CorrectedImages:
        if not self._ids:
            lost = [str(remark) for remark in self.remarks.remarks]
            if lost:
                raise UsageError(
                    f"there is nothing to learn from in {str(self._folder.path)!r}: {'; '.join(lost)}",
                    remedy="Bring the images back, or decide others with `abs label review`",
                )
            raise UsageError(
                f"nothing is decided of the images in {str(self._folder.path)!r}",
                remedy="Decide some with `abs label review`, those that are drawn at random among them",
            )
        decisions = [self._decisions[image] for image in self._ids]
        return CorrectedImages(
            self._ids,
            np.concatenate([seen.probabilities[kept] for seen, kept in self._seen]).astype(np.float64),
            np.concatenate([seen.features[kept] for seen, kept in self._seen]).astype(np.float64),
            np.concatenate([seen.chosen[kept] for seen, kept in self._seen]).astype(np.int64),
            np.array([self._positions[decision.label] for decision in decisions], np.int64),
            np.array([decision.shown_by == "random" for decision in decisions], bool),
            self._labeller.class_vectors().astype(np.float64),
            rest_weights(np.array(self._confidences), self._rest()),
        )

    def _rest(self) -> NDArray[np.float64]:
        """The confidences of the labels of all images that nobody has decided."""
        rows = self._folder.rows(RowQuery(statuses=("labelled", "doubtful", "rejected")))
        return np.fromiter(
            (row.confidence for row in rows if row.confidence is not None and row.image_id not in self._decisions),
            np.float64,
        )

    def border(self) -> float | None:
        """The known score that parts images of classes from others with the fewest errors, if there are enough."""
        known = np.array([score for score, _ in self._known])
        is_none = np.array([rejected for _, rejected in self._known], bool)
        if min(is_none.sum(), (~is_none).sum()) < _MIN_OF_EACH:
            return None
        borders = np.unique(known)
        errors = [int((known[~is_none] < border).sum() + (known[is_none] >= border).sum()) for border in borders]
        return float(borders[int(np.argmin(errors))])


def relabel(
    folder: LabelFolder, labeller: Labeller, learned: Learned, thresholds: Thresholds, progress: Progress = no_progress
) -> int:
    """Label the rows of a folder anew by what was learned, and write its tables. Nothing is encoded that is cached.

    Args:
        folder: of a run, not locked by this process.
        labeller: of the same run.
        learned: see ``learn_from_folder``; with nothing learned, rows become what they were at first.
        thresholds: where none were learned.
        progress: shows how many rows are done.

    Returns:
        How many rows have another label than before.

    Raises:
        UsageError: another process is labelling into the folder.
        StorageError: it cannot be written.
    """
    judge = Judge(learned_thresholds(learned, thresholds), learned)
    changed = 0
    formats: list[TableFormat] = [name for name in TABLE_FORMATS if (folder.path / f"labels.{name}").exists()]
    with folder.locked(), ExitStack() as stack:
        advance = stack.enter_context(progress("labelling anew", folder.count(), "images"))
        for rows, seen in evidence_of_rows(folder, labeller, folder.rows()):
            labels = judge.again(seen, rows)
            changed += sum(old.label != new.label for old, new in zip(rows, labels, strict=True))
            folder.relabel(labels, learned.generation)
            advance(len(rows))
        for name in formats:
            stack.enter_context(TableWriter(folder, name))
    return changed
