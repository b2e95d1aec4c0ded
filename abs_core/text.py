"""Text for people and programs: harmless in a terminal, valid Unicode in JSON, no formula in a spreadsheet."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = [
    "JOINERS",
    "PRIVATE_NAMES",
    "STARS",
    "counted",
    "csv_delimiter",
    "csv_table",
    "escape_formula",
    "format_bytes",
    "format_duration",
    "hidden_characters",
    "json_text",
    "printable",
    "quoted",
    "text_of_cell",
    "unescape_formula",
    "valid_unicode",
    "validation_message",
    "visible_cell",
    "without_secrets",
]

#: Joiner and non-joiner shape emoji, Indic and Persian words; they are needed and move nothing.
JOINERS = "\u200c\u200d"

# Cc: control (terminal escapes), Cf: bidirectional overrides and zero-width characters, Cs: lone surrogates,
# Co/Cn: private and unassigned, Zl/Zp: line and paragraph separators.
_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


# What has no picture of its own in any font: fillers, blanks that are no spaces, a joiner of marks.
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_SELECTOR = re.compile("[\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")

# Hebrew, Vietnamese and Tibetan put up to four marks on a letter; more climb over the lines above.
_MAX_MARKS = 4


def printable(text: str, limit: int | None = None) -> str:
    """``text`` with each character that could move a cursor, reorder a line, hide or leave its line as an escape.

    Joiners, variation selectors and combining marks stay where writing and emoji use them.

    Args:
        text: any string, also one with lone surrogates.
        limit: cut to this many characters, the last one an ellipsis.
    """
    shown = text if text.isascii() and text.isprintable() else "".join(_visible(text))
    if limit is not None and len(shown) > limit:
        return shown[: limit - 1] + "…"
    return shown


#: what stands in the place of a secret
STARS = "***"

#: a pattern of names whose values are secrets
PRIVATE_NAMES = r"[\w.-]*(?:token|secret|password|passwd|api[_-]?key|signature|credential|access[_-]?key)[\w.-]*"

# One slash is what pathlib leaves of two; of other protocols what follows it is a path, as in csv:/data/team@lab/a.csv.
_USER = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]{0,20}:/{2,3}|\b(?:s3|gs|hf|https?):/))[^/\s]+@", re.IGNORECASE)
_QUERY = re.compile(rf"([?&;]({PRIVATE_NAMES}|sig|key|auth)=)[^&;\s]+", re.IGNORECASE)
# no underscore behind hf_, and no sk-learn, so that hf_hub_download and such folders are left alone
_KNOWN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{12,}|(?:sk-(?!learn)|gh[a-z]_|github_pat_|glpat-|AIza|A[KS]IA)[A-Za-z0-9_-]{12,})"
)


def without_secrets(text: str) -> str:
    """A text without users and passwords in addresses, keys in queries, and what looks like a key of a service."""
    plain = _QUERY.sub(rf"\g<1>{STARS}", _USER.sub(rf"\g<1>{STARS}@", text))
    return _KNOWN.sub(STARS, plain)


def hidden_characters(text: str) -> Iterator[str]:
    """The characters of ``text`` that ``printable`` writes as escapes."""
    return (char for char, shown in zip(text, _visible(text), strict=True) if shown != char)


def _visible(text: str) -> Iterator[str]:
    before, marks = "", 0
    for char in text:
        category = unicodedata.category(char)
        if category[0] != "M" or category == "Mc":
            marks = 0
        if char in JOINERS:
            is_plain = _takes_joiner(before)
        elif _SELECTOR.match(char):
            is_plain = _takes_selector(before, char)
        elif category in ("Mn", "Me"):
            marks += 1
            is_plain = bool(before) and marks <= _MAX_MARKS and char not in _FILLERS
        else:
            is_plain = category not in _UNSAFE and char not in _FILLERS
        yield char if is_plain else char.encode("unicode_escape").decode("ascii")
        before = char if is_plain else "x"


def _takes_joiner(before: str) -> bool:
    """Whether a joiner behind this character shapes something: in Arabic, Indic and like scripts, and in emoji."""
    if not before or _SELECTOR.match(before):
        return before == "\ufe0f"
    category = unicodedata.category(before)
    if category in ("So", "Sk"):
        return True
    shapes = "\u0590" <= before <= "\u1cff" or "\ua800" <= before <= "\uabff" or "\ufb1d" <= before <= "\ufeff"
    return category[0] in "LM" and (shapes or "\U00010800" <= before <= "\U0001ffff")


def _takes_selector(before: str, selector: str) -> bool:
    """Whether a variation selector chooses a form of this character: of emoji, symbols, ideographs, Mongolian."""
    if not before:
        return False
    if selector in "\ufe0e\ufe0f":
        return unicodedata.category(before)[0] == "S" or before in "0123456789#*‼⁉〰〽"
    if selector < "\ufe00":
        return "\u1800" <= before <= "\u18af"
    is_ideograph = "\u3400" <= before <= "\u9fff" or "\uf900" <= before <= "\ufaff"
    is_ideograph = is_ideograph or "\U00020000" <= before <= "\U0003ffff"
    return is_ideograph or (selector == "\ufe00" and unicodedata.category(before) == "Sm")


def quoted(text: str, limit: int = 60) -> str:
    """``text`` in quotes for a message: cut to ``limit`` characters, with nothing that a terminal would obey."""
    return f"'{printable(text[: limit + 1], limit)}'"


def json_text(value: Any) -> str:
    """JSON on one line; what is not valid Unicode, as file names may be, becomes JSON's own escape."""
    return valid_unicode(json.dumps(value, ensure_ascii=False))


def valid_unicode(text: str) -> str:
    """``text`` with lone surrogates, which stand for bytes of file names that are not text, as ``\\udcff``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def validation_message(error: ValidationError) -> str:
    """The first complaint of pydantic on one line, with nothing of the input but its keys."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = printable(".".join(str(part)[:60] for part in first["loc"]), 120) or "the whole"
    if first["type"] == "extra_forbidden":
        return f"{where}: an unknown key"
    if first["type"] in ("missing", "too_short"):
        return f"{where}: {'missing' if first['type'] == 'missing' else 'empty'}"
    return f"{where}: {printable(first['msg'].removeprefix('Value error, '), 200)}"


def counted(number: int, singular: str, plural: str) -> str:
    """A number and what is counted: "1 class", "2 classes"."""
    return f"{number} {singular if number == 1 else plural}"


def format_bytes(count: int) -> str:
    """A number of bytes with one decimal: "1.5 GB", "20.0 kB", "12 B"."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def parse_bytes(text: str) -> int:
    """The number of bytes of a size such as ``500M``, ``5G``, ``1.5 TB`` or ``4096``.

    Raises:
        ValueError: it is no size.
    """
    size = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if not size:
        raise ValueError(f"must be a size such as 500M or 5G, got {text!r}")
    return int(float(size[1]) * 1000 ** " kmgt".index(size[2] or " "))


def format_duration(seconds: float) -> str:
    """A time in two units at most: "45 s", "12 min", "8 h 39 min", "3 d 4 h"."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def csv_delimiter(text: str) -> str:
    """The delimiter of a CSV text, by its first row: a comma, a semicolon or a tab."""
    first = re.split("[\r\n]", text, maxsplit=1)[0]
    return max(",;\t", key=first.count)


def csv_table(text: str) -> tuple[str, str]:
    """A CSV text and its delimiter; Excel's line ``sep=;`` becomes an empty one, so that line numbers stay right."""
    stated = re.match(r"\"?sep=(.)\"?[^\S\n]*(?=\n)", text, re.IGNORECASE)
    return (text, csv_delimiter(text)) if stated is None else (text[stated.end() :], stated[1])


# A cell, or what follows a separator that another program may see in it, that begins so is a formula there, or was
# escaped because it would be one.
_FORMULA = re.compile("((?:^|[;|\\t\\r\\n]) *)('*)(?=[-=+@\\t\\r\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b])")


def escape_formula(cell: str) -> str:
    """A CSV cell of which no spreadsheet runs a part as a formula: an apostrophe before each that would be one."""
    return _FORMULA.sub(r"\1'\2", cell)


def unescape_formula(cell: str) -> str:
    """The cell that ``escape_formula`` was given."""
    return _FORMULA.sub(lambda match: match[1] + match[2][1:], cell)


_CELL_ESCAPE = re.compile(r"\\(\\|[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_CELL_ESCAPES = re.compile(rf"(?:[^\\]|{_CELL_ESCAPE.pattern})*", re.DOTALL)
_SHORT = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


def visible_cell(text: str) -> str:
    """A CSV cell that shows what ``printable`` shows: where it differs, a backslash and the escaped text.

    ``text_of_cell`` gives the text back, exactly.
    """
    if printable(text) != text or text.startswith("\\"):
        text = "\\" + printable(text.replace("\\", "\\\\"))
    return escape_formula(text)


def text_of_cell(cell: str) -> str:
    """The text that ``visible_cell`` was given; a cell that it cannot have written is its own text."""
    text = unescape_formula(cell)
    escaped = text.startswith("\\") and _CELL_ESCAPES.fullmatch(text[1:]) and _CELL_ESCAPE.search(text[1:])
    if not escaped:
        return text
    return _CELL_ESCAPE.sub(lambda match: _SHORT.get(match[1]) or chr(int(match[1][1:], 16)), text[1:])
