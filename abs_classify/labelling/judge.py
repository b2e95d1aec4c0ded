"""From what was seen of an image to its row: label, confidence, status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from abs_classify.encoding.samples import IdentifiedSample, UnreadableSample
from abs_classify.labelling.confidence import KNOWN_THRESHOLD, ConfidenceModel, class_rankings, doubtful_threshold
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


class Judge:
    """Makes the rows of images.

    Args:
        thresholds: for the status.
    """

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds, self._model = thresholds, ConfidenceModel()

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
        confidences = self._model.confidences(seen.probabilities)
        rankings = class_rankings(confidences, seen.chosen, _KEPT)
        position, skipped = 0, iter(seen.skipped)
        rows = []
        for image, entry in zip(listed, entries, strict=True):
            if position < len(seen.images) and entry is seen.images[position]:
                views = None if seen.looked is None else int(seen.looked[position])
                known = None if seen.known is None else round(float(seen.known[position]), 6)
                ranking = tuple(
                    ClassConfidence(index, round(float(confidences[position, index]), 6))
                    for index in rankings[position].tolist()
                )
                rows.append(self._row(image, entry.id, ranking, known, views))
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
