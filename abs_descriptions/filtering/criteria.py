"""What a description must fulfil to stay, and the decision on it. Imports neither numpy nor an encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from abs_core.errors import UsageError
from abs_descriptions.generation.cleaning import RejectionReason

__all__ = ["Criteria", "Decision", "Decisions", "TextCriteria"]


@dataclass(frozen=True)
class Criteria:
    """What a sentence must fulfil to stay; None turns a criterion off.

    Args:
        near_duplicate: two sentences of a class with at least this cosine are near duplicates, in (0, 1].
        off_topic: a sentence whose similarity to its class has a modified z-score below minus this is off-topic.
        nearer: how much more similar a sentence may be to another class than to its own, a difference of cosines.
        keep: at most this many sentences of each class, chosen for being typical and diverse.
        diversity: weight of dissimilarity to the sentences already chosen for ``keep``, in [0, 1]: 0 takes the most
            typical sentences, 1 those farthest apart.
        least: the minimum that ``off_topic`` and ``nearer`` leave of a class; the best ones stay.

    Raises:
        UsageError: a number out of its range.
    """

    near_duplicate: float | None = 0.95
    off_topic: float | None = 3.5
    nearer: float | None = 0.1
    keep: int | None = None
    diversity: float = 0.5
    least: int = 1

    def __post_init__(self) -> None:
        _validate_near_duplicate(self.near_duplicate, "cosine")
        for name, value in (("off_topic", self.off_topic), ("nearer", self.nearer)):
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise UsageError(f"{name} must be a number of at least 0, got '{value}'", remedy="Give a larger number")
        if not 0 <= self.diversity <= 1:
            raise UsageError(f"diversity must be in [0, 1], got {self.diversity}", remedy="Give a number in this range")
        if self.least < 1 or (self.keep is not None and self.keep < 1):
            value = self.least if self.least < 1 else self.keep
            raise UsageError(f"least and keep must be at least 1, got {value}", remedy="Give larger numbers")


@dataclass(frozen=True)
class TextCriteria:
    """What a text must fulfil to stay where nothing but its characters is compared. Copies always go.

    Args:
        near_duplicate: two texts of a class with at least this similarity are near duplicates, in (0, 1]: the Jaccard
            index of their sets of three consecutive characters, no cosine. None turns the criterion off.

    Raises:
        UsageError: the number is out of its range.
    """

    near_duplicate: float | None = 0.8

    def __post_init__(self) -> None:
        _validate_near_duplicate(self.near_duplicate, "similarity")


@dataclass(frozen=True)
class Decision:
    """The decision on one sentence.

    Args:
        reason: why it is removed; None if it stays.
        measured: the numbers that were compared, by name.
        neighbour: position of the sentence it was compared with, if any.
        rival: position of the nearest class other than its own, if any.
    """

    reason: RejectionReason | None
    measured: Mapping[str, float]
    neighbour: int | None = None
    rival: int | None = None


@dataclass(frozen=True)
class Decisions:
    """The decisions on all sentences.

    Args:
        decisions: one for each sentence, in the order of the input.
        protected: number of sentences that stay only because of ``least``.
    """

    decisions: tuple[Decision, ...]
    protected: int


def _validate_near_duplicate(limit: float | None, measure: str) -> None:
    if limit is not None and not 0 < limit <= 1:
        raise UsageError(f"near_duplicate must be in (0, 1], got {limit}", remedy=f"Give a {measure} in this range")
