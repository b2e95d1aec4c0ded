"""Label sets: classes with stable ids, and the pure rules that every label obeys.

    read_labels("pets.txt")          a file: .txt, .csv or .json (see ``label_files``)
    read_labels("imagenet")          a set that ships with the toolkit
    from_names(["cat", "dog"])       a list
    from_folder(Path("train"))       one class per sub-folder

A class is known by its id, never by its position. Where no id is given it is a slug of the name, which depends on
that name alone, so adding or sorting labels changes no id.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from abs_core.canonical import digest
from abs_core.errors import LabelError
from abs_core.printable import printable

__all__ = [
    "ClassName",
    "LabelSet",
    "fold",
    "from_folder",
    "from_names",
    "read_labels",
    "shipped_label_sets",
    "slug",
]

MAX_NAME = 500
MAX_ID = 200
_SLUG_LENGTH = 120
# The joiners that emoji and the Persian and Indic scripts need; every other format character only hides or reorders.
_JOINERS = "\u200c\u200d"


@dataclass(frozen=True, slots=True)
class ClassName:
    """One class.

    Args:
        id: stable and unique in its label set; enters bundles, caches and results.
        name: as it is prompted and shown.
        group: a coarser class, where there is one.
        note: what tells the class from its namesakes: "the bird". It is told to the language model behind the name.
    """

    id: str
    name: str
    group: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class LabelSet:
    """Classes with unique ids.

    Args:
        name: how the set is called, for example "pets".
        classes: in the order of the source; nothing depends on it.
        version: of the list.
        source: where the list comes from, in words.

    Raises:
        LabelError: no class at all, or an id twice.
    """

    name: str
    classes: tuple[ClassName, ...]
    version: str = "1.0.0"
    source: str = ""

    def __post_init__(self) -> None:
        if not self.classes:
            raise LabelError(f"the label set {_shown(self.name)} has no classes", remedy="Give at least one label")
        seen: set[str] = set()
        for one in self.classes:
            if one.id in seen:
                raise LabelError(
                    f"the label set {_shown(self.name)} has the class id {_shown(one.id)} twice",
                    remedy="Give each class an id of its own",
                )
            seen.add(one.id)

    @cached_property
    def digest(self) -> str:
        """``sha256:...`` of the ids and names, sorted by id: the same classes in another order are the same set."""
        return digest(sorted([one.id, one.name] for one in self.classes))

    @cached_property
    def _by_id(self) -> Mapping[str, ClassName]:
        return {one.id: one for one in self.classes}

    @cached_property
    def _by_name(self) -> Mapping[str, tuple[ClassName, ...]]:
        found: dict[str, tuple[ClassName, ...]] = {}
        for one in self.classes:
            key = fold(one.name)
            found[key] = (*found.get(key, ()), one)
        return found

    def resolve(self, label: str) -> ClassName:
        """The class with this id, else the one with this name after folding (``fold``).

        Raises:
            LabelError: no class or several classes match; names close matches or the ids to choose from.
        """
        exact = self._by_id.get(label)
        if exact is not None:
            return exact
        named = self._by_name.get(fold(label), ())
        if len(named) == 1:
            return named[0]
        if named:
            ids = ", ".join(_shown(one.id) for one in named[:5])
            raise LabelError(f"the label {_shown(label)} names several classes", remedy=f"Use an id: {ids}")
        raise LabelError(
            f"the label {_shown(label)} is not in the label set {_shown(self.name)}", remedy=self._suggestion(label)
        )

    def _suggestion(self, label: str) -> str:
        folded = {fold(one.id): one.id for one in self.classes} | {
            key: ones[0].name for key, ones in self._by_name.items()
        }
        close = [folded[key] for key in difflib.get_close_matches(fold(label)[:MAX_NAME], folded, n=3, cutoff=0.6)]
        if close:
            return f"Write {' or '.join(_shown(name) for name in dict.fromkeys(close))} if that is meant"
        return f"Use one of its {len(self.classes)} labels, for example {_shown(self.classes[0].name)}"


def fold(name: str) -> str:
    """``name`` with case, width, and runs of spaces and underscores evened out: "Brick_wall " is "brick wall"."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").split())


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
    # Symbols and the few punctuation marks that tell names apart; commas, quotes and brackets do not.
    tells_apart = unicodedata.category(char)[0] == "S" or char in "#%&*@!?/\\"
    return f"_x{ord(char):x}_" if tells_apart else "_"


@dataclass(frozen=True, slots=True)
class Entry:
    """A class as it stood in its source, before the rules.

    Args:
        where: how a message begins: "labels.txt line 3".
        name, id, group, note: as written; no id means the slug of the name.
    """

    where: str
    name: str
    id: str | None = None
    group: str | None = None
    note: str | None = None


def build_label_set(
    entries: Iterable[Entry], *, where: str, name: str, source: str, version: str = "1.0.0"
) -> LabelSet:
    """Check entries one by one and against each other. Pure.

    ``where`` is what a message calls the whole: the path of the file.

    Two classes may share a name only where both carry a note that tells them apart (ImageNet has two such pairs).

    Raises:
        LabelError: a rule is broken; names the place.
    """
    classes: list[ClassName] = []
    names: dict[str, tuple[str, ClassName]] = {}
    ids: dict[str, str] = {}
    for entry in entries:
        one = _checked(entry)
        key = fold(one.name)
        if key in names and not (one.note and names[key][1].note and one.note != names[key][1].note):
            raise LabelError(
                f"{entry.where}: the label {_shown(one.name)} is there already ({names[key][0]})",
                remedy="Remove one of them, or give both an id and a note that tells them apart",
            )
        if one.id in ids:
            raise LabelError(
                f"{entry.where}: the id {_shown(one.id)} of {_shown(one.name)} is there already ({ids[one.id]})",
                remedy="Give each class an id of its own",
            )
        names[key] = (entry.where, one)
        ids[one.id] = entry.where
        classes.append(one)
    if not classes:
        raise LabelError(f"{where} has no labels", remedy="Write one class name on each line")
    return LabelSet(_checked_text(name, "the label set", "name"), tuple(classes), version, source)


def _checked(entry: Entry) -> ClassName:
    name = " ".join(_checked_text(entry.name, entry.where, "label").split())
    if not name:
        raise LabelError(f"{entry.where}: the label is only spaces", remedy="Remove it or write a class name there")
    if len(name) > MAX_NAME:
        raise LabelError(
            f"{entry.where}: the label has {len(name)} characters ({_shown(name, 40)})",
            remedy=f"Use names of at most {MAX_NAME} characters",
        )
    if entry.id is None:
        return ClassName(slug(name), name, *_extras(entry))
    identifier = _checked_text(entry.id, entry.where, "id").strip()
    if not identifier or len(identifier) > MAX_ID:
        raise LabelError(
            f"{entry.where}: the id of {_shown(name)} has {len(identifier)} characters",
            remedy=f"Use ids of 1 to {MAX_ID} characters",
        )
    return ClassName(identifier, name, *_extras(entry))


def _extras(entry: Entry) -> tuple[str | None, str | None]:
    return _short_text(entry.group, entry.where, "group", MAX_ID), _short_text(
        entry.note, entry.where, "note", MAX_NAME
    )


def _short_text(text: str | None, where: str, what: str, limit: int) -> str | None:
    short = _checked_text(text or "", where, what).strip()
    if len(short) > limit:
        raise LabelError(
            f"{where}: the {what} has {len(short)} characters ({_shown(short, 40)})",
            remedy=f"Use at most {limit} characters",
        )
    return short or None


def _checked_text(text: str, where: str, what: str) -> str:
    """``text`` in NFC, or the reason why it cannot be shown and compared."""
    for char in text:
        category = unicodedata.category(char)
        if category in ("Cc", "Cs", "Zl", "Zp") or (category == "Cf" and char not in _JOINERS):
            raise LabelError(
                f"{where}: the {what} {_shown(text)} holds the control character U+{ord(char):04X}",
                remedy="Remove that character",
            )
    return unicodedata.normalize("NFC", text)


def from_names(names: Iterable[str], *, name: str = "labels") -> LabelSet:
    """A label set from names in memory.

    Raises:
        LabelError: no name, a name twice, only spaces, control characters, or over 500 characters.
    """
    entries = (Entry(f"label {position}", text) for position, text in enumerate(names, 1))
    return build_label_set(entries, where="the list of labels", name=name, source="a list of names")


def from_folder(folder: Path, *, name: str | None = None) -> LabelSet:
    """A label set from the sub-folders of a folder, one class each; hidden folders are left out.

    The id is the slug of the folder's name, the class name is the folder's name with spaces for underscores.

    Raises:
        LabelError: no sub-folder, or names that break a rule.
        StorageError: the folder cannot be read.
    """
    from abs_descriptions.label_files import read_folder

    return read_folder(folder, name)


def read_labels(source: str | Path, name: str | None = None) -> LabelSet:
    """A label set from a ``.txt``, ``.csv`` or ``.json`` file, from a folder, or by the name of a shipped one.

    Args:
        source: a path, or a shipped name such as "imagenet"; something on the disk of that very name is meant by
            "./imagenet".
        name: what to call the set; by default the name it states, else the name of the file.

    Raises:
        LabelError: a bad file; names file and line.
        UnknownNameError: neither a file nor a shipped name; lists the shipped ones.
        StorageError: the file cannot be read.
    """
    from abs_descriptions.label_files import read_source

    return read_source(source, name)


def shipped_label_sets() -> tuple[str, ...]:
    """The names of the label sets that ship with the toolkit, sorted."""
    from abs_descriptions.label_files import shipped_names

    return shipped_names()


def _shown(text: str, limit: int = 60) -> str:
    return f"'{printable(text[: limit + 1], limit)}'"
