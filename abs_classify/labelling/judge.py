"""From what was seen of an image to its row: label, confidence, status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from abs_classify.encoding.samples import IdentifiedSample, UnreadableSample
from abs_classify.labelling.confidence import ConfidenceModel, class_rankings, without_negatives
from abs_classify.labelling.rows import ClassConfidence, LabelRow, Status

if TYPE_CHECKING:
    import numpy as np

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
    """The thresholds of a run."""
    return Thresholds(threshold if threshold is not None else 1.5 / classes, 0.5 if none else None)


class Judge:
    """Makes the rows of images.

    Args:
        classes: C, how many classes there are; what the evidence has beyond them are negatives.
        thresholds: for the status.
        with_known: whether rows say how similar the image is to the label space.
    """

    def __init__(self, classes: int, thresholds: Thresholds, *, with_known: bool = False) -> None:
        self._classes, self._thresholds = classes, thresholds
        self._with_known, self._model = with_known, ConfidenceModel()

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
        labels, confidences, known = self._confidences(seen)
        rankings = class_rankings(confidences, labels, _KEPT)
        position, skipped = 0, iter(seen.skipped)
        rows = []
        for image, entry in zip(listed, entries, strict=True):
            if position < len(seen.images) and entry is seen.images[position]:
                views = None if seen.looked is None else int(seen.looked[position])
                similarity = None if known is None else float(known[position])
                ranking = tuple(
                    ClassConfidence(index, round(float(confidences[position, index]), 6))
                    for index in rankings[position].tolist()
                )
                rows.append(self._row(image, entry.id, ranking, similarity, views))
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
        row = LabelRow(image.path, "labelled", ranking, "", image_id, known, views, image.location)
        assert row.confidence is not None  # it has a ranking
        assert row.margin is not None
        status = self._thresholds.status(row.confidence, row.margin, known)
        return replace(row, status=status, reason=self._thresholds.reasons.get(status, ""))

    def _confidences(self, seen: Evidence) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Labels int64 [B], confidences [B, C], and similarities to the label space [B] if they are wanted."""
        probabilities, of_classes = without_negatives(seen.probabilities, self._classes)
        confidences = self._model.confidences(probabilities)
        known = probabilities.max(axis=1) * of_classes if self._with_known else None
        return seen.chosen, confidences, known
