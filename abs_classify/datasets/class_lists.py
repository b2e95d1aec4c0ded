"""Classes that data knows by a number only: the list that gives the numbers their meaning, and stable ids for it."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from abs_classify.datasets.base import DatasetClass, class_id
from abs_core.errors import DatasetError, UnknownNameError
from abs_core.files import data_folder

__all__ = ["BenchmarkLabels", "fold", "label_at", "label_set", "numbered_classes", "shipped_label_sets"]


@dataclass(frozen=True)
class BenchmarkLabels:
    """The classes of a published data set.

    Args:
        name: of the set, such as ``imagenet``.
        classes: in the official order, so that an official number is a position.
    """

    name: str
    classes: tuple[DatasetClass, ...]

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The ids in the official order."""
        return tuple(each.id for each in self.classes)

    @cached_property
    def _folded(self) -> dict[str, str]:
        return {fold(each.id): each.id for each in self.classes}

    @cached_property
    def names(self) -> dict[str, str]:
        """Id to name."""
        return {each.id: each.name for each in self.classes}

    def find(self, text: str) -> str | None:
        """The id that is ``text`` but for case and for what joins its words; None if there is none.

        ``HandstandPushups``, ``Handstand_Pushups`` and ``handstand pushups`` are one id; so are
        ``apartment_building/outdoor`` and ``apartment_building-outdoor``.
        """
        return self._folded.get(fold(text))

    def at(self, number: int) -> str | None:
        """The id at a position, from 0 on; None where there is none."""
        return self.ids[number] if 0 <= number < len(self.ids) else None


def fold(text: str) -> str:
    """Letters and digits alone, in lower case. No two ids of a shipped set fold to the same."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())


def label_set(name: str) -> BenchmarkLabels:
    """A shipped label set.

    Raises:
        UnknownNameError: there is no such set; lists the shipped ones.
    """
    if name not in shipped_label_sets():
        raise UnknownNameError("label set", name, shipped_label_sets(), remedy="See `abs gen-descriptions --help`")
    content = json.loads((data_folder() / "labels" / f"{name}.json").read_text(encoding="utf-8"))
    return BenchmarkLabels(name, tuple(DatasetClass(each["id"], each["name"]) for each in content["classes"]))


def shipped_label_sets() -> tuple[str, ...]:
    """The names of the shipped label sets, sorted."""
    return tuple(sorted(path.stem for path in (data_folder() / "labels").glob("*.json")))


# Sources spell names differently ("tench, Tinca tinca"); a list in another order has next to none in common.
_ALIKE = 0.5


def numbered_classes(names: Sequence[str] | None, chosen: str | None, place: str) -> tuple[DatasetClass, ...]:
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
    return tuple(DatasetClass(class_id(one, place), name) for one, name in zip(ids, names, strict=True))


def label_at(classes: Sequence[DatasetClass], number: int, place: str) -> str:
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


def _check(names: Sequence[str], known: BenchmarkLabels, place: str) -> None:
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
