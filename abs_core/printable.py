"""Text from outside, made harmless for a terminal or a log."""

from __future__ import annotations

import unicodedata

__all__ = ["printable"]

# Cc: control (terminal escapes), Cf: bidirectional overrides and zero-width characters, Cs: lone surrogates,
# Co/Cn: private and unassigned, Zl/Zp: line and paragraph separators.
_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def printable(text: str, limit: int | None = None) -> str:
    """``text`` with every character that could move a cursor, reorder a line or hide itself written as an escape.

    Args:
        text: any string, also one with lone surrogates.
        limit: cut to this many characters, the last one an ellipsis.
    """
    shown = "".join(_escape(c) if unicodedata.category(c) in _UNSAFE else c for c in text)
    if limit is not None and len(shown) > limit:
        return shown[: limit - 1] + "…"
    return shown


def _escape(char: str) -> str:
    # Joiner and non-joiner shape emoji, Indic and Persian words; they are needed and move nothing.
    if char in "\u200c\u200d":
        return char
    return char.encode("unicode_escape").decode("ascii")
