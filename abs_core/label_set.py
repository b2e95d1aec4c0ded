"""Classes with stable ids, the pure rules that every label obeys, and the label sets that ship with the toolkit.

A class is identified by its id, never by its position. Where no id is given it is a slug of the name, which depends on
that name alone, so adding or sorting labels changes no id. Imports the standard library only.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from abs_core.canonical import digest
from abs_core.errors import LabelError, UnknownNameError
from abs_core.files import data_folder
from abs_core.remarks import Remark
from abs_core.text import JOINERS, printable, quoted

__all__ = [
    "ClassLabel",
    "LabelEntry",
    "LabelSet",
    "build_label_set",
    "compact",
    "fold",
    "from_names",
    "shipped_label_set",
    "shipped_label_sets",
    "slug",
    "unknown_label_set",
    "wordnet_class",
]

MAX_NAME = 500
MAX_ID = 200
_SLUG_LENGTH = 120

# how many labels of a set an error lists where none of them is close to what was given
_LISTED = 8


@dataclass(frozen=True, slots=True)
class ClassLabel:
    """One class.

    Args:
        id: stable and unique in its label set; enters bundles, caches and results.
        name: as it is prompted and shown.
        group: a coarser class, where there is one.
        note: what distinguishes the class from another of the same name: "the bird". The language model reads it after
            the name.
        aliases: other names of the class, as other tools and published files write it. They find the class; they are
            neither prompted nor shown, and enter no digest.
    """

    id: str
    name: str
    group: str | None = None
    note: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelSet:
    """Classes with unique ids.

    Args:
        name: of the set, for example "pets".
        classes: in the order of the source. For a published benchmark this is the official order, so that an official
            class number is a position; nothing else depends on it.
        version: of the list.
        source: where the list comes from, in words.
        remarks: how the source was read, where it could have been read otherwise.
        left_out: labels of published lists that stand for no class of this set, such as Caltech-101's background.

    Raises:
        LabelError: there is no class at all, or an id appears twice.
    """

    name: str
    classes: tuple[ClassLabel, ...]
    version: str = "1.0.0"
    source: str = ""
    remarks: tuple[Remark, ...] = field(default=(), compare=False)
    left_out: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not self.classes:
            raise LabelError(f"the label set {quoted(self.name)} has no classes", remedy="Give at least one label")
        seen: set[str] = set()
        for label in self.classes:
            if label.id in seen:
                raise LabelError(
                    f"the class id {quoted(label.id)} appears twice in the label set {quoted(self.name)}",
                    remedy="Give each class an id of its own",
                )
            seen.add(label.id)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The class ids, in order."""
        return tuple(label.id for label in self.classes)

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Class id to class name, in order."""
        return {label.id: label.name for label in self.classes}

    @cached_property
    def digest(self) -> str:
        """``sha256:...`` of the ids and names, sorted by id: the same classes in another order are the same set.

        Groups, notes and aliases do not enter it.
        """
        return digest(sorted([label.id, label.name] for label in self.classes))

    @cached_property
    def by_id(self) -> Mapping[str, ClassLabel]:
        """Class id to class, in order."""
        return {label.id: label for label in self.classes}

    @cached_property
    def _by_name(self) -> Mapping[str, tuple[ClassLabel, ...]]:
        by_name: dict[str, tuple[ClassLabel, ...]] = {}
        for label in self.classes:
            key = fold(label.name)
            by_name[key] = (*by_name.get(key, ()), label)
        return by_name

    @cached_property
    def _by_compact_id(self) -> Mapping[str, str]:
        return {compact(label.id): label.id for label in self.classes}

    def find_id(self, text: str) -> str | None:
        """The id that equals ``text`` except for case and for what separates words (``compact``); None without one.

        ``HandstandPushups``, ``Handstand_Pushups`` and ``handstand pushups`` are one id; so are
        ``apartment_building/outdoor`` and ``apartment_building-outdoor``.
        """
        return self._by_compact_id.get(compact(text))

    def id_at(self, position: int) -> str | None:
        """The id at a position, counted from 0; None if there is no such position."""
        return self.ids[position] if 0 <= position < len(self.ids) else None

    @cached_property
    def _by_alias(self) -> Mapping[str, tuple[ClassLabel, ...]]:
        by_alias: dict[str, tuple[ClassLabel, ...]] = {}
        for label in self.classes:
            for key in dict.fromkeys(map(fold, label.aliases)):
                by_alias[key] = (*by_alias.get(key, ()), label)
        return by_alias

    def resolve(self, text: str) -> ClassLabel:
        """The class with this id, else the one with this name after folding (``fold``), else with this alias.

        Raises:
            LabelError: no class or several classes match; suggests close matches or lists the ids to choose from.
        """
        exact = self.by_id.get(text)
        if exact is not None:
            return exact
        named = self._by_name.get(fold(text)) or self._by_alias.get(fold(text), ())
        if len(named) == 1:
            return named[0]
        if named:
            ids = ", ".join(quoted(label.id) for label in named[:5])
            raise LabelError(f"the label {quoted(text)} names several classes", remedy=f"Use an id: {ids}")
        raise LabelError(
            f"the label {quoted(text)} is not in the label set {quoted(self.name)}", remedy=self._suggestion(text)
        )

    def _suggestion(self, text: str) -> str:
        folded = {fold(label.id): label.id for label in self.classes} | {
            key: labels[0].name for key, labels in self._by_name.items()
        }
        close = [folded[key] for key in difflib.get_close_matches(fold(text)[:MAX_NAME], folded, n=3, cutoff=0.6)]
        if close:
            return f"Write {' or '.join(quoted(name) for name in dict.fromkeys(close))} if that is meant"
        if len(self.classes) <= _LISTED:
            return f"Use one of its labels: {', '.join(quoted(label.name) for label in self.classes)}"
        return f"Use one of its {len(self.classes)} labels, for example {quoted(self.classes[0].name)}"


def fold(name: str) -> str:
    """``name`` without differences of case, width, spacing and underscores: "Brick_wall " is "brick wall"."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").split())


def compact(name: str) -> str:
    """The letters and digits of ``fold(name)``: "Brick-wall " is "brickwall".

    For matching published ids, folder names and class lists with each other. No two ids of a shipped set are equal
    after it; for label sets of users it is too coarse ("C++" and "C#").
    """
    return re.sub(r"[\W_]+", "", fold(name))


def slug(name: str) -> str:
    """The id of a class that was given none: letters, digits and marks of any script, ``_`` between words.

    "Brick wall" is ``brick_wall``, "東京タワー" stays as it is, "C++" is ``c_x2b_x2b``: a symbol is written as its code
    point, so that "C++" and "C#" differ. Long names end in 10 hex digits of their sha256.
    """
    folded = fold(name)
    parts = (char if unicodedata.category(char)[0] in "LNM" else _separator(char) for char in folded)
    text = unicodedata.normalize("NFC", re.sub("_+", "_", "".join(parts)).strip("_"))
    if len(text) <= _SLUG_LENGTH and text:
        return text
    return f"{text[:_SLUG_LENGTH]}_{hashlib.sha256(folded.encode()).hexdigest()[:10]}"


def _separator(char: str) -> str:
    # Symbols and a few punctuation marks distinguish names; commas, quotes and brackets do not.
    distinguishes = unicodedata.category(char)[0] == "S" or char in "#%&*@!?/\\"
    return f"_x{ord(char):x}_" if distinguishes else "_"


@dataclass(frozen=True, slots=True)
class LabelEntry:
    """A class as its source gives it, not yet checked.

    Args:
        where: how a message begins: "labels.txt line 3".
        name, id, group, note, aliases: as written; without an id it becomes the slug of the name.
    """

    where: str
    name: str
    id: str | None = None
    group: str | None = None
    note: str | None = None
    aliases: tuple[str, ...] = ()


def build_label_set(
    entries: Iterable[LabelEntry], *, where: str, name: str, source: str, version: str = "1.0.0"
) -> LabelSet:
    """Check entries one by one and against each other. Pure.

    Two classes may share a name only if both have notes and the notes differ (ImageNet has two such pairs).

    Args:
        entries: in the order of the source.
        where: what a message calls the source as a whole: the path of the file.
        name, source, version: of the label set.

    Raises:
        LabelError: a rule is broken; names the place.
    """
    classes: list[ClassLabel] = []
    names: dict[str, tuple[str, ClassLabel]] = {}
    ids: dict[str, str] = {}
    for entry in entries:
        label = _checked_label(entry)
        key = fold(label.name)
        if key in names and not (label.note and names[key][1].note and label.note != names[key][1].note):
            raise LabelError(
                f"{entry.where}: the label {quoted(label.name)} appears twice, first in {names[key][0]}",
                remedy="Remove one of them, or give both an id and a note that distinguishes them",
            )
        if label.id in ids:
            raise LabelError(
                f"{entry.where}: the id {quoted(label.id)} of {quoted(label.name)} appears twice, "
                f"first in {ids[label.id]}",
                remedy="Give each class an id of its own",
            )
        names[key] = (entry.where, label)
        ids[label.id] = entry.where
        classes.append(label)
    if not classes:
        raise LabelError(f"{where} has no labels", remedy="Write one class name on each line")
    return LabelSet(_checked_text(name, "the label set", "name"), tuple(classes), version, source)


def _checked_label(entry: LabelEntry) -> ClassLabel:
    name = " ".join(_checked_text(entry.name, entry.where, "label").split())
    if not name:
        raise LabelError(f"{entry.where}: the label is blank", remedy="Remove it or write a class name there")
    if len(name) > MAX_NAME:
        raise LabelError(
            f"{entry.where}: the label may have up to {MAX_NAME} characters, got {len(name)} ({quoted(name, 40)})",
            remedy="Shorten it",
        )
    identifier = slug(name) if entry.id is None else _checked_text(entry.id, entry.where, "id").strip()
    if not identifier or len(identifier) > MAX_ID:
        raise LabelError(
            f"{entry.where}: the id of {quoted(name)} must have 1 to {MAX_ID} characters, got {len(identifier)}",
            remedy="Write another id, or leave it out",
        )
    group = _optional_text(entry.group, entry.where, "group", MAX_ID)
    note = _optional_text(entry.note, entry.where, "note", MAX_NAME)
    return ClassLabel(identifier, name, group, note, _checked_aliases(entry, name))


def _checked_aliases(entry: LabelEntry, name: str) -> tuple[str, ...]:
    texts = [" ".join(_checked_text(alias, entry.where, "alias").split()) for alias in entry.aliases]
    for text in texts:
        if not 1 <= len(text) <= MAX_NAME:
            raise LabelError(
                f"{entry.where}: an alias must have 1 to {MAX_NAME} characters, got {len(text)} ({quoted(text, 40)})",
                remedy="Shorten or remove it",
            )
    return tuple(dict.fromkeys(text for text in texts if text != name))


def _optional_text(text: str | None, where: str, field: str, limit: int) -> str | None:
    short = _checked_text(text or "", where, field).strip()
    if len(short) > limit:
        raise LabelError(
            f"{where}: the {field} may have up to {limit} characters, got {len(short)} ({quoted(short, 40)})",
            remedy="Shorten it",
        )
    return short or None


def _checked_text(text: str, where: str, field: str) -> str:
    """``text`` in NFC.

    Raises:
        LabelError: it holds a character that cannot be shown or compared.
    """
    for char in text:
        category = unicodedata.category(char)
        if category in ("Cc", "Cs", "Zl", "Zp") or (category == "Cf" and char not in JOINERS):
            raise LabelError(
                f"{where}: the {field} {quoted(text)} contains the control character U+{ord(char):04X}",
                remedy="Remove that character",
            )
    return unicodedata.normalize("NFC", text)


def from_names(names: Iterable[str], *, name: str = "labels") -> LabelSet:
    """A label set from names in memory.

    Raises:
        LabelError: no name, a name twice, a blank one, control characters, or over 500 characters.
    """
    entries = (LabelEntry(f"label {number}", text) for number, text in enumerate(names, 1))
    return build_label_set(entries, where="the list of labels", name=name, source="a list of names")


def shipped_label_sets() -> tuple[str, ...]:
    """The names of the label sets in data/labels/, sorted."""
    return tuple(sorted(path.stem for path in _shipped_folder().glob("*.json")))


@cache
def shipped_label_set(name: str) -> LabelSet:
    """A label set of data/labels/, for a benchmark in the official order of its classes.

    What ships keeps the rules of ``build_label_set``, so it is read without checks.

    Raises:
        UnknownNameError: there is no such set; lists the shipped ones.
    """
    if name not in shipped_label_sets():
        raise unknown_label_set(name)
    content = json.loads((_shipped_folder() / f"{name}.json").read_text(encoding="utf-8"))
    classes = tuple(
        ClassLabel(entry["id"], entry["name"], entry.get("group"), entry.get("note"), tuple(entry.get("aliases", ())))
        for entry in content["classes"]
    )
    left_out = tuple(content.get("left_out", ()))
    return LabelSet(content["name"], classes, content["version"], content["source"], left_out=left_out)


def wordnet_class(text: str) -> ClassLabel | None:
    """The ImageNet class of a WordNet id, with its name, note and aliases; None if ImageNet has no such class.

    Args:
        text: such as "n02123045", in any case, with space around it.
    """
    return shipped_label_set("imagenet").by_id.get(text.strip().lower())


def _shipped_folder() -> Path:
    return data_folder() / "labels"


def unknown_label_set(name: str) -> UnknownNameError:
    """The error for a name that is neither a shipped label set nor a file."""
    return UnknownNameError(
        "label set",
        printable(name, 100),
        shipped_label_sets(),
        remedy="Give one of these, a file of class names, or names with commas between, as in 'cat,dog'",
    )
