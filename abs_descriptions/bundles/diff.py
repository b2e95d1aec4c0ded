"""What differs between two bundles, class by class. Streams: memory holds one class at a time.

    diff_bundles(old, new)     every class that differs, with all its descriptions; each file is checked on the way
    count_changes(old, new)    how much differs, of two files whose bytes were checked before

A text that is gone and one that is new are an **edit** where they have one record id; where the new one says that it
was edited and began as the same answer of the same generator, of several such those that the rejected completions call
edited; else where they are alike (``_ALIKE``). ``change_view`` shows changes in a terminal.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

from abs_core.descriptions import Description
from abs_core.errors import BundleError
from abs_core.text import printable, quoted
from abs_descriptions.bundles.codec import LineError, RecordRules
from abs_descriptions.bundles.format import MAX_HEADER_BYTES, BundleHeader, Generator
from abs_descriptions.bundles.reader import (
    iter_records,
    iter_rejected,
    open_bundle,
    read_header,
    read_summary,
    rejected_path,
)
from abs_descriptions.bundles.writer import SpoolFile

__all__ = [
    "BundleBlocks",
    "ChangeCounts",
    "ClassChange",
    "LabelChange",
    "align_classes",
    "altered_fields",
    "change_value",
    "count_changes",
    "diff_bundles",
    "diff_labels",
    "label_value",
    "show_note",
]

_Groups = Iterator[tuple[str, list[Description]]]


@dataclass(frozen=True)
class LabelChange:
    """How the label set of a newer bundle differs: ids that came, that went, with another name, with another note."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    renamed: tuple[tuple[str, str, str], ...]
    """(id, old name, new name)"""
    noted: tuple[tuple[str, str | None, str | None], ...]
    """(id, old note, new note)"""

    @property
    def differs(self) -> bool:
        """Whether there is a change."""
        return bool(self.added or self.removed or self.renamed or self.noted)


@dataclass(frozen=True)
class ClassChange:
    """How the descriptions of one class differ. Descriptions are the same if their texts are.

    ``edited`` are pairs (old, new) in which one text took the place of another; neither counts as added or removed.
    ``altered`` are pairs (old, new) with one text and another kind, provenance, score or id. ``accepted`` counts the
    new descriptions that a reviewer accepted who had not in the old bundle, ``otherwise`` the altered ones without
    these.
    """

    class_id: str
    name: str
    added: tuple[Description, ...]
    removed: tuple[Description, ...]
    edited: tuple[tuple[Description, Description], ...]
    altered: tuple[tuple[Description, Description], ...]
    kept: int
    accepted: int
    otherwise: int

    @property
    def counts(self) -> ChangeCounts:
        """How much differs."""
        texts = [*self.added, *self.removed, *(new for _, new in self.edited)]
        return ChangeCounts(
            added=len(self.added),
            removed=len(self.removed),
            edited=len(self.edited),
            altered=len(self.altered),
            accepted=self.accepted,
            otherwise=self.otherwise,
            classes=1 if texts else 0,
            kinds=frozenset(record.kind for record in texts),
        )


@dataclass(frozen=True)
class ChangeCounts:
    """How much differs: descriptions ``added``, ``removed``, ``edited`` (another text), ``altered`` (the same text with
    another kind, provenance, score or id), newly ``accepted``, and ``otherwise``, altered and not accepted; ``classes``
    with other texts, and the ``kinds`` of these.
    """

    added: int = 0
    removed: int = 0
    edited: int = 0
    altered: int = 0
    accepted: int = 0
    otherwise: int = 0
    classes: int = 0
    kinds: frozenset[str] = frozenset()

    def __add__(self, other: ChangeCounts) -> ChangeCounts:
        sums = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        return ChangeCounts(**sums, kinds=self.kinds | other.kinds)

    def to_dict(self) -> dict[str, int]:
        """The numbers as JSON values."""
        return {name: getattr(self, name) for name in _COUNTS}


_COUNTS = ("added", "removed", "edited", "altered", "accepted", "otherwise", "classes")


def diff_labels(old: BundleHeader, new: BundleHeader) -> LabelChange:
    """How the label set of ``new`` differs from that of ``old``. Pure."""
    before = {entry.id: entry for entry in old.label_set.classes}
    after = {entry.id: entry for entry in new.label_set.classes}
    both = [(before[class_id], entry) for class_id, entry in after.items() if class_id in before]
    return LabelChange(
        added=tuple(class_id for class_id in after if class_id not in before),
        removed=tuple(class_id for class_id in before if class_id not in after),
        renamed=tuple((was.id, was.name, now.name) for was, now in both if was.name != now.name),
        noted=tuple((was.id, was.note, now.note) for was, now in both if was.note != now.note),
    )


def label_value(change: LabelChange) -> dict[str, Any]:
    """A label set's change as JSON values, texts as they are: escape them where they are shown."""
    return {
        "labels": {
            "added": list(change.added),
            "removed": list(change.removed),
            "renamed": [{"class": class_id, "old": old, "new": new} for class_id, old, new in change.renamed],
            "noted": [{"class": class_id, "old": old, "new": new} for class_id, old, new in change.noted],
        }
    }


def diff_bundles(old: Path, new: Path) -> Iterator[ClassChange]:
    """The classes that differ between two bundle files, in the order of the new label set, then the old one's rest.

    Raises:
        StorageError, BundleError: a file cannot be read or is broken; the digests are compared at the end.
    """
    newer, older = read_header(new), read_header(old)
    names = {entry.id: entry.name for header in (older, newer) for entry in header.label_set.classes}
    order = list(dict.fromkeys((*newer.label_set.ids, *older.label_set.ids)))
    comparison = _Comparison(older.generators, newer.generators, new)
    for class_id, (before, after) in align_classes((old, new), order):
        change = comparison.change(class_id, names[class_id], before, after)
        if change is not None:
            yield change


def count_changes(old: BundleBlocks, new: BundleBlocks) -> ChangeCounts:
    """How much differs between two bundles, as ``diff_bundles`` would count it. Only lines that differ are parsed.

    Raises:
        StorageError, BundleError: a file cannot be read, or is no longer what ``BundleBlocks`` read.
    """
    comparison = _Comparison(old.summary.generators, new.summary.generators, new.path)
    total = ChangeCounts()
    for class_id in dict.fromkeys((*new.classes, *old.classes)):
        if old.classes.get(class_id, _NO_BLOCK).digest == new.classes.get(class_id, _NO_BLOCK).digest:
            continue
        before, after = old.lines(class_id), new.lines(class_id)
        shared = set(before) & set(after)
        change = comparison.change(
            class_id,
            "",
            old.records(class_id, [line for line in before if line not in shared]),
            new.records(class_id, [line for line in after if line not in shared]),
        )
        if change is not None:
            total += change.counts
    return total


class _Block(NamedTuple):
    """The lines of one class in a file: the digest of their bytes, and where they lie."""

    digest: bytes
    start: int
    size: int


_NO_BLOCK = _Block(b"", 0, 0)
_CLASS = re.compile(rb'\{"class":("(?:[^"\\]|\\.)*")')


class BundleBlocks:
    """A bundle file by the bytes of its classes, for comparing many versions. Checks no record.

    Args:
        path: of a file that was validated when it came to where it is.

    Raises:
        StorageError, BundleError: it cannot be read, or is no bundle.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.classes: dict[str, _Block] = {}
        digest = hashlib.sha256()
        with open_bundle(path) as stream:
            self.summary = read_summary(path)
            line = stream.readline(MAX_HEADER_BYTES + 1)
            digest.update(line)
            start = len(line)
            for token, lines in groupby(stream, key=_class_token):
                data = b"".join(lines)
                digest.update(data)
                self.classes[_class_id(token)] = _Block(hashlib.sha256(data).digest(), start, len(data))
                start += len(data)
        #: Of all bytes, ``sha256:...``.
        self.digest = "sha256:" + digest.hexdigest()

    def lines(self, class_id: str) -> list[bytes]:
        """The lines of a class, without their line feeds."""
        block = self.classes.get(class_id, _NO_BLOCK)
        with open_bundle(self.path) as stream:
            stream.seek(block.start)
            return stream.read(block.size).split(b"\n")[:-1]

    def records(self, class_id: str, lines: Iterable[bytes]) -> list[Description]:
        """The records on lines of a class; BundleError where one cannot be read."""
        rules = RecordRules([class_id], [generator.id for generator in self.summary.generators])
        try:
            return [rules.read(line.decode()) for line in lines]
        except (LineError, UnicodeDecodeError) as error:
            raise BundleError(
                f"{printable(str(self.path))}: a record of the class {quoted(class_id)} is broken",
                remedy="Fetch or copy the bundle again",
            ) from error


def _class_token(line: bytes) -> bytes:
    """The class of a record as JSON; the empty string where the line is none."""
    match = _CLASS.match(line)
    return b'""' if match is None else match[1]


def _class_id(token: bytes) -> str:
    try:
        return str(json.loads(token))
    except ValueError:  # the file is damaged, which its digest shows
        return token.decode(errors="replace")


def change_value(change: ClassChange) -> dict[str, Any]:
    """A class's change as JSON values, texts as they are: escape them where they are shown."""
    return {
        "class": change.class_id,
        "name": change.name,
        "added": [record.text for record in change.added],
        "removed": [record.text for record in change.removed],
        "edited": [{"old": old.text, "new": new.text} for old, new in change.edited],
        "altered": [{"text": old.text, "fields": altered_fields(old, new)} for old, new in change.altered],
        "kept": change.kept,
        "accepted": change.accepted,
    }


def show_note(note: str | None) -> str:
    """The note of a class for a message."""
    return "none" if note is None else quoted(note)


class _Comparison:
    """Compares the classes of two bundles.

    Args:
        old, new: the generators of the two.
        path: of the new bundle, whose rejected completions are read if they are needed.
    """

    def __init__(self, old: Sequence[Generator], new: Sequence[Generator], path: Path) -> None:
        # A merge gives generators other ids, so they are compared by what they are.
        meanings = {_meaning(generator): generator.id for generator in old}
        self._old_ids = {generator.id: meanings.get(_meaning(generator), generator.id) for generator in new}
        self._path = path

    def change(
        self, class_id: str, name: str, before: Sequence[Description], after: Sequence[Description]
    ) -> ClassChange | None:
        """How a class differs; None if it does not."""
        old = {record.text: record for record in before}
        new = {record.text: record for record in after}
        both = [(old[text], record) for text, record in new.items() if text in old]
        altered = tuple((was, now) for was, now in both if was != now and was != self._in_old_terms(now))
        gone = [record for text, record in old.items() if text not in new]
        came = [record for text, record in new.items() if text not in old]
        if not (gone or came or altered):
            return None
        edits = self._edits(gone, came) if gone and came else {}
        origins = set(edits.values())
        edited = [(gone[edits[place]], record) for place, record in enumerate(came) if place in edits]
        return ClassChange(
            class_id,
            name,
            added=tuple(record for place, record in enumerate(came) if place not in edits),
            removed=tuple(record for place, record in enumerate(gone) if place not in origins),
            edited=tuple(edited),
            altered=altered,
            kept=len(both) - len(altered),
            accepted=sum(self._is_accepted(was, now) for was, now in [*altered, *edited])
            + sum(record.provenance.accepted_by is not None for place, record in enumerate(came) if place not in edits),
            otherwise=sum(not self._is_accepted(was, now) for was, now in altered),
        )

    def _in_old_terms(self, record: Description) -> Description:
        source = record.provenance
        return replace(
            record,
            provenance=replace(
                source,
                generator=self._old_ids[source.generator],
                accepted_by=source.accepted_by and self._old_ids[source.accepted_by],
                edited_by=source.edited_by and self._old_ids[source.edited_by],
            ),
        )

    def _is_accepted(self, old: Description, new: Description) -> bool:
        accepted = new.provenance.accepted_by
        return accepted is not None and self._old_ids[accepted] != old.provenance.accepted_by

    def _edits(self, gone: Sequence[Description], came: Sequence[Description]) -> dict[int, int]:
        """Position in ``came`` -> position in ``gone`` of the text that was edited to it."""
        ids = {record.id: place for place, record in enumerate(gone) if record.id is not None}
        edits = {place: ids[record.id] for place, record in enumerate(came) if record.id in ids}
        taken = set(edits.values())
        origins: dict[object, list[int]] = {}
        for number, record in enumerate(gone):
            if number not in taken:
                origins.setdefault(_origin(record), []).append(number)
        wanted: dict[object, list[int]] = {}
        for place, record in enumerate(came):
            if record.provenance.edited_by is not None and place not in edits:
                wanted.setdefault(_origin(self._in_old_terms(record)), []).append(place)
        for origin, places in wanted.items():
            free = origins.get(origin, [])
            if len(free) > len(places):
                replaced = self._replaced
                free = [number for number in free if (gone[number].class_id, gone[number].text) in replaced] or free
            edits |= _closest(came, gone, places, free, 0)
        taken = set(edits.values())
        places = [place for place in range(len(came)) if place not in edits]
        return edits | _closest(
            came, gone, places, [number for number in range(len(gone)) if number not in taken], _ALIKE
        )

    @cached_property
    def _replaced(self) -> set[tuple[str, str]]:
        """Class and text of what the rejected completions of the new bundle call edited."""
        if not rejected_path(self._path).exists():
            return set()
        rejected = iter_rejected(self._path, read_header(self._path))
        return {(entry.class_id, entry.text) for entry in rejected if entry.reason == "edited"}


# From which likeness on two texts of a class are an edit: of 17,640 pairs of sentences that two shipped bundles have
# for one class none is as much alike (0.643). And how many texts of a class are compared.
_ALIKE = 0.65
_COMPARED = 100

_TOKEN = re.compile(r"\w+|[^\w\s]")


def _closest(
    came: Sequence[Description], gone: Sequence[Description], places: Sequence[int], free: Sequence[int], least: float
) -> dict[int, int]:
    """Position in ``came`` -> that of the text in ``gone`` most alike, the most alike pairs first, each used once."""
    if len(places) == 1 and len(free) == 1 and not least:
        return {places[0]: free[0]}
    if len(places) > _COMPARED or len(free) > _COMPARED:
        return {}
    parts = [(number, _parts(gone[number].text)) for number in free]
    ranked = []
    for place in places:
        own = _parts(came[place].text)
        ranked += [(-_likeness(own, other), place, number) for number, other in parts]
    pairs: dict[int, int] = {}
    used: set[int] = set()
    for difference, place, number in sorted(ranked):
        if -difference >= least and place not in pairs and number not in used:
            pairs[place] = number
            used.add(number)
    return pairs


def _parts(text: str) -> tuple[set[str], set[str]]:
    """The words of a text, and its runs of three letters, of which a misspelt word keeps some."""
    line = f" {text.lower()} "
    return set(_TOKEN.findall(line)), {line[place : place + 3] for place in range(len(line) - 2)}


def _likeness(first: tuple[set[str], set[str]], second: tuple[set[str], set[str]]) -> float:
    """The share of words, or of runs of letters, that two texts have in common (Dice's coefficient): 0 to 1.

    Comparing texts letter by letter takes about thirty times as long, which a bundle of 1,000 classes feels.
    """
    return max(2 * len(a & b) / (len(a) + len(b)) for a, b in zip(first, second, strict=True))


def _meaning(generator: Generator) -> str:
    return generator.model_dump_json(exclude={"id"})


def _origin(record: Description) -> tuple[object, ...]:
    source = record.provenance
    return source.generator, source.sample, source.prompt, source.request


def altered_fields(old: Description, new: Description) -> list[str]:
    """The names of what differs between two descriptions of one text."""
    return [name for name in ("kind", "provenance", "scores", "id") if getattr(old, name) != getattr(new, name)]


def align_classes(paths: Sequence[Path], order: Sequence[str]) -> Iterator[tuple[str, tuple[list[Description], ...]]]:
    """For each class of ``order`` its records in each file."""
    with ExitStack() as stack:
        streams = [_grouped(path, order, stack.enter_context(TemporaryFile())) for path in paths]
        heads = [next(stream, None) for stream in streams]
        for class_id in order:
            groups: list[list[Description]] = []
            for position, head in enumerate(heads):
                if head is not None and head[0] == class_id:
                    groups.append(head[1])
                    heads[position] = next(streams[position], None)
                else:
                    groups.append([])
            yield class_id, tuple(groups)


def _grouped(path: Path, order: Sequence[str], spool: IO[bytes]) -> _Groups:
    """The records of a file class by class in ``order``; through a temporary file where its own order is another."""
    position = {class_id: number for number, class_id in enumerate(order)}
    header = read_header(path)
    positions = [position[class_id] for class_id in header.label_set.ids]
    records: Iterable[Description] = iter_records(path)
    if positions != sorted(positions):
        records = _reordered(records, header, order, spool)
    return ((class_id, list(group)) for class_id, group in groupby(records, key=attrgetter("class_id")))


def _reordered(
    records: Iterable[Description], header: BundleHeader, order: Sequence[str], spool: IO[bytes]
) -> Iterator[Description]:
    spool_file = SpoolFile(spool, order)
    for record in records:
        spool_file.add(record)
    rules = RecordRules(order, [generator.id for generator in header.generators])
    for block in spool_file.blocks():
        for line in block.decode().split("\n")[:-1]:
            yield rules.read(line)
