"""From what was seen of an image to its row: label, confidence, status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from abs_classify.encoding.samples import IdentifiedSample, UnreadableSample
from abs_classify.labelling.confidence import KNOWN_THRESHOLD, class_rankings, doubtful_threshold
from abs_classify.labelling.learned import Learned
from abs_classify.labelling.rows import ClassConfidence, LabelRow, Status

if TYPE_CHECKING:
    from abs_classify.labelling.labeller import Evidence
    from abs_classify.labelling.sources import ListedImage

__all__ = ["Judge", "Thresholds"]

# classes that a row keeps
_KEPT = 5


@dataclass(frozen=True)
class Thresholds:
    """When a label is not to be relied on.

    Attributes:
        confidence: below it a row is doubtful.
        known: below it a row is rejected: the image shows none of the classes; None rejects none.
    """

    confidence: float
    known: float | None = None

    def status(self, confidence: float, margin: float, known: float | None) -> Status:
        """The status of a row."""
        if self.known is not None and known is not None and known < self.known:
            return "rejected"
        return "doubtful" if confidence < self.confidence or margin < 0 else "labelled"

    @property
    def reasons(self) -> dict[Status, str]:
        """What a row's status is explained by."""
        return {"rejected": "like none of the classes", "doubtful": "low confidence"}


def choose_thresholds(classes: int, threshold: float | None, *, none: bool) -> Thresholds:
    """The thresholds of a run.

    Args:
        classes: how many classes there are.
        threshold: of the confidence; None for ``doubtful_threshold``.
        none: whether images may show none of the classes.
    """
    return Thresholds(
        doubtful_threshold(classes) if threshold is None else threshold, KNOWN_THRESHOLD if none else None
    )


def learned_thresholds(learned: Learned, thresholds: Thresholds) -> Thresholds:
    """The thresholds of a run, but those that were learned."""
    return Thresholds(
        thresholds.confidence if learned.threshold is None else learned.threshold,
        thresholds.known if thresholds.known is None or learned.known is None else learned.known,
    )


class Judge:
    """Makes the rows of images.

    Args:
        thresholds: for the status.
        learned: chooses labels and confidences; nothing, if left out.
    """

    def __init__(self, thresholds: Thresholds, learned: Learned | None = None) -> None:
        self._thresholds, self._learned = thresholds, learned or Learned()

    def rows(
        self,
        seen: Evidence,
        listed: Sequence[ListedImage],
        entries: Sequence[IdentifiedSample | UnreadableSample],
    ) -> list[LabelRow]:
        """The rows of one shard, in the order of ``listed``.

        Args:
            seen: of the shard.
            listed: its images.
            entries: their content ids.
        """
        rankings = self._rankings(seen)
        position, skipped = 0, iter(seen.skipped)
        rows = []
        for image, entry in zip(listed, entries, strict=True):
            if position < len(seen.images) and entry is seen.images[position]:
                views = None if seen.looked is None else int(seen.looked[position])
                known = None if seen.known is None else round(float(seen.known[position]), 6)
                rows.append(self._row(image, entry.id, rankings[position], known, views))
                position += 1
            else:
                reason = next(skipped).reason
                image_id = entry.id if isinstance(entry, IdentifiedSample) else ""
                rows.append(LabelRow(image.path, "failed", reason=reason, image_id=image_id, location=image.location))
        return rows

    def _row(
        self,
        image: ListedImage,
        image_id: str,
        ranking: tuple[ClassConfidence, ...],
        known: float | None,
        views: int | None,
    ) -> LabelRow:
        return self._judged(LabelRow(image.path, "labelled", ranking, "", image_id, known, views, image.location))

    def again(self, seen: Evidence, rows: Sequence[LabelRow]) -> list[LabelRow]:
        """Rows with the labels that they have now.

        Args:
            seen: of one shard, of which all images could be read.
            rows: of its images, in order.
        """
        return [
            self._judged(replace(row, ranking=ranking)) for row, ranking in zip(rows, self._rankings(seen), strict=True)
        ]

    def _rankings(self, seen: Evidence) -> list[tuple[ClassConfidence, ...]]:
        """The best classes of each image that could be read, the label first."""
        labels, confidences = self._learned.apply(seen.probabilities, seen.features, seen.chosen)
        return [
            tuple(ClassConfidence(index, round(float(shares[index]), 6)) for index in ranking)
            for ranking, shares in zip(class_rankings(confidences, labels, _KEPT).tolist(), confidences, strict=True)
        ]

    def _judged(self, row: LabelRow) -> LabelRow:
        assert row.confidence is not None  # it has a ranking
        assert row.margin is not None
        status = self._thresholds.status(row.confidence, row.margin, row.known)
        return replace(row, status=status, reason=self._thresholds.reasons.get(status, ""))
