"""Whether the numbers of a data set count in the order of a label set: its class names tell. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from abs_core.errors import DatasetError
from abs_core.labels import ClassLabel, LabelSet, compact, fold
from abs_core.text import quoted

__all__ = ["classes_by_name"]

# Sources spell class names differently ("tench, Tinca tinca"); names of other classes agree almost nowhere.
_MIN_AGREEMENT = 0.5
_MIN_SHARE = 0.5
_REMEDY = "Leave out classes=, or name the label set of these images"


def classes_by_name(names: Sequence[str], label_set: LabelSet, where: str) -> tuple[ClassLabel, ...]:
    """The classes of a label set in the order of the names that come with the data.

    A name that is the id, the name or an alias of a class stands for that class, at whatever place it stands. Names
    that the label set does not know stand for the classes at their places, but only while no name stands at the place
    of another: lists in nearly the same order swap a few classes, which nothing else would show.

    Args:
        names: by number; of several alternatives separated by commas one may agree.
        label_set: the label set that the user names.
        where: names the data set in errors.

    Raises:
        DatasetError: another number of classes, other classes, or an order that the names do not make clear.
    """
    if len(names) != len(label_set.classes):
        raise DatasetError(
            f"{where} has {len(names)} classes, but the label set {label_set.name!r} has {len(label_set.classes)}",
            remedy=_REMEDY,
        )
    positions = _positions_by_spelling(label_set)
    agreeing = {number for number, name in enumerate(names) if number in _find(_spellings(name), positions)}
    found = dict(zip(agreeing, agreeing, strict=True))
    for number, name in enumerate(names):
        if number in agreeing:
            continue
        # a later alternative may be the name of another class ("projectile, missile"), so only the first one moves
        elsewhere = set(_find([compact(name), compact(name.split(",")[0])], positions))
        if elsewhere <= agreeing:
            continue
        if len(elsewhere) > 1:
            raise _misplaced(names, number, min(elsewhere), label_set, where)
        found[number] = elsewhere.pop()
    if len(found) < _MIN_AGREEMENT * len(names):
        raise DatasetError(
            f"{where} has other classes than the label set {label_set.name!r}: only {len(found)} of {len(names)} "
            "class names are known there",
            remedy=_REMEDY,
        )
    _complete(found, names, label_set, where)
    return tuple(label_set.classes[found[number]] for number in range(len(names)))


def _positions_by_spelling(label_set: LabelSet) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {}
    for position, label in enumerate(label_set.classes):
        for spelling in {compact(text) for text in (label.id, label.name, *label.aliases)} - {""}:
            positions.setdefault(spelling, []).append(position)
    return positions


def _spellings(name: str) -> list[str]:
    return [compact(name), *(compact(part) for part in name.split(","))]


def _find(spellings: Sequence[str], positions: dict[str, list[int]]) -> list[int]:
    return [position for spelling in spellings for position in positions.get(spelling, ())]


def _complete(found: dict[int, int], names: Sequence[str], label_set: LabelSet, where: str) -> None:
    """Give the names that the label set does not know the classes that are left.

    Raises:
        DatasetError: two names are one class, or a name may belong to another place.
    """
    taken: dict[int, int] = {}
    for number, position in found.items():
        if position in taken:
            raise DatasetError(
                f"{where}: the class names {names[taken[position]]!r} and {names[number]!r} are the same class "
                f"{label_set.ids[position]!r} in the label set {label_set.name!r}",
                remedy=_REMEDY,
            )
        taken[position] = number
    unknown = [number for number in range(len(names)) if number not in found]
    left = [position for position in range(len(names)) if position not in taken]
    moved = next((number for number in sorted(found) if found[number] != number), None)
    if moved is not None and (len(unknown) > 1 or len({compact(name) for name in names}) < len(names)):
        raise _misplaced(names, moved, found[moved], label_set, where, unknown)
    if moved is None:
        for number in unknown:
            likely = _likely_place(names[number], number, left, label_set)
            if likely is not None:
                raise _misplaced(names, number, likely, label_set, where)
    found.update(zip(unknown, left, strict=True))


def _likely_place(name: str, number: int, left: Sequence[int], label_set: LabelSet) -> int | None:
    """Another place whose name shares most of its words with a name, while that at its own place shares none."""
    words = _words(name)
    shares = {position: _common_share(words, _words(label_set.classes[position].name)) for position in left}
    best = max(left, key=lambda position: shares[position])
    return best if shares[best] > _MIN_SHARE and not shares[number] else None


def _words(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", fold(name)))


def _common_share(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(len(one | other), 1)


def _misplaced(
    names: Sequence[str], number: int, position: int, label_set: LabelSet, where: str, unknown: Sequence[int] = ()
) -> DatasetError:
    message = (
        f"{where} has its classes in another order than the label set {label_set.name!r}: the class {number} is "
        f"{quoted(names[number])}, but there it is {quoted(label_set.classes[number].name)}, and "
        f"{quoted(label_set.classes[position].name)} is the class {position}"
    )
    if unknown:
        shown = ", ".join(quoted(names[number]) for number in unknown[:5])
        message += f"; {len(unknown)} names are not in the label set, so their places are not certain ({shown})"
    return DatasetError(message, remedy="Leave out classes=: the names that come with the images count in their order")
