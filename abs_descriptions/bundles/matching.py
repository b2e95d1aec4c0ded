"""Which class each label of a file from outside means. Show it before it is used.

Tried in this order, until a class fits: its id, its name, an alias; then the same without regard to case, spaces, "_"
and "-"; then without punctuation ("apse (indoor)" is "apse indoor", "C/V" is "CV"; "C++" and "C#" stay apart).
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from abs_core.errors import BundleError
from abs_core.labels import ClassLabel, LabelSet, fold
from abs_core.remarks import Remark, RemarkCounter
from abs_core.text import csv_table, printable, quoted
from abs_core.text_files import ExternalFormatError, read_external_text

__all__ = ["LabelMatching", "match_labels", "read_mapping"]


@dataclass(frozen=True)
class LabelMatching:
    """Which classes each label of an external file means."""

    matched: Mapping[str, tuple[str, ...]]
    """label -> the ids of its classes: several where classes share the name or alias, and no other label names them"""
    unknown: tuple[str, ...]
    """labels that name no class"""
    ambiguous: Mapping[str, tuple[str, ...]]
    """label -> the ids of classes that it is not the name of, and could mean"""
    missing: tuple[str, ...]
    """ids of classes that no label names"""
    left_out: tuple[str, ...] = ()
    """labels that stand for no class on purpose: by the label set, by a mapping, or because unknown ones are skipped"""
    loose: Mapping[str, str] = field(default_factory=dict)
    """label -> how it was matched, for those that are neither the id nor the name of a class"""

    def check(self) -> None:
        """Refuse labels that mean no class or several.

        Raises:
            BundleError: names up to five of them.
        """
        if self.ambiguous:
            label, ids = next(iter(self.ambiguous.items()))
            raise BundleError(
                f"the label {quoted(label)} could mean the classes {', '.join(map(quoted, ids[:5]))}",
                remedy="Use the class id as the label, name the class in a --mapping file, or give --skip-unknown",
            )
        if self.unknown:
            beyond = "" if len(self.unknown) <= 5 else f" and {len(self.unknown) - 5} more"
            raise BundleError(
                f"no class is called {', '.join(map(quoted, self.unknown[:5]))}{beyond}",
                remedy="Correct the labels in the file, name their classes in a --mapping file, leave them out with "
                "--skip-unknown, or choose another label set",
            )

    def without_unknown(self) -> LabelMatching:
        """The same with the labels left out that name no class, or that could mean several."""
        return replace(self, unknown=(), ambiguous={}, left_out=(*self.left_out, *self.unknown, *self.ambiguous))

    def remarks(self) -> tuple[Remark, ...]:
        """What was matched otherwise than by id or name, shared, or left out."""
        counter = RemarkCounter()
        for label, how in self.loose.items():
            counter.add(f"matched by {how}", f"{label}: {', '.join(self.matched[label])}")
        for label, ids in self.matched.items():
            if len(ids) > 1:
                counter.add("shared by several classes: the texts of", f"{label}: {', '.join(ids)}")
        labels_of: dict[str, list[str]] = {}
        for label, ids in self.matched.items():
            for class_id in ids:
                labels_of.setdefault(class_id, []).append(label)
        for class_id, labels in labels_of.items():
            if len(labels) > 1:
                counter.add("put together from several labels: the texts of", f"{class_id}: {', '.join(labels)}")
        for label in self.left_out:
            counter.add("left out: the texts of", label)
        return counter.remarks


_SEPARATORS = re.compile(r"[\s_/\\.,()\[\]'’`\":;-]+")


def _spaced(name: str) -> str:
    return fold(name.replace("-", " "))


def _letters(name: str) -> str:
    # Symbols distinguish names: "C++" and "C#", "F-16" and "F-16+".
    return _SEPARATORS.sub("", fold(name))


class _Index:
    """The classes by what they are called, in each way of looking at it."""

    def __init__(self, label_set: LabelSet) -> None:
        self._classes = {entry.id: entry for entry in label_set.classes}
        self._tables = [
            (how, fold_name, _table(label_set.classes, fold_name, aliases=aliases))
            for how, fold_name, aliases in (
                ("", str, False),
                ("an alias", str, True),
                ("spelling", _spaced, False),
                ("an alias", _spaced, True),
                ("spelling", _letters, False),
                ("an alias", _letters, True),
            )
        ]

    def find(self, label: str) -> tuple[str, tuple[str, ...]]:
        """How the label is matched, and the ids that it could mean."""
        if label in self._classes:
            return "", (label,)
        for how, fold_name, table in self._tables:
            ids = table.get(fold_name(label)) if fold_name(label) else None
            if ids:
                return how, ids
        return "", ()

    def are_namesakes(self, label: str, ids: Sequence[str]) -> bool:
        """Whether several classes have this very name or alias, so that one set of texts is of all of them."""
        called = [{self._classes[class_id].name, *self._classes[class_id].aliases} for class_id in ids]
        return any(_spaced(name) == _spaced(label) for name in set.intersection(*called)) or (
            len({self._classes[class_id].name for class_id in ids}) == 1
        )


def _table(
    classes: Iterable[ClassLabel], fold_name: Callable[[str], str], *, aliases: bool
) -> dict[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {}
    for entry in classes:
        # An id is exact or a spelling of one: "apartment_building-outdoor" is "apartment_building/outdoor".
        names = entry.aliases if aliases else (entry.name,) if fold_name is str else (entry.name, entry.id)
        for key in dict.fromkeys(map(fold_name, names)):
            table[key] = (*table.get(key, ()), entry.id)
    return table


def match_labels(
    labels: Iterable[str], label_set: LabelSet, mapping: Mapping[str, tuple[str, ...]] | None = None
) -> LabelMatching:
    """Match the labels of an external file with a label set. Pure; never raises.

    Args:
        labels: as the file has them.
        label_set: with the classes and their aliases.
        mapping: label -> the ids of its classes, none to leave it out; comes before everything else.
    """
    index, given = _Index(label_set), mapping or {}
    skipped = set(map(_spaced, label_set.left_out))
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    unknown: list[str] = []
    left_out: list[str] = []
    for label in dict.fromkeys(labels):
        how, ids = ("a mapping", given[label]) if label in given else index.find(label)
        if ids:
            found[label] = how, ids
        elif label in given or _spaced(label) in skipped:
            left_out.append(label)
        else:
            unknown.append(label)
    matched: dict[str, tuple[str, ...]] = {}
    ambiguous: dict[str, tuple[str, ...]] = {}
    named = {ids[0] for _, ids in found.values() if len(ids) == 1}
    for label, (_, ids) in found.items():
        # What another label names alone is not meant by this one: beside "church indoor", "church" is the other.
        rest = tuple(class_id for class_id in ids if class_id not in named) or ids
        if len(ids) == 1 or len(rest) == 1 or label in given or index.are_namesakes(label, rest):
            matched[label] = ids if label in given else rest
        else:
            ambiguous[label] = ids
    covered = {class_id for ids in matched.values() for class_id in ids}
    missing = tuple(entry.id for entry in label_set.classes if entry.id not in covered)
    loose = {label: how for label, (how, _) in found.items() if how and label in matched}
    return LabelMatching(matched, tuple(unknown), ambiguous, missing, tuple(left_out), loose)


def read_mapping(path: Path, label_set: LabelSet) -> dict[str, tuple[str, ...]]:
    """A file that says which class each label means, for labels that say it not by themselves.

    Args:
        path: JSON {label: class}, where a class is an id, a name, a list of them, or null to leave the label out; or
            CSV with two columns, label and class.
        label_set: that the classes are of.

    Raises:
        BundleError: neither of these forms, or a label that is given twice; names file and line.
        LabelError: a class that the label set lacks, or that could be several.
        StorageError: the file cannot be read.
    """
    try:
        text = read_external_text(path)
        pairs = _json_pairs(text) if text.lstrip()[:1] in ("{", "[") else _csv_pairs(text)
        mapping: dict[str, tuple[str, ...]] = {}
        for label, classes in pairs:
            if label in mapping:
                raise ExternalFormatError(f"the label {quoted(label)} is given twice")
            mapping[label] = tuple(dict.fromkeys(label_set.resolve(name).id for name in classes))
    except ExternalFormatError as error:
        line = "" if error.line is None else f", line {error.line}"
        raise BundleError(
            f"{printable(str(path))}{line}: {error.message}",
            remedy='Write {"label": "class id"} as JSON, or a label and a class on each line of a CSV',
        ) from None
    return mapping


def _json_pairs(text: str) -> Iterator[tuple[str, list[str]]]:
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        raise ExternalFormatError("invalid JSON") from None
    for pair in pairs if isinstance(pairs, list) else ():
        if not isinstance(pair, tuple):
            raise ExternalFormatError("not a JSON object of labels and classes")
        label, value = pair
        classes = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise ExternalFormatError(f"the class of {quoted(label)} must be a string, a list of strings or null")
        yield label, classes


def _csv_pairs(text: str) -> Iterator[tuple[str, list[str]]]:
    content, delimiter = csv_table(text)
    rows = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    try:
        for number, row in enumerate(filter(None, rows)):
            if not any(map(str.strip, row)) or (
                number == 0 and [cell.strip().casefold() for cell in row] == ["label", "class"]
            ):
                continue
            if len(row) != 2:
                raise ExternalFormatError(f"{len(row)} cells, a label and a class are needed", rows.line_num)
            yield row[0].strip(), [row[1].strip()] if row[1].strip() else []
    except csv.Error as error:
        raise ExternalFormatError(f"invalid CSV: {error}", rows.line_num) from None
