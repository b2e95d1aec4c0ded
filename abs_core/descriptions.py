"""Descriptions of classes: what a bundle stores and what images are classified with.

docs/bundle-format.md is normative for what a bundle stores.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from abs_core.errors import UsageError
from abs_core.labels import LabelSet

__all__ = [
    "DESCRIPTION_KINDS",
    "Description",
    "DescriptionKind",
    "Descriptions",
    "LabelSpace",
    "Provenance",
    "Rejection",
    "top_by_weight",
]

DescriptionKind: TypeAlias = Literal["sentence", "phrase"]
DESCRIPTION_KINDS: frozenset[str] = frozenset(("sentence", "phrase"))


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a description comes from: a generator of the header, its prompt, and which sample of that prompt."""

    generator: str
    sample: int = 0
    prompt: str | None = None
    request: str | None = None
    """The digest of the request that was answered, where there was one."""
    accepted_by: str | None = None
    """The generator, a reviewer, that accepted the text as it stands."""
    edited_by: str | None = None
    """The generator, a reviewer, that last changed the text; ``generator`` and the rest still say where it began."""


_NO_PROVENANCE = Provenance("")


@dataclass(frozen=True, slots=True)
class Description:
    """One description of one class.

    ``Description("long tail", "phrase")`` is enough to classify with. ``write_bundle`` needs ``class_id`` and
    ``provenance`` as well, and refuses a description without them.

    Args:
        text: the words, not empty.
        kind: a ``sentence`` stands alone ("A bird with a red crest."); a ``phrase`` is a CLIP-D descriptor ("a red
            crest"), which the clause rule completes wherever a sentence is needed.
        class_id: the class in the bundle's label set; empty outside of a bundle.
        provenance: where the text comes from; without a generator outside of a bundle.
        scores: by name, as filters record them.
        id: unique in its class, where the bundle gives ids.
    """

    text: str
    kind: DescriptionKind = "sentence"
    class_id: str = field(default="", kw_only=True)
    provenance: Provenance = field(default=_NO_PROVENANCE, kw_only=True)
    scores: Mapping[str, float] | None = field(default=None, kw_only=True)
    id: str | None = field(default=None, kw_only=True)


#: Class id -> its descriptions.
Descriptions: TypeAlias = Mapping[str, Sequence[Description]]


@dataclass(frozen=True, slots=True)
class Rejection:
    """One completion that was not accepted, with a short reason ("cut-off") and, optionally, what was seen."""

    class_id: str
    text: str
    reason: str
    provenance: Provenance
    detail: str | None = None
    rejected_by: str | None = None
    """The generator, a reviewer, that rejected it; None: a rule did."""


@dataclass(frozen=True)
class LabelSpace:
    """The classes that an image can be assigned to, and what describes them.

    Args:
        labels: the candidate classes; class positions are positions in this set.
        descriptions: class id to descriptions; None if there are only class names.
        source: what to print beside every result: a bundle reference with its digest, or the label set's digest.
    """

    labels: LabelSet
    descriptions: Descriptions | None
    source: str

    @classmethod
    def of_labels(cls, labels: LabelSet) -> LabelSpace:
        """The classes of a label set, without descriptions."""
        return cls(labels, None, f"labels {labels.name}#{labels.digest}")

    @property
    def names(self) -> Mapping[str, str]:
        """Class id to class name, in class order."""
        return self.labels.names


def top_by_weight(
    weights: Sequence[float],
    class_indices: Sequence[Hashable],
    texts: Sequence[str],
    *,
    keep: int | None,
    share: float | None,
) -> tuple[bool, ...]:
    """The descriptions with the largest weights of their class; ties go to the text that comes first.

    Args:
        weights: n weights, none negative.
        class_indices: n classes.
        texts: n texts; they break ties.
        keep: at most this many of each class.
        share: as many of each class as together hold this share of its weight, in (0, 1].

    Returns:
        For each description, whether it stays. Every class keeps at least one.

    Raises:
        UsageError: neither ``keep`` nor ``share``, or one out of range.
    """
    if (keep is None) == (share is None):
        raise UsageError("exactly one of keep and share must be given", remedy="Give one of the two")
    if (keep is not None and keep < 1) or (share is not None and not 0 < share <= 1):
        raise UsageError(
            f"keep must be at least 1 and share in (0, 1], got {keep if share is None else share}",
            remedy="Give a number in this range",
        )
    stays = [False] * len(texts)
    members_of: dict[Hashable, list[int]] = {}
    for position, class_index in enumerate(class_indices):
        members_of.setdefault(class_index, []).append(position)
    for members in members_of.values():
        ranked = sorted(members, key=lambda position: (-weights[position], texts[position]))
        total, held = math.fsum(weights[position] for position in ranked), 0.0
        for rank, position in enumerate(ranked):
            enough = rank >= keep if keep is not None else held >= (share or 1.0) * total and rank > 0
            if enough:
                break
            stays[position] = True
            held += weights[position]
    return tuple(stays)
