"""The texts of JSON in a completion, however a model writes it. Pure.

Models put JSON in code fences, after "Here it is:", with trailing commas, single quotes or comments, one object a line,
with keys of their own, and are cut off in the middle. A strict parser would lose the texts of all of these, which are
paid for. The reader here never fails: it takes each string that is not a key, in one pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["TextPart", "split_structured"]

_START = re.compile(
    r"[\[{](?=\s*(?://[^\n]{0,200}\n\s*|#[^\n]{0,200}\n\s*)?(?:[\"'“‘`]|[\[{]\s*[\"'“‘{\[\w]|\w{1,40}\s?:\s*[\"'“\[{]))"
)
_CLOSING = {'"': '"”', "“": '”"', "'": "'’", "‘": "’'", "`": "`"}
# A quote within a text is not followed by one of these.
_AFTER_STRING = re.compile(r"[^\S\n]*(?:[,:\]};]|\n|//|#|\Z)|[^\S\n]+[\"“]|\s*\Z")
_BARE = re.compile(r"[^,:\[\]{}\"“\n]+")
_SPACE = re.compile(r"[\s,;]+")
_KEY_END = re.compile(r"\s*:")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}

# How many of the keys around a text are looked at.
_DEPTH = 10

# Keys of what describes no image.
_META = frozenset(
    "analysis author category class classlabel classname confidence count date error explanation family genus id index "  # noqa: SIM905
    "item keywords kind label lang language length model name notes note number object prompt query question rationale "
    "reasoning role score scientificname source sources species status subject success tags thinking thought thoughts "
    "timestamp title tokens topic type url version wordcount words".split()
)


@dataclass(frozen=True, slots=True)
class TextPart:
    """A part of a completion.

    Args:
        text: prose, or one text of a JSON value.
        key: the key of the text; empty for prose and in lists.
        is_value: it stands in JSON.
        is_cut: the completion ends within the text.
    """

    text: str
    key: str = ""
    is_value: bool = False
    is_cut: bool = False


def split_structured(text: str) -> Iterator[TextPart]:
    """Prose and the texts of JSON values, in the order of ``text``."""
    position = 0
    while (start := _START.search(text, position)) is not None:
        values, end = _read(text, start.start())
        yield TextPart(text[position : start.start()])
        yield from values
        position = end
    yield TextPart(text[position:])


def _read(text: str, position: int) -> tuple[list[TextPart], int]:
    """The texts of the JSON value at ``position``, and the position after it."""
    values, keys = list[TextPart](), list[str]()
    key = ""
    while position < len(text):
        char = text[position]
        if char in "[{":
            keys.append(key)
            key, position = "", position + 1
        elif char in "]}":
            position, key = position + 1, ""
            keys.pop()
            if not keys:
                break
        elif char in _CLOSING:
            string, position, is_closed = _string(text, position)
            colon = _KEY_END.match(text, position) if is_closed else None
            if colon is None:
                values += _value(string, [*keys[-_DEPTH:], key], is_cut=not is_closed)
                key = key if text[position : position + 1] == "\n" else ""
            else:
                key, position = string, colon.end()
        else:
            key, position = _other(text, position, key, keys, values)
    return values, position


def _other(text: str, position: int, key: str, keys: list[str], values: list[TextPart]) -> tuple[str, int]:
    """Skip what is no string: a separator, a comment, a number, or a text or key without quotes."""
    if text.startswith(("//", "#"), position):
        end = text.find("\n", position)
        return key, len(text) if end < 0 else end
    space = _SPACE.match(text, position)
    if space is not None:
        return "" if "," in space.group() else key, space.end()
    bare = _BARE.match(text, position)
    if bare is None:
        return key, position + 1
    if text[bare.end() : bare.end() + 1] == ":":
        return bare.group().strip(), bare.end() + 1
    if len(bare.group().split()) > 2:
        values += _value(bare.group().strip(), [*keys[-_DEPTH:], key], is_cut=bare.end() == len(text))
    return key, bare.end()


def _value(string: str, keys: list[str], *, is_cut: bool) -> list[TextPart]:
    if any(re.sub(r"[\W_]", "", key.casefold()) in _META for key in keys):
        return []
    named = [key for key in keys if key]
    return [TextPart(string, named[-1] if named else "", True, is_cut)]


def _string(text: str, position: int) -> tuple[str, int, bool]:
    """The string that begins at ``position``, the position after it, and whether its end was found."""
    closing, at = _CLOSING[text[position]], position + 1
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 2
            continue
        if char in closing and _AFTER_STRING.match(text, at + 1):
            return _unescape(text[position + 1 : at]), at + 1, True
        at += 1
    return _unescape(text[position + 1 :]), len(text), False


def _unescape(string: str) -> str:
    if "\\" not in string:
        return string

    def plain(escape: re.Match[str]) -> str:
        code = escape[1]
        if len(code) == 5:
            return chr(int(code[1:], 16))
        return _ESCAPED.get(code, code if code in "\"'/\\“”" else escape[0])

    # Characters beyond the first plane are written as two escapes.
    return _ESCAPE.sub(plain, string).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
