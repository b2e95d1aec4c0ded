"""What robustness is measured on: classes hidden, reordered or added, and parts of the images. Pure and seeded.

Every draw follows from the seed, its number, and the ids of classes or images, not from the order in which they are
listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from abs_classify.methods.phrases import LABEL_TEMPLATE, fill
from abs_classify.methods.random import shuffled_order
from abs_core.descriptions import Description, Descriptions, LabelSpace
from abs_core.labels import ClassLabel, LabelSet, compact

__all__ = [
    "added_space",
    "chosen_classes",
    "default_counts",
    "distinct_classes",
    "long_tail",
    "reordered_space",
    "subspace",
]


def chosen_classes(class_ids: Sequence[str], share: float, seed: int, purpose: str) -> list[str]:
    """Some of the classes: their share, rounded, at least one and not all where there are two.

    Args:
        class_ids: K classes, all different.
        share: between 0 and 1.
        seed: of the choice.
        purpose: what it is for, with the number of the draw.
    """
    count = min(max(1, round(share * len(class_ids))), max(1, len(class_ids) - 1))
    return [class_ids[position] for position in shuffled_order(seed, class_ids, purpose)[:count].tolist()]


def subspace(space: LabelSpace, class_ids: Sequence[str]) -> LabelSpace:
    """Some of the classes of a label space, in the order given, with their descriptions.

    Raises:
        KeyError: a class that is not there.
    """
    labels = LabelSet(space.labels.name, tuple(space.labels.by_id[class_id] for class_id in class_ids))
    if space.descriptions is None:
        return LabelSpace(labels, None, space.source)
    described = {class_id: space.descriptions.get(class_id, ()) for class_id in class_ids}
    return LabelSpace(labels, described, space.source)


def reordered_space(space: LabelSpace, seed: int, purpose: str) -> LabelSpace:
    """The same classes in another order."""
    ids = space.labels.ids
    return subspace(space, [ids[position] for position in shuffled_order(seed, ids, purpose).tolist()])


def distinct_classes(space: LabelSpace, others: LabelSpace) -> list[str]:
    """The ids of those of the other classes that are none of the space by id, name or alias, whatever the spelling."""

    def spellings(label: ClassLabel) -> set[str]:
        return {compact(text) for text in (label.id, label.name, *label.aliases)} - {""}

    known = {spelling for label in space.labels.classes for spelling in spellings(label)}
    return [label.id for label in others.labels.classes if not spellings(label) & known]


def default_counts(available: int) -> list[int]:
    """How many classes are added: 10, 100, 1,000, ... below half of those that there are, and all of them."""
    counts = list[int]()
    while (count := 10 ** (len(counts) + 1)) < available / 2:
        counts.append(count)
    return [*counts, available]


def added_space(space: LabelSpace, others: LabelSpace, class_ids: Sequence[str]) -> LabelSpace:
    """The label space with further classes behind its own.

    Where the space has descriptions and an added class has none, "a photo of a {class}." stands for it. Where the space
    has none, the added classes have none.

    Args:
        space: the classes that stay as they are.
        others: has the further classes.
        class_ids: their ids in ``others``; in the new space each has ``added:`` before it.
    """
    added = [others.labels.by_id[class_id] for class_id in class_ids]
    classes = [ClassLabel(f"added:{label.id}", label.name) for label in added]
    labels = LabelSet(space.labels.name, (*space.labels.classes, *classes))
    descriptions: Descriptions | None = None
    if space.descriptions is not None and any(space.descriptions.values()):
        known = others.descriptions or {}
        further = {
            label.id: known.get(original.id) or (Description(fill(LABEL_TEMPLATE, label.name)),)
            for label, original in zip(classes, added, strict=True)
        }
        descriptions = {**space.descriptions, **further}
    return LabelSpace(labels, descriptions, space.source)


def long_tail(
    labels: Sequence[str], image_ids: Sequence[str], factor: float, seed: int, purpose: str
) -> NDArray[np.int64]:
    """Positions of images whose classes have numbers that fall exponentially, as in CIFAR-LT (Cui et al. 2019).

    The k-th of K classes, in an order that is drawn, keeps the largest number of any class over factor^(k / (K - 1)),
    rounded, at least one image, at most those that it has.

    Args:
        labels: the class of each of n images.
        image_ids: of each.
        factor: images of the first class over those of the last, where there are enough.
        seed: of the order of the classes and of the choice of images.
        purpose: what it is for, with the number of the draw.

    Returns:
        int64, ascending.
    """
    members: Mapping[str, list[int]] = {label: [] for label in sorted(set(labels))}
    for position in shuffled_order(seed, image_ids, f"{purpose}: images").tolist():
        members[labels[position]].append(position)
    ids = list(members)
    most = max(map(len, members.values()))
    kept: list[int] = []
    for rank, place in enumerate(shuffled_order(seed, ids, f"{purpose}: classes").tolist()):
        count = max(1, round(most / factor ** (rank / max(1, len(ids) - 1))))
        kept += members[ids[place]][:count]
    return np.sort(np.array(kept, dtype=np.int64))
