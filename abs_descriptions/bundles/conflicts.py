"""Where bundles that are merged say different things of one sentence, and how that is decided. Pure.

A conflict is decided by a rule (``rule_for``), or by hand: ``serialize_conflicts`` writes a CSV in the manner of review
files, one row a conflict, whose decisions ``parse_conflicts`` reads back. What nobody decided is listed, all at once,
in a ``MergeConflictError``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from abs_core.descriptions import Description
from abs_core.errors import BundleError
from abs_core.text import counted, printable, quoted
from abs_core.text_files import ExternalFormatError
from abs_descriptions.bundles.format import text_problem
from abs_descriptions.bundles.review_file import normalized_text, parse_table, serialize_table
from abs_descriptions.bundles.spreadsheets import ERROR_CELL

__all__ = [
    "RULES",
    "Conflict",
    "ConflictRule",
    "MergeConflictError",
    "MergeSide",
    "Resolution",
    "Resolver",
    "Stance",
    "conflict_lines",
    "conflict_value",
    "merge_id",
    "parse_conflicts",
    "rule_for",
    "serialize_conflicts",
]

ConflictRule: TypeAlias = Literal["refuse", "first", "last", "newest", "keep", "reject"]
#: The rules by which conflicts are decided; ``refuse`` decides none.
RULES: tuple[ConflictRule, ...] = ("refuse", "first", "last", "newest", "keep", "reject")


@dataclass(frozen=True, slots=True)
class MergeSide:
    """What is merged, for messages and rules.

    Args:
        title: what users call it: ``pets@1.1.0``, or a review file.
        key: the digest of its bytes.
        created: when it was made, as headers have it.
        reviewers: generator id of the merged bundle -> the name of a reviewer.
    """

    title: str
    key: str
    created: str
    reviewers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Stance:
    """What one side says of a sentence.

    Args:
        source: the position of the side.
        decision: what it did; ``kept`` is nothing, ``added`` a sentence that the common parent lacks.
        record: that it has now, None where it has none.
        by: the generator id of who decided, where it is known.
        reason: of a rejection, in the reviewer's words.
    """

    source: int
    decision: Literal["kept", "accepted", "edited", "rejected", "added"]
    record: Description | None
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Conflict:
    """A sentence of which sides say different things.

    Args:
        kind: ``decision``: it was decided on in two ways; ``rejected``: one side wants a text that a reviewer of
            another rejected; ``kind``: it is a sentence here and a phrase there; ``id``: two texts have one record id.
        class_id: its class.
        text: of the common parent, or that the sides have; of ``id`` the text that came first.
        record: of the common parent, None where that has none.
        stances: of all sides that say something, in their order.
    """

    kind: Literal["decision", "rejected", "kind", "id"]
    class_id: str
    text: str
    record: Description | None
    stances: tuple[Stance, ...]

    @property
    def row(self) -> str:
        """What names the conflict in a file: a letter for its kind and 64 bits of the sha256 of class and text."""
        return self.kind[0] + hashlib.sha256(f"{self.class_id}\0{self.text}".encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Resolution:
    """How a conflict is decided: what ``source`` says holds; or, if it is None, the decision of whoever decided.

    ``by_rule`` tells that nobody looked at it.
    """

    source: int | None
    decision: Literal["", "accept", "edit", "reject"] = ""
    new_text: str = ""
    reason: str = ""
    by_rule: bool = False


#: Decides a conflict, or returns None.
Resolver: TypeAlias = Callable[[Conflict], Resolution | None]


class MergeConflictError(BundleError):
    """Conflicts that neither a rule nor a file decides. Nothing was written.

    Args:
        conflicts: all of them, in the order of the classes.
        sides: that are merged.
    """

    def __init__(self, conflicts: Sequence[Conflict], sides: Sequence[MergeSide], remedy: str = "") -> None:
        shown = next(conflict_lines(conflicts[:1], sides))
        beyond = "" if len(conflicts) == 1 else f" and {len(conflicts) - 1} more"
        super().__init__(
            f"{counted(len(conflicts), 'conflict', 'conflicts')}: {shown}{beyond}",
            remedy=remedy
            or f"Decide by hand in a file (--conflicts FILE), or by a rule (--on-conflict {', '.join(RULES[1:])})",
        )
        self.conflicts = conflicts
        self.sides = sides


def rule_for(rule: ConflictRule, sides: Sequence[MergeSide]) -> Resolver:
    """The resolver of a rule. Where the rule has no answer, it decides nothing.

    first, last: the side named first or last of those that decided. newest: the one whose version was created last.
    keep: a sentence stays, an edit before an acceptance. reject: it goes.
    """

    def decide(conflict: Conflict) -> Resolution | None:
        stances = [stance for stance in conflict.stances if stance.decision != "kept"]
        if len(stances) == 1:  # of what the parents did not agree on, to leave it as it was is a decision too
            stances = list(conflict.stances)
        if rule == "first":
            return _follow(stances[0])
        if rule == "last":
            return _follow(stances[-1])
        if rule == "newest":
            times = [sides[stance.source].created for stance in stances]
            return _follow(stances[times.index(max(times))]) if times.count(max(times)) == 1 else None
        return _by_decision(rule, conflict.kind, stances)

    return decide


def _by_decision(rule: ConflictRule, kind: str, stances: Sequence[Stance]) -> Resolution | None:
    if rule == "refuse" or kind in ("kind", "id"):
        return None
    if rule == "reject":
        return next((_follow(stance) for stance in stances if stance.decision == "rejected"), None)
    edited = [stance for stance in stances if stance.decision == "edited"]
    if len({stance.record and (stance.record.text, stance.record.kind) for stance in edited}) > 1:
        return None
    kept = edited or [stance for stance in stances if stance.decision != "rejected"]
    return _follow(kept[0])


def _follow(stance: Stance) -> Resolution:
    return Resolution(stance.source, by_rule=True)


def conflict_lines(conflicts: Iterable[Conflict], sides: Sequence[MergeSide]) -> Iterator[str]:
    """A line for each conflict: class, text, what each side says and who decided that; harmless in a terminal."""
    for conflict in conflicts:
        words = ", ".join(f"{_words(stance, sides)} in {sides[stance.source].title}" for stance in conflict.stances)
        yield f"class {quoted(conflict.class_id)}, {quoted(conflict.text, 120)}: {printable(words)}"


def conflict_value(conflict: Conflict, sides: Sequence[MergeSide]) -> dict[str, Any]:
    """A conflict as JSON values, texts as they are."""
    return {
        "row": conflict.row,
        "kind": conflict.kind,
        "class": conflict.class_id,
        "text": conflict.text,
        "sides": [
            {
                "bundle": sides[stance.source].title,
                "decision": stance.decision,
                "text": None if stance.record is None else stance.record.text,
                "kind": None if stance.record is None else stance.record.kind,
                "by": None if stance.by is None else sides[stance.source].reviewers.get(stance.by),
                "reason": stance.reason,
            }
            for stance in conflict.stances
        ],
    }


def _words(stance: Stance, sides: Sequence[MergeSide]) -> str:
    record, name = stance.record, sides[stance.source].reviewers.get(stance.by or "")
    words = "removed" if stance.decision == "rejected" and name is None else str(stance.decision)
    if stance.decision == "edited" and record is not None:
        words += f" to {quoted(record.text, 80)}"
    if record is not None and stance.decision == "added":
        words = f"a {record.kind}" + (f" with the id {quoted(record.id)}" if record.id is not None else "")
    return words + (f" by {name}" if name else "") + (f" ({quoted(stance.reason, 80)})" if stance.reason else "")


_PLACES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_READ = ("merge", "row", "text", "decision", "new_text", "reason")


def merge_id(sides: Sequence[MergeSide]) -> str:
    """What a file of conflicts is of: 64 bits of the sha256 of the digests of the sides, in their order."""
    return "m" + hashlib.sha256("\0".join(side.key for side in sides).encode()).hexdigest()[:16]


def serialize_conflicts(
    conflicts: Iterable[Conflict], sides: Sequence[MergeSide], names: Mapping[str, str]
) -> Iterator[bytes]:
    """The file in which conflicts are decided by hand: a CSV as review files are, one row a conflict.

    Args:
        conflicts: undecided ones.
        sides: that are merged; a column for each says what it did, with the text that it has now.
        names: class id to name.
    """
    places = [_place(number) for number in range(len(sides))]
    columns = ["merge", "row", "class", "name", "text"]
    columns += [f"{place}: {side.title}" for place, side in zip(places, sides, strict=True)]
    yield from serialize_table([*columns, "decision", "new_text", "reason"], _conflict_rows(conflicts, sides, names))


def _conflict_rows(
    conflicts: Iterable[Conflict], sides: Sequence[MergeSide], names: Mapping[str, str]
) -> Iterator[list[str]]:
    identifier = merge_id(sides)
    for conflict in conflicts:
        cells = {stance.source: stance for stance in conflict.stances}
        said = [_cell(cells.get(number), sides) for number in range(len(sides))]
        names_cell = names.get(conflict.class_id, "")
        yield [identifier, conflict.row, conflict.class_id, names_cell, conflict.text, *said, "", "", ""]


def _cell(stance: Stance | None, sides: Sequence[MergeSide]) -> str:
    if stance is None:
        return ""
    name = sides[stance.source].reviewers.get(stance.by or "")
    who = f" by {name}" if name else ""
    if stance.decision == "edited" and stance.record is not None:
        return f"edited{who}: {stance.record.text}"
    return _words(stance, sides)


def _place(number: int) -> str:
    return _PLACES[number] if number < len(_PLACES) else str(number + 1)


def parse_conflicts(text: str, sides: Sequence[MergeSide]) -> dict[str, Resolution]:
    """The decisions of a file of conflicts: row -> resolution, without those that are still empty.

    A decision is the place of a side (``first``, ``second``, or ``1``, ``2``), or ``accept``, ``edit`` with a new_text,
    ``reject``.

    Raises:
        ExternalFormatError: no such file, one of another merge, or an unclear decision; with its line.
    """
    resolutions: dict[str, Resolution] = {}
    lines: dict[str, int] = {}
    identifier = merge_id(sides)
    for row in parse_table(text, _READ):
        key = row["row"].strip()
        if row["merge"].strip() != identifier:
            raise ExternalFormatError(
                f"the conflicts are of another merge, or of these bundles in another order: {quoted(row['merge'])}, "
                f"not {identifier}",
                row.line,
            )
        if key in lines:
            raise ExternalFormatError(f"the row {quoted(key)} is already on line {lines[key]}", row.line)
        lines[key] = row.line
        word = row["decision"].strip().lower()
        new_text, reason = normalized_text(row["new_text"]), row["reason"].strip()
        if word:
            resolutions[key] = _resolution(key, word, new_text, reason, len(sides), row.line)
        elif new_text:
            raise ExternalFormatError("there is a new_text and no decision", row.line)
    return resolutions


def _resolution(key: str, word: str, new_text: str, reason: str, count: int, line: int) -> Resolution:
    places = {_place(number): number for number in range(count)}
    places |= {form: number for number in range(count) for form in (str(number + 1), f"{number + 1}.0")}
    if new_text and word != "edit":
        raise ExternalFormatError(f"there is a new_text and the decision is {quoted(word)}, not 'edit'", line)
    if word in places:
        return Resolution(places[word], reason=reason)
    is_open = not key.startswith(("k", "i"))
    if word in ("accept", "reject") and is_open:
        return Resolution(None, "accept" if word == "accept" else "reject", reason=reason)
    if word == "edit" and is_open:
        problem = "is an error of a spreadsheet" if ERROR_CELL.fullmatch(new_text) else text_problem(new_text)
        if problem is not None:
            raise ExternalFormatError(f"the new_text {problem}", line)
        return Resolution(None, "edit", new_text, reason)
    valid = ", ".join(
        [*(_place(number) for number in range(count)), *(("accept", "edit", "reject") if is_open else ())]
    )
    raise ExternalFormatError(f"unknown decision {quoted(word)}; valid: {valid}", line)
