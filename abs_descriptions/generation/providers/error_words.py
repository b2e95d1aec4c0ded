"""What a server says in the body of an error, in whatever form, for a message: one line, cut, and never a key. Pure.

Forms in use: ``{"error": {"message": ..}}`` (OpenAI), ``{"error": ".."}``, ``[{"error": {..}}]`` (Google),
``{"detail": ..}`` with text or a list of ``{"loc": [..], "msg": ..}`` (FastAPI), ``{"message": {"detail": [..]}}``
(Mistral), ``title`` and ``detail`` (RFC 9457), ``{"errors": [..]}``, JSON in a text in JSON (gateways), HTML, text.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from abs_core.text import printable

__all__ = ["error_codes", "parse_json", "redact", "redact_words", "server_words"]

# A key of a few letters, as local servers accept, occurs in any text.
_MIN_SECRET = 8

_MAX_BODY, _MAX_DEPTH, _MAX_ITEMS = 20_000, 6, 3
_KEYS = (
    "error", "message", "msg", "detail", "title", "error_message", "errorMessage", "error_msg", "error_description",
    "description", "errors", "reason", "failed_generation", "text", "Message", "Error", "code", "type", "status",
)  # fmt: skip
# Keys whose texts are names and not words; they are shown where there are no words.
_NAMES = frozenset(("code", "type", "status"))
_CODE_KEYS = frozenset(
    ("code", "type", "status", "reason", "error_code", "errcode", "error_type", "errortype", "param", "quotaid")
)

_INVISIBLE = re.compile(
    r"<(script|style|head)\b[^<>]*>(?:[^<]|<(?!/\1))*</\1\s*>|<!--(?:[^-]|-(?!->))*-->", re.IGNORECASE
)
_TITLE = re.compile(r"<(title|h1)\b[^<>]*>([^<]{1,500})</\1", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")


def parse_json(raw: bytes, charset: str | None = None) -> Any:
    """The value of a JSON text in UTF-8, UTF-16 or UTF-32, with or without a byte order mark, or in a charset.

    Raises:
        ValueError, RecursionError: it is no JSON.
    """
    try:
        return json.loads(raw.removeprefix(b"\xef\xbb\xbf"))
    except UnicodeDecodeError:
        if charset is None:
            raise
        try:
            return json.loads(raw.decode(charset))
        except LookupError:
            raise ValueError("unknown charset") from None


def server_words(body: Any, secret: str | None = None, limit: int = 200) -> str:
    """The words of an error; empty if it has none.

    Args:
        body: the bytes or text of an answer, or a value of its JSON.
        secret: the key; it is redacted if the server repeats it, whole or in part.
        limit: of characters.
    """
    if isinstance(body, bytes):
        body = body[:_MAX_BODY].decode("utf-8", "replace")
    said = " ".join(_words(body, 0).split())
    return printable(redact_words(said[: _MAX_BODY // 4], secret), limit)


def error_codes(body: Any) -> frozenset[str]:
    """The codes, types and parameter names of an error in lower case, numbers as text."""
    codes = set[str]()
    for name, value in _members(body, 0):
        is_code = isinstance(value, str) or (type(value) is int and abs(value) < 10**6)
        if is_code and name.lower() in _CODE_KEYS:
            codes.add(str(value).lower()[:100])
    return frozenset(codes)


def redact(text: str, secret: str | None) -> str:
    """``text`` with the secret replaced by asterisks."""
    return text if secret is None or len(secret) < _MIN_SECRET else text.replace(secret, "***")


def redact_words(text: str, secret: str | None) -> str:
    """``text`` with every word replaced by asterisks that has eight characters in a row of the secret."""
    if secret is None or len(secret) < _MIN_SECRET:
        return text
    text = redact(text, secret).replace(quote(secret, safe=""), "***")
    pieces = {secret[start : start + _MIN_SECRET] for start in range(len(secret) - _MIN_SECRET + 1)}

    def hide(match: re.Match[str]) -> str:
        word = match[0]
        starts = range(min(len(word), 1000) - _MIN_SECRET + 1)
        return "***" if any(word[start : start + _MIN_SECRET] in pieces for start in starts) else word

    return re.sub(rf"[^\s\"'`,;()<>]{{{_MIN_SECRET},}}", hide, text)


def _words(value: Any, depth: int) -> str:
    if depth > _MAX_DEPTH:
        return ""
    if isinstance(value, str):
        return _text(value, depth)
    if isinstance(value, list):
        return "; ".join(filter(None, (_words(item, depth + 1) for item in value[:_MAX_ITEMS])))
    if not isinstance(value, dict):
        return str(value) if isinstance(value, int) and 100 <= value < 1000 else ""
    said = next(filter(None, (_words(value.get(key), depth + 1) for key in _KEYS if key in value)), "")
    where = value.get("loc")
    if isinstance(where, list) and said:
        return f"{'.'.join(str(part)[:40] for part in where[:6])}: {said}"
    detail = value.get("detail")
    if "title" in value and isinstance(detail, str) and detail:
        said = f"{_words(value['title'], depth + 1)}: {_text(detail, depth)}"
    metadata = value.get("metadata")  # what the server behind a gateway said
    if isinstance(metadata, dict) and isinstance(metadata.get("raw"), str):
        said = f"{said} ({_text(metadata['raw'], depth)})"
    return said


def _text(text: str, depth: int) -> str:
    text = text[:_MAX_BODY].strip()
    if text.startswith(("{", "[")):
        try:
            return _words(json.loads(text), depth + 1) or text
        except (ValueError, RecursionError):
            return text
    if not re.match(r"<(?:!doctype|html|head|body|h1|p|div|center|\?xml|error)\b", text, re.IGNORECASE):
        return text
    title = _TITLE.search(text)
    shown = title[2] if title else _TAG.sub(" ", _INVISIBLE.sub(" ", text))
    return html.unescape(shown)


def _members(value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, dict):
        for name, member in list(value.items())[:50]:
            if isinstance(member, (dict, list)):
                yield from _members(member, depth + 1)
            else:
                yield str(name), member
    elif isinstance(value, list):
        for member in value[:10]:
            yield from _members(member, depth + 1)
