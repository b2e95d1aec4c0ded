"""Which sentences differ between two versions of a bundle, as their label spaces have them. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from abs_core.descriptions import Description, LabelSpace
from abs_core.errors import UsageError
from abs_core.text import counted, printable, quoted

__all__ = ["ChangedSentence", "changed_sentences", "require_same_classes", "undone"]

# The share of words that an edited sentence has in common with the one before it, and how many classes an error names.
_CLOSE, _NAMED = 0.6, 5

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class ChangedSentence:
    """One change to the sentences of a class.

    Attributes:
        class_id: the class.
        old: what the old version has; None for a sentence that was added.
        new: what the new version has; None for a sentence that was removed.
    """

    class_id: str
    old: Description | None
    new: Description | None

    @property
    def kind(self) -> Literal["added", "removed", "edited"]:
        """What was done."""
        if self.old is None:
            return "added"
        return "removed" if self.new is None else "edited"

    @property
    def texts(self) -> tuple[str, ...]:
        """The old text, then the new one, those that there are."""
        return tuple(description.text for description in (self.old, self.new) if description is not None)


def require_same_classes(old: LabelSpace, new: LabelSpace) -> None:
    """Check that the same classes compete, under the same names, in whatever order.

    Raises:
        UsageError: they do not; the message names the difference.
    """
    before, after = old.names, new.names
    differences = [
        f"{counted(len(ids), 'class', 'classes')} {where}: {_listed(ids)}"
        for where, ids in (
            ("only in OLD", [class_id for class_id in before if class_id not in after]),
            ("only in NEW", [class_id for class_id in after if class_id not in before]),
        )
        if ids
    ]
    renamed = [class_id for class_id, name in after.items() if before.get(class_id, name) != name]
    if renamed:
        names = ", ".join(f"{quoted(before[i])} is {quoted(after[i])} in NEW" for i in renamed[:_NAMED])
        beyond = f" and {len(renamed) - _NAMED} more" if len(renamed) > _NAMED else ""
        differences.append(f"{counted(len(renamed), 'class has', 'classes have')} another name: {names}{beyond}")
    if differences:
        raise UsageError(
            f"{printable(old.source)} and {printable(new.source)} have different label sets: {'; '.join(differences)}",
            remedy="Test two versions of one bundle; accuracies over different classes cannot be paired",
        )


def _listed(ids: Sequence[str]) -> str:
    beyond = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return ", ".join(map(quoted, ids[:_NAMED])) + beyond


def changed_sentences(old: LabelSpace, new: LabelSpace) -> list[ChangedSentence]:
    """What differs, class after class in the order of ``new``; the order of sentences is no difference.

    A sentence that is gone and one that is new are an edit where they have one id; failing that, where the new one says
    that a reviewer edited what came from the same answer of a generator; failing that, where they share most words.

    Args:
        old, new: label spaces of the same classes.
    """
    before, after = old.descriptions or {}, new.descriptions or {}
    return [
        change
        for class_id in new.names
        for change in _class_changes(class_id, before.get(class_id, ()), after.get(class_id, ()))
    ]


def undone(changes: Sequence[ChangedSentence], new: Sequence[Description]) -> list[Description]:
    """The sentences of a class in the new version as they would be without some of its changes.

    Args:
        changes: of this class, out of ``changed_sentences``.
        new: all of its sentences in the new version.
    """
    replaced: dict[tuple[str, str], list[ChangedSentence]] = defaultdict(list)
    for change in changes:
        if change.new is not None:
            replaced[_key(change.new)].append(change)
    kept = []
    for description in new:
        if of_this := replaced.get(_key(description)):
            change = of_this.pop()
            kept += [] if change.old is None else [change.old]
        else:
            kept.append(description)
    return kept + [change.old for change in changes if change.new is None and change.old is not None]


def _key(description: Description) -> tuple[str, str]:
    """What of a description decides how it is encoded."""
    return description.text, description.kind


def _class_changes(class_id: str, old: Sequence[Description], new: Sequence[Description]) -> Iterator[ChangedSentence]:
    if list(map(_key, old)) == list(map(_key, new)):
        return
    gone, added = _without(old, new), _without(new, old)
    origins = _origins(gone, added)
    for place, description in enumerate(added):
        yield ChangedSentence(class_id, gone[origins[place]] if place in origins else None, description)
    edited = set(origins.values())
    for number, description in enumerate(gone):
        if number not in edited:
            yield ChangedSentence(class_id, description, None)


def _without(descriptions: Sequence[Description], others: Sequence[Description]) -> list[Description]:
    """The descriptions that ``others`` lacks; one that appears twice here and once there is lacking once."""
    there, lacking = Counter(map(_key, others)), []
    for description in descriptions:
        if there[_key(description)]:
            there[_key(description)] -= 1
        else:
            lacking.append(description)
    return lacking


def _origins(gone: Sequence[Description], added: Sequence[Description]) -> dict[int, int]:
    """Position of an added sentence to that of the one that it was, among those that are gone."""
    words = [frozenset(_WORD.findall(description.text.casefold())) for description in (*gone, *added)]
    pairs = []
    for place, new in enumerate(added):
        for number, old in enumerate(gone):
            likeness = _likeness(words[number], words[len(gone) + place])
            rank = _evidence(old, new)
            if rank or likeness >= _CLOSE:
                pairs.append((-rank, -likeness, place, number))
    origins: dict[int, int] = {}
    used: set[int] = set()
    for _, _, place, number in sorted(pairs):
        if place not in origins and number not in used:
            used.add(number)
            origins[place] = number
    return origins


def _evidence(old: Description, new: Description) -> int:
    """How surely a record says that it was the other one: 2 by its id, 1 by a reviewer's mark, 0 not at all."""
    if new.id is not None and new.id == old.id:
        return 2
    before, after = old.provenance, new.provenance
    same = (before.generator, before.sample, before.prompt, before.request) == (
        after.generator,
        after.sample,
        after.prompt,
        after.request,
    )
    return int(after.edited_by is not None and bool(after.generator) and same)


def _likeness(first: frozenset[str], second: frozenset[str]) -> float:
    """The share of words that two sentences have in common (Dice), 0 to 1."""
    return 2 * len(first & second) / (len(first) + len(second)) if first or second else 0.0
