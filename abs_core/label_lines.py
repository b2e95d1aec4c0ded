"""Class names as other tools list them: numbered, bulleted, quoted, behind ids. Pure.

Every form is read only if all lines have it, so a list in which one name looks like another form stays as written.
What was read otherwise than written, and what looks as if it should have been, is counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from abs_core.errors import LabelError
from abs_core.label_set import ClassLabel, LabelEntry, fold, wordnet_class
from abs_core.remarks import RemarkCounter
from abs_core.text import hidden_characters, quoted

__all__ = ["Reading", "doubtful_names", "entries_of_lines", "is_id", "named_entry", "translated"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader of label files says beside the classes.

    Args:
        how: what was read otherwise than it is written.
        doubts: what was read as it is written, and looks as if something else was meant.
    """

    how: RemarkCounter
    doubts: RemarkCounter


@dataclass(frozen=True, slots=True)
class _Line:
    where: str
    text: str
    id: str | None = None
    aliases: tuple[str, ...] = ()


_INVISIBLE = "\u200b\u2060\ufeff"
_WORDNET_ID = re.compile(r"n[0-9]{8}")
_NUMBER = re.compile(r"[0-9]{1,9}")
# numbers, and the ids of WordNet, Freebase and Wikidata
_ID = re.compile(r"[0-9]{1,9}|n[0-9]{8}|/[mgt]/[0-9A-Za-z_]{2,20}|Q[0-9]{2,12}")
_WORDNET = re.compile(r"(n[0-9]{8})(?:[\s,:=_-]+(\S.*))?")
_BULLET = re.compile(r"[-*+•‣·–—]\s+(?=\S)")
# A number, a mark or a space, a name; the numbers of all lines have to count up for it to be read so.
_NUMBERED = re.compile(r"[\[(#]?([0-9]{1,6})(?:\s*[.):\],=]\s*|\s+-\s+|\s+)(\S.*)")
_NUMBERED_BEHIND = re.compile(r"(\S.*?)(?:\s*[,:=]\s*|\s+-\s+|\s+)\(?([0-9]{1,6})\)?")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "`": "`"}
_BRACKETS = {"[": "]", "{": "}", "(": ")"}


def entries_of_lines(where: str, lines: Iterable[tuple[int, str]], reading: Reading) -> list[LabelEntry]:
    """The classes of a list of lines.

    Args:
        where: what a message calls the source.
        lines: the number and the text of each line that is no comment and not empty.
        reading: what to say is added to it.

    Raises:
        LabelError: columns of which none is clearly the name; a WordNet id that has no name.
    """
    listed = [_Line(f"{where} line {number}", _without_invisible(text, reading)) for number, text in lines]
    listed = _split_only_line(listed, reading)
    listed = _split_tabs(listed, reading)
    for strip, kind in _WRAPPINGS:
        texts = strip([line.text for line in listed])
        if texts is not None:
            _note(reading.how, kind, listed)
            listed = [replace(line, text=text) for line, text in zip(listed, texts, strict=True)]
    for _ in range(2):  # "1 001.Black_footed_Albatross"
        listed = _strip_numbers(listed, reading)
    texts = _without_emphasis([line.text for line in listed])  # "1. **Cat**"
    if texts is not None:
        _note(reading.how, "read without the marks of emphasis around it", listed)
        listed = [replace(line, text=text) for line, text in zip(listed, texts, strict=True)]
    listed = _strip_letter_folders(listed, reading)
    return [_entry(line, reading) for line in _split_numbered_ids(listed, reading)]


_NUMBERED_ID = re.compile(r"(n[0-9]{8})\s+([0-9]{1,6})\s+(\S+)")


def _split_numbered_ids(lines: list[_Line], reading: Reading) -> list[_Line]:
    """``n02119789 1 kit_fox``, as ImageNet's devkit and Keras list them: the number is that of the line."""
    matches = [match for line in lines if line.id is None and (match := _NUMBERED_ID.fullmatch(line.text))]
    if not matches or len(matches) < len(lines) or len({match[2] for match in matches}) < len(lines):
        return lines
    _note(reading.how, "read as a WordNet id, a number and a name", lines)
    return [
        replace(line, text=match[3].replace("_", " "), id=match[1]) for line, match in zip(lines, matches, strict=True)
    ]


def _note(counter: RemarkCounter, kind: str, lines: Sequence[_Line]) -> None:
    for line in lines:
        counter.add(kind, line.text)


def _without_invisible(text: str, reading: Reading) -> str:
    stripped = text.strip(_INVISIBLE)
    if stripped != text:
        reading.how.add("read without the invisible characters around it", stripped)
    return stripped


def _split_only_line(lines: list[_Line], reading: Reading) -> list[_Line]:
    """One line that lists several names is not one name: a label set of one class classifies nothing."""
    if len(lines) != 1 or "\t" in lines[0].text or _WORDNET.match(lines[0].text):
        return lines
    text = lines[0].text.strip()
    if _BRACKETS.get(text[:1]) == text[-1:] != "":
        text = text[1:-1]
    for mark in ";,|":
        names = [name.strip() for name in text.strip(f" {mark}").split(mark)]
        if len(names) > 1:
            parts = [_Line(lines[0].where, name) for name in names]
            _note(reading.how, f"read from one line with {mark!r} between the names", parts)
            return parts
    return lines


def _split_tabs(lines: list[_Line], reading: Reading) -> list[_Line]:
    """Two columns are an id and a name; a column of numbers or WordNet ids is the id wherever it stands."""
    if not any("\t" in line.text for line in lines):
        return lines
    rows = [[cell.strip() for cell in line.text.split("\t")] for line in lines]
    widths = {len([cell for cell in row if cell]) for row in rows}
    if max(widths, default=0) > 2:
        wide = next(line for line, row in zip(lines, rows, strict=True) if len([cell for cell in row if cell]) > 2)
        raise LabelError(
            f"{wide.where} must be a name, or an id, a tab and a name, got {wide.text.count(chr(9)) + 1} columns",
            remedy="Name the file .csv and begin it with a header such as id,name,note",
        )
    pairs = [row for row in rows if len(row) == 2 and all(row)]
    if pairs and all(is_id(right) for _, right in pairs) and not any(is_id(left) for left, _ in pairs):
        reversed_lines = [line for line, row in zip(lines, rows, strict=True) if all(row) and len(row) == 2]
        _note(reading.how, "read as a name, a tab and an id", reversed_lines)
        return [_pair(line, row, name=0) for line, row in zip(lines, rows, strict=True)]
    if pairs and all(_NUMBER.fullmatch(cell) for row in pairs for cell in row):
        raise LabelError(
            f"{lines[0].where} has two columns of numbers, and none of them is a name",
            remedy="Write the class names, or an id, a tab and a name",
        )
    return [_pair(line, row, name=1) for line, row in zip(lines, rows, strict=True)]


def is_id(cell: str) -> bool:
    """Whether a cell of a table holds an id as other tools write them, and no name."""
    return _ID.fullmatch(cell.strip()) is not None


def _pair(line: _Line, row: list[str], *, name: int) -> _Line:
    filled = [cell for cell in row if cell]
    if len(filled) == 2:
        return replace(line, text=filled[name], id=filled[1 - name])
    if len(row) > 1 and row[0] and is_id(row[0]):
        raise LabelError(f"{line.where} has an id and no label", remedy="Write the class name after the tab")
    return replace(line, text=filled[0] if filled else "")


def _without_bullets(texts: Sequence[str]) -> list[str] | None:
    if not texts or not all(_BULLET.match(text) for text in texts):
        return None
    return [_BULLET.sub("", text, count=1) for text in texts]


def _without_commas(texts: Sequence[str]) -> list[str] | None:
    if len(texts) < 2 or not all(text.endswith((",", ";")) for text in texts[:-1]):
        return None
    return [text.rstrip(",; ") for text in texts]


def _without_quotes(texts: Sequence[str]) -> list[str] | None:
    if not texts or not all(len(text) > 2 and _QUOTES.get(text[0]) == text[-1] for text in texts):
        return None
    return [text[1:-1] for text in texts]


_EMPHASIS = re.compile(r"(\*\*|__|\*|~~)([^*~\s](?:[^*~]*[^*~\s])?)\1")


def _without_emphasis(texts: Sequence[str]) -> list[str] | None:
    matches = [_EMPHASIS.fullmatch(text) for text in texts if len(text) <= _MAX_NUMBERED]
    found = [match[2] for match in matches if match is not None]
    return found if texts and len(found) == len(texts) else None


_COLORED = re.compile(r"([^:]+):(?:[0-9]{1,3},[0-9]{1,3},[0-9]{1,3})?:[^:]*:[^:]*")


def _without_colors(texts: Sequence[str]) -> list[str] | None:
    matches = [_COLORED.fullmatch(text) for text in texts]
    found = [match[1].strip() for match in matches if match is not None]
    return found if texts and len(found) == len(texts) else None


_WRAPPINGS: tuple[tuple[Callable[[Sequence[str]], list[str] | None], str], ...] = (
    (_without_bullets, "read without the bullet before it"),
    (_without_commas, "read without the comma after it"),
    (_without_quotes, "read without the quotes around it"),
    (_without_emphasis, "read without the marks of emphasis around it"),
    (_without_colors, "read without the color after it"),
)


def _strip_numbers(lines: list[_Line], reading: Reading) -> list[_Line]:
    """Numbers that count the lines up from 0 or 1 are no part of the names."""
    if any(line.id is not None for line in lines):
        return lines
    for pattern, number, kind in (
        (_NUMBERED, 1, "read without the number before it"),
        (_NUMBERED_BEHIND, 2, "read without the number after it"),
    ):
        matches = _all_match(pattern, lines)
        if len(matches) < 2:
            continue
        first = int(matches[0][number])
        names = [match[3 - number].strip() for match in matches]
        counting = first in (0, 1) and [int(match[number]) for match in matches] == list(
            range(first, first + len(lines))
        )
        # "1 euro, 2 euro" counts up as well, and is not numbered.
        if counting and len(set(map(fold, names))) == len(names):
            _note(reading.how, kind, lines)
            return [replace(line, text=name) for line, name in zip(lines, names, strict=True)]
    return lines


# a line that is longer is no number and a name, and the patterns take long for it
_MAX_NUMBERED = 600


def _all_match(pattern: re.Pattern[str], lines: Sequence[_Line]) -> list[re.Match[str]]:
    """The match of each line; nothing if one of them has none."""
    matches = []
    for line in lines:
        match = pattern.fullmatch(line.text) if len(line.text) <= _MAX_NUMBERED else None
        if match is None:
            return []
        matches.append(match)
    return matches


_LETTER_FOLDER = re.compile(r"/([a-z])/(\1\S*)")


def _strip_letter_folders(lines: list[_Line], reading: Reading) -> list[_Line]:
    """``/a/apartment_building/outdoor``, as Places365 and SUN397 list their categories."""
    matches = [match for line in lines if line.id is None and (match := _LETTER_FOLDER.fullmatch(line.text))]
    if len(matches) < len(lines):
        return lines
    _note(reading.how, "read as a path below a letter: the path is the id", lines)
    return [
        replace(line, text=re.sub("[_/]+", " ", match[2]).strip(), id=match[2])
        for line, match in zip(lines, matches, strict=True)
    ]


def _entry(line: _Line, reading: Reading) -> LabelEntry:
    if line.id is not None:
        return named_entry(line.where, line.id, line.text, reading)
    match = _WORDNET.fullmatch(line.text)
    if match is None:
        return LabelEntry(line.where, line.text)
    if match[2] is None:
        return translated(line.where, match[1], reading)
    reading.how.add("read as a WordNet id and a name", line.text)
    return named_entry(line.where, match[1], match[2], reading)


def named_entry(where: str, identifier: str, name: str, reading: Reading) -> LabelEntry:
    """An id and its name; behind a WordNet id the words of a synset ("tench, Tinca tinca") are a name and aliases."""
    words = [word.strip() for word in name.split(",")]
    if _WORDNET_ID.fullmatch(identifier) is None or len(words) < 2 or not all(words):
        return LabelEntry(where, name, identifier)
    reading.how.add("read as a synset: the first word is the name, the others are aliases", name)
    return LabelEntry(where, words[0], identifier, aliases=tuple(words[1:]))


def translated(where: str, wordnet_id: str, reading: Reading) -> LabelEntry:
    """The class of a bare WordNet id, with the name that ImageNet's label set has for it.

    Raises:
        LabelError: ImageNet has no such class, so nothing says its name.
    """
    known = wordnet_class(wordnet_id)
    if known is None:
        raise LabelError(
            f"{where}: {quoted(wordnet_id)} is a WordNet id that is not one of ImageNet's 1,000",
            remedy="Write its name behind it, after a tab",
        )
    reading.how.add("read as the name that ImageNet has for the WordNet id", f"{wordnet_id}: {known.name}")
    return LabelEntry(where, known.name, wordnet_id, known.group, known.note, known.aliases)


_MARKUP = re.compile(r"</?[A-Za-z][^<>]{0,80}>|https?://|%[sd]\b|\$[A-Z_]{2,}|\{[^{}]{0,60}\}|(?:^|/)\.{1,2}/")

_HEADERS = {
    "name",
    "names",
    "label",
    "labels",
    "class",
    "classes",
    "class name",
    "class names",
    "classname",
    "category",
}

_DOUBTS: tuple[tuple[Callable[[str], object], str], ...] = (
    (lambda name: any(True for _ in hidden_characters(name)), "used as written: with invisible characters"),
    (_MARKUP.search, "used as written: markup, a placeholder or an address"),
    (_BULLET.match, "used as written: begins with a bullet"),
    (re.compile(r"[0-9]+\s*(?:[.):]\s+|=\s*)\S").match, "used as written: begins with a number as lists do"),
    (lambda name: len(name) > 1 and _QUOTES.get(name[0]) == name[-1], "used as written: in quotes"),
    (re.compile(",").search, "used as written: with a comma in it"),
    (re.compile(r".*:(?:\s|$)").match, "used as written: with a colon in it"),
    (re.compile(r"[\[{].*|[^\[{]*[\]}]").fullmatch, "used as written: in brackets"),
    (re.compile(r"(\*\*|__|\*)\S.*\S?\1").fullmatch, "used as written: in marks of emphasis"),
    (lambda name: fold(name) in _HEADERS, "used as written: like the header of a table"),
    (lambda name: len(name) > 100, "used as written: over 100 characters"),
)


def doubtful_names(classes: Iterable[ClassLabel]) -> RemarkCounter:
    """Names that look as if a file was read otherwise than it was meant, beside those that are no words at all."""
    doubts = RemarkCounter()
    classes = list(classes)
    names = {label.name: label.id for label in classes}
    counted = [label.name for label in classes if re.fullmatch(r".*\S\s+[-+]?[0-9]", label.name)]
    if len(counted) == len(classes) > 1:
        for name in counted:
            doubts.add("used as written: ends with a number as all do", name)
    for label in classes:
        for test, kind in _DOUBTS:
            if test(label.name):
                doubts.add(kind, label.name)
                break
        if names.get(label.id, label.id) != label.id:
            doubts.add("hidden by an id: the name of another class", label.id)
    return doubts
