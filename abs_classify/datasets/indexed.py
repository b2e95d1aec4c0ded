"""Classes that data knows by a number only: the list that gives the numbers their meaning, and stable ids for it."""

from __future__ import annotations

from collections.abc import Sequence

from abs_classify.datasets.base import ClassName, class_id
from abs_classify.datasets.label_sets import LabelSet, fold, label_set, shipped_label_sets
from abs_core.errors import DatasetError

__all__ = ["label_at", "numbered_classes"]

# Sources spell names differently ("tench, Tinca tinca"); a list in another order has next to none in common.
_ALIKE = 0.5


def numbered_classes(names: Sequence[str] | None, chosen: str | None, place: str) -> tuple[ClassName, ...]:
    """The classes in the order of their numbers.

    Args:
        names: the class names that come with the data, by number; None if none do.
        chosen: the shipped label set that the user says they are; None to recognise one whose names are these, in this
            order. Without any, a class's id is its name.
        place: names the data set in errors.

    Raises:
        UnknownNameError: there is no such label set.
        DatasetError: the chosen set has other classes or another order than the names, or nothing names the classes.
    """
    if chosen is not None:
        known = label_set(chosen)
        if names is not None:
            _check(names, known, place)
        return known.classes
    if names is None:
        raise DatasetError(
            f"{place} has numbers for labels, and nothing says which classes they are",
            remedy="Name one of the shipped label sets, such as ?classes=imagenet, if its order is meant",
        )
    folded = [fold(name) for name in names]
    for candidate in map(label_set, shipped_label_sets()):
        if folded in ([fold(each.name) for each in candidate.classes], [fold(one) for one in candidate.ids]):
            return candidate.classes
    twice = {name for name in names if list(names).count(name) > 1} if len(set(names)) < len(names) else set()
    ids = [f"{name} ({number})" if name in twice else name for number, name in enumerate(names)]
    return tuple(ClassName(class_id(one, place), name) for one, name in zip(ids, names, strict=True))


def label_at(classes: Sequence[ClassName], number: int, place: str) -> str:
    """The id of a numbered class.

    Raises:
        DatasetError: the number is out of range.
    """
    if not 0 <= number < len(classes):
        raise DatasetError(
            f"{place} has the label {number}, but there are {len(classes)} classes, numbered from 0",
            remedy="Check that the class names belong to these images",
        )
    return classes[number].id


def _check(names: Sequence[str], known: LabelSet, place: str) -> None:
    remedy = "Leave out classes=, or name the label set that these images have"
    if len(names) != len(known.classes):
        raise DatasetError(
            f"{place} has {len(names)} classes, but the label set {known.name!r} has {len(known.classes)}",
            remedy=remedy,
        )
    alike = 0
    for name, one in zip(names, known.classes, strict=True):
        parts = {fold(name), *(fold(part) for part in name.split(","))}
        alike += bool(parts & {fold(one.id), fold(one.name)})
    if alike < _ALIKE * len(names):
        raise DatasetError(
            f"only {alike} of the {len(names)} class names of {place} stand where {known.name!r} has them, "
            "so its order is another",
            remedy=remedy,
        )
