"""Changes of bundles for a terminal or a file: every line is text with nothing in it that a terminal would obey.

log_line(counts)                 "+12 -3 ~2 sentences in 4 classes, 40 accepted"
change_lines(change, style)      a class: what is gone, what is new, and edits side by side
stat_lines(changes, style)       a line for each class and a total, as ``git diff --stat`` has them
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Literal

from rich.cells import cell_len, chop_cells

from abs_core.descriptions import Description
from abs_core.text import counted, printable
from abs_descriptions.bundles.diff import ChangeCounts, ClassChange, LabelChange, altered_fields, show_note

__all__ = ["TextStyle", "change_lines", "label_lines", "label_summary", "log_line", "stat_lines", "word_changes"]

# Below this width an edit is shown as two lines, the old text above the new one.
_LEAST_SIDE_BY_SIDE = 60
_LEAST_BAR, _LEAST_WIDTH = 10, 30

_NOUNS = {
    frozenset(["sentence"]): ("sentence", "sentences"),
    frozenset(["phrase"]): ("phrase", "phrases"),
}
_RED, _GREEN, _YELLOW, _BOLD = "31", "32", "33", "1"
_REMOVED, _ADDED = "31;9", "32;1"
# a word, an ideograph or another sign, and the spaces behind it
_TOKEN = re.compile(r"([\u2e80-\u9fff\uf900-\ufaff]|\w+|[^\w\s]|^)(\s*)")


@dataclass(frozen=True)
class TextStyle:
    """How wide lines may be, and whether colour is understood: without it words that differ are marked as
    ``[-old-]`` and ``{+new+}``."""

    width: int = 80
    colour: bool = False

    def paint(self, text: str, code: str) -> str:
        """The text in a colour, or as it is."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text else text


_PLAIN = TextStyle()


def log_line(counts: ChangeCounts) -> str:
    """What changed, on one line."""
    signs = [f"{sign}{number}" for sign, number in _signs(counts) if sign != "="]
    parts = []
    if signs:
        texts = counts.added + counts.removed + counts.edited
        noun = _NOUNS.get(counts.kinds, ("description", "descriptions"))[texts != 1]
        parts.append(f"{' '.join(signs)} {noun} in {counted(counts.classes, 'class', 'classes')}")
    if counts.accepted:
        parts.append(f"{counts.accepted} accepted")
    if counts.otherwise:
        parts.append(f"{counts.otherwise} with another kind, provenance, score or id")
    return ", ".join(parts) or "no description differs"


def label_lines(change: LabelChange) -> Iterator[str]:
    """A label set's change, as ``change_lines``; nothing if there is none."""
    for class_id in change.added:
        yield f"new class: {printable(class_id)}"
    for class_id in change.removed:
        yield f"class gone: {printable(class_id)}"
    for class_id, old, new in change.renamed:
        yield f"renamed: {printable(class_id)} from {printable(old)} to {printable(new)}"
    for class_id, was, now in change.noted:
        yield f"note: {printable(class_id)} from {show_note(was)} to {show_note(now)}"


def label_summary(labels: LabelChange) -> str:
    """A label set's change on one line: "2 new classes, 1 class gone"."""
    parts = (
        (len(labels.added), "new class", "new classes"),
        (len(labels.removed), "class gone", "classes gone"),
        (len(labels.renamed), "class renamed", "classes renamed"),
        (len(labels.noted), "note changed", "notes changed"),
    )
    return ", ".join(counted(number, one, many) for number, one, many in parts if number)


def change_lines(change: ClassChange, style: TextStyle = _PLAIN) -> Iterator[str]:
    """A class's change: its name, then what is gone (-), new (+), edited (~, old | new) and otherwise altered (=)."""
    title = f"{printable(change.name)} ({printable(change.class_id)})"
    yield f"{style.paint(title, _BOLD)}, {change.kept} kept"
    for record in change.removed:
        yield style.paint(f"  - {printable(record.text)}", _RED)
    for record in change.added:
        yield style.paint(f"  + {printable(record.text)}", _GREEN)
    for old, new in change.edited:
        yield from _edit_lines(printable(old.text), printable(new.text), style)
    for old, new in change.altered:
        yield f"  = {printable(new.text)} [{', '.join(_alterations(old, new))}]"


def _alterations(old: Description, new: Description) -> list[str]:
    accepted = new.provenance.accepted_by
    fields = altered_fields(old, new)
    if accepted == old.provenance.accepted_by:
        return fields
    is_more = replace(old.provenance, accepted_by=accepted) != new.provenance
    verdict = "no longer accepted" if accepted is None else "accepted"
    return [verdict, *(field for field in fields if field != "provenance" or is_more)]


def stat_lines(changes: Iterable[ClassChange], style: TextStyle = _PLAIN) -> Iterator[str]:
    """A line for each class, with the number of its descriptions that differ and a bar of them, and the total."""
    rows = [(printable(change.name), printable(change.class_id), change.counts) for change in changes]
    names = Counter(name for name, _, _ in rows)
    titles = [name if names[name] == 1 else f"{name} ({class_id})" for name, class_id, _ in rows]
    sizes = [sum(number for _, number in _signs(counts)) for _, _, counts in rows]
    if not rows:
        return
    digits, width = len(str(max(sizes))), max(style.width, _LEAST_WIDTH)
    widest = max(map(cell_len, titles))
    name_width = min(widest, max(width - digits - 5 - _LEAST_BAR, width // 2))
    bar_width = max(width - name_width - digits - 5, _LEAST_BAR)
    # every sign that occurs has a mark, however few of how many
    scale = 1.0 if max(sizes) <= bar_width else (bar_width - 3) / max(sizes)
    total = ChangeCounts()
    for title, size, (_, _, counts) in zip(titles, sizes, rows, strict=True):
        total += counts
        shown = title if cell_len(title) <= name_width else chop_cells(title, name_width - 1)[0] + "…"
        padding = " " * (name_width - cell_len(shown))
        yield f" {shown}{padding} | {size:>{digits}} {_bar(counts, scale, style)}".rstrip()
    yield f" {counted(len(rows), 'class differs', 'classes differ')}: {log_line(total)}"


def word_changes(old: str, new: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """The words of two texts and the spaces between them, each with whether the other text lacks it. A space is that
    of the words around it, unless nothing but spaces differs."""
    before, after = ([(match[1], match[2]) for match in _TOKEN.finditer(text)] for text in (old, new))
    words = [word for word, _ in before], [word for word, _ in after]
    if words[0] == words[1]:
        return [(_joined(token), token not in after) for token in before], [
            (_joined(token), token not in before) for token in after
        ]
    differs: tuple[list[bool], list[bool]] = [], []
    for kind, a, b, c, d in SequenceMatcher(None, *words, autojunk=False).get_opcodes():
        differs[0].extend([kind != "equal"] * (b - a))
        differs[1].extend([kind != "equal"] * (d - c))
    return _spaced(before, differs[0]), _spaced(after, differs[1])


def _joined(token: tuple[str, str]) -> str:
    return "".join(token)


def _spaced(tokens: Sequence[tuple[str, str]], differs: Sequence[bool]) -> list[tuple[str, bool]]:
    spaced: list[tuple[str, bool]] = []
    for (word, space), this, following in zip(tokens, differs, [*differs[1:], False], strict=True):
        spaced.append((word, this))
        if space:
            spaced.append((space, this and following))
    return spaced


def _signs(counts: ChangeCounts) -> list[tuple[str, int]]:
    signs = (("+", counts.added), ("-", counts.removed), ("~", counts.edited), ("=", counts.altered))
    return [(sign, number) for sign, number in signs if number]


def _bar(counts: ChangeCounts, scale: float, style: TextStyle) -> str:
    colours = {"+": _GREEN, "-": _RED, "~": _YELLOW, "=": "0"}
    return "".join(style.paint(sign * max(1, int(number * scale)), colours[sign]) for sign, number in _signs(counts))


def _edit_lines(old: str, new: str, style: TextStyle) -> Iterator[str]:
    left, right = word_changes(old, new)
    if style.width < _LEAST_SIDE_BY_SIDE:
        yield "  ~ " + "".join(_cells(left, "old", style))
        yield "    " + "".join(_cells(right, "new", style))
        return
    width = (style.width - 7) // 2
    columns = [_wrapped(left, "old", width, style), _wrapped(right, "new", width, style)]
    for place in range(max(map(len, columns))):
        cells = [column[place] if place < len(column) else ("", 0) for column in columns]
        padding = " " * (width - cells[0][1])
        yield f"  {' ' if place else '~'} {cells[0][0]}{padding} | {cells[1][0]}".rstrip()


Side = Literal["old", "new"]


def _marked(words: Sequence[tuple[str, bool]], side: Side, style: TextStyle) -> Iterator[tuple[str, bool]]:
    """The words with marks where colour is not understood: around each run of words that differ."""
    opening, closing = ("[-", "-]") if side == "old" else ("{+", "+}")
    for place, (word, differs) in enumerate(words):
        if not differs or style.colour:
            yield word, differs
            continue
        starts = place == 0 or not words[place - 1][1]
        ends = place == len(words) - 1 or not words[place + 1][1]
        yield f"{opening if starts else ''}{word}{closing if ends else ''}", True


def _cells(words: Sequence[tuple[str, bool]], side: Side, style: TextStyle) -> list[str]:
    code = _REMOVED if side == "old" else _ADDED
    return [style.paint(word, code) if differs else word for word, differs in _marked(words, side, style)]


def _wrapped(words: Sequence[tuple[str, bool]], side: Side, width: int, style: TextStyle) -> list[tuple[str, int]]:
    """Lines of at most ``width`` cells, each with the cells that it takes."""
    code = _REMOVED if side == "old" else _ADDED
    lines: list[tuple[str, int]] = []
    line, taken = "", 0
    for word, differs in _marked(words, side, style):
        for piece in chop_cells(word, width) if cell_len(word) > width else [word]:
            size = cell_len(piece)
            if taken + size > width:
                lines.append((line, taken))
                line, taken = "", 0
                if piece.isspace():
                    continue
            line += style.paint(piece, code) if differs else piece
            taken += size
    return [*lines, (line, taken)]
