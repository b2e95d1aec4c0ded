"""The labels of a run with what reviewers decided: the rows that tables, exports and learning start from.

Pure: rows and decisions in, rows out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from abs_classify.evaluation.significance import wilson
from abs_classify.labelling.decisions import CurrentDecision
from abs_classify.labelling.rows import ClassConfidence, LabelRow
from abs_core.labels import ClassLabel
from abs_core.remarks import RemarkCounter

__all__ = ["EffectiveLabels", "ReviewSummary", "preferred"]

# how many conflicts a summary names
_NAMED = 20


@dataclass
class ReviewSummary:
    """What reviewers did with the images of a run. Copies of an image count once.

    Attributes:
        accepted: images whose label is right.
        corrected: images that have another label now.
        rejected: images that show none of the classes.
        undecided: images that could be looked at and have no decision, or conflicting ones.
        conflicts: image path and what its reviewers say, of the first images on which they disagree.
        conflict_count: on how many they disagree.
        drawn: decided images that were drawn at random.
        drawn_right: those of them whose label was right when it was reviewed.
        remarks: decisions that could not be used, counted by reason.
    """

    accepted: int = 0
    corrected: int = 0
    rejected: int = 0
    undecided: int = 0
    conflicts: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    conflict_count: int = 0
    drawn: int = 0
    drawn_right: int = 0
    remarks: RemarkCounter = field(default_factory=RemarkCounter)

    @property
    def accuracy(self) -> tuple[float, float, float] | None:
        """The share of right labels among the images that were drawn at random, and its 95 % interval (Wilson)."""
        if not self.drawn:
            return None
        return (self.drawn_right / self.drawn, *wilson(self.drawn_right, self.drawn))


def preferred(decisions: Mapping[str, CurrentDecision], reviewer: str) -> dict[str, CurrentDecision]:
    """Decisions in which a conflict is settled by what one reviewer says, where that one says anything.

    Args:
        decisions: by image id, as ``ReviewDecisions.current``.
        reviewer: who is right.
    """
    settled = dict(decisions)
    for image, decision in decisions.items():
        if not decision.conflict:
            continue
        if reviewer in decision.reviewers:
            settled[image] = replace(decision, conflict=False)
            continue
        said = next((other for other in decision.others if other.reviewer == reviewer), None)
        if said is not None:
            settled[image] = replace(
                decision,
                action=said.action,
                label=said.label,
                reviewers=(reviewer,),
                time=said.time,
                conflict=False,
                model_label=said.model_label,
            )
    return settled


class EffectiveLabels:
    """Applies decisions to rows, and counts.

    A decided row has the status ``reviewed``, and as its reason who decided what. Its label is the decided class, with
    the confidence that the model had in it (0 if it was not among the best classes), or empty for "none of these". A
    copy of a decided image is decided. All other rows stay as they are.

    Args:
        classes: of the run.
        decisions: what is decided, by image id; those in conflict are not applied.

    Attributes:
        summary: of the rows that ``apply`` was given; whole when all rows have gone through.
    """

    def __init__(self, classes: Sequence[ClassLabel], decisions: Mapping[str, CurrentDecision]) -> None:
        self._positions = {label.id: position for position, label in enumerate(classes)}
        self._names = [label.name for label in classes]
        self._decisions = decisions
        self._seen: set[str] = set()
        # of a million images, in seventy megabytes
        self._undecided: set[int] = set()
        self._unsettled = 0
        self.summary = ReviewSummary()

    def rows(self, rows: Iterable[LabelRow]) -> Iterator[LabelRow]:
        """All rows with what was decided on them; then decisions on images that no row has are counted, too."""
        for row in rows:
            yield self.apply(row)
        for image, decision in self._decisions.items():
            if image not in self._seen:
                self.summary.remarks.add("decisions on images that the folder does not have", decision.path or image)

    def apply(self, row: LabelRow) -> LabelRow:
        """A row with what was decided on its image, which is counted."""
        decision = self._decision_on(row)
        is_first = row.image_id not in self._seen
        if decision is not None:
            self._seen.add(row.image_id)
        if is_first and decision is not None and self._is_usable(decision):
            self._count(row, decision)
        elif is_first:
            self._count_undecided(row, decision)
        return self.effective(row)

    def effective(self, row: LabelRow) -> LabelRow:
        """A row with what was decided on its image; nothing is counted, so nothing of it is kept."""
        decision = self._decision_on(row)
        if decision is None or not self._is_usable(decision):
            return row
        position = self._positions.get(decision.label)
        return replace(
            row,
            status="reviewed",
            ranking=() if position is None else _with_first(row.ranking, position),
            reason=self._reason(decision),
        )

    def _decision_on(self, row: LabelRow) -> CurrentDecision | None:
        return self._decisions.get(row.image_id) if row.image_id else None

    def _is_usable(self, decision: CurrentDecision) -> bool:
        return not decision.conflict and (decision.action == "reject" or decision.label in self._positions)

    def _count(self, row: LabelRow, decision: CurrentDecision) -> None:
        summary = self.summary
        if decision.action == "reject":
            summary.rejected += 1
        elif row.label == self._positions[decision.label]:
            summary.accepted += 1
        else:
            summary.corrected += 1
        if decision.shown_by == "random":
            summary.drawn += 1
            is_right = decision.action != "reject" and decision.label == decision.model_label
            # "none of these" was the answer
            summary.drawn_right += decision.action == "reject" if row.status == "rejected" else is_right

    def _count_undecided(self, row: LabelRow, decision: CurrentDecision | None) -> None:
        summary = self.summary
        if decision is None:
            # a copy is met again; failed images have no id, and nobody can look at vanished ones
            if row.image_id and row.status not in ("failed", "vanished"):
                self._undecided.add(int(row.image_id.removeprefix("sha256:")[:15], 16))
                summary.undecided = len(self._undecided) + self._unsettled
            return
        self._unsettled += 1
        summary.undecided = len(self._undecided) + self._unsettled
        if not decision.conflict:
            summary.remarks.add("decisions for classes that the folder does not have", f"{decision.label}: {row.path}")
            return
        summary.conflict_count += 1
        if len(summary.conflicts) < _NAMED:
            said = [f"{', '.join(decision.reviewers)}: {self._named(decision.action, decision.label)}"]
            said += [f"{other.reviewer}: {self._named(other.action, other.label)}" for other in decision.others]
            summary.conflicts.append((row.path, tuple(said)))

    def _reason(self, decision: CurrentDecision) -> str:
        if decision.action == "reject":
            return f"none of the classes ({decision.reviewer})"
        if decision.model_label in ("", decision.label):
            return f"decided by {decision.reviewer}" if not decision.model_label else f"accepted by {decision.reviewer}"
        return f"corrected by {decision.reviewer}, was {self._named('label', decision.model_label)}"

    def _named(self, action: str, label: str) -> str:
        if action == "reject":
            return "none of the classes"
        position = self._positions.get(label)
        return label if position is None else self._names[position]


def _with_first(ranking: tuple[ClassConfidence, ...], position: int) -> tuple[ClassConfidence, ...]:
    """A ranking with a class moved to its beginning."""
    first = next((entry for entry in ranking if entry.position == position), ClassConfidence(position, 0.0))
    return (first, *(entry for entry in ranking if entry.position != position))
