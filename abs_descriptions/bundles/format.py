"""What a bundle is made of: its limits and its records. Pure; docs/bundle-format.md is normative."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = [
    "ClassLike",
    "Description",
    "Kind",
    "LabelSetLike",
    "Provenance",
    "Rejection",
    "text_fault",
    "token_fault",
]

FORMAT = "abs-descriptions"
FORMAT_VERSION = 1
MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_LINE_BYTES = 1024 * 1024
MAX_DEPTH = 16
MAX_TEXT = 4000
MAX_REJECTED_TEXT = 100_000
MAX_TOKEN = 200
MAX_CLASS_NAME = 1000
MAX_SCORES = 64
# Integers above this are not exact in JSON readers that use doubles (RFC 8259, section 6).
MAX_INTEGER = 2**53 - 1

Kind = Literal["sentence", "phrase"]
KINDS: frozenset[str] = frozenset(("sentence", "phrase"))
SCORE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a description comes from: a generator of the header, its prompt, and which sample of that prompt."""

    generator: str
    sample: int = 0
    prompt: str | None = None
    request: str | None = None
    """The digest of the request that was answered, where there was one."""
    accepted_by: str | None = None
    """The generator, a reviewer, that accepted the text as it stands."""
    edited_by: str | None = None
    """The generator, a reviewer, that last changed the text; ``generator`` and the rest still say where it began."""


@dataclass(frozen=True, slots=True)
class Description:
    """One description of one class.

    A ``sentence`` stands alone ("A bird with a red crest."); a ``phrase`` is a CLIP-D descriptor ("a red crest").
    """

    class_id: str
    text: str
    provenance: Provenance
    kind: Kind = "sentence"
    scores: Mapping[str, float] | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """One completion that was not accepted, with a short reason ("cut-off") and, optionally, what was seen."""

    class_id: str
    text: str
    reason: str
    provenance: Provenance
    detail: str | None = None
    rejected_by: str | None = None
    """The generator, a reviewer, that rejected it; None: a rule did."""


class ClassLike(Protocol):
    """A class of a label set."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def group(self) -> str | None: ...
    @property
    def note(self) -> str | None: ...


class LabelSetLike(Protocol):
    """A label set as the writer needs it: ``labels.LabelSet`` and ``LabelSetEntry`` both are one."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def classes(self) -> Sequence[ClassLike]: ...
    @property
    def digest(self) -> str: ...


def token_fault(text: str, limit: int = MAX_TOKEN) -> str | None:
    """Why ``text`` cannot be an id or a name inside a bundle, continuing "... "; None if it can."""
    if not text:
        return "is empty"
    if len(text) > limit:
        return f"is longer than {limit} characters"
    if _CONTROL.search(text):
        return "holds a control character"
    if text.strip() != text:
        return "begins or ends with a space"
    return _unicode_fault(text)


def text_fault(text: str) -> str | None:
    """Why ``text`` cannot be a description, continuing "the text ..."; None if it can."""
    stripped = text.strip()
    if not stripped:
        return "is empty"
    if len(text) > MAX_TEXT:
        return f"is longer than {MAX_TEXT} characters"
    if "\0" in text:
        return "holds a NUL character"
    if "\n" in text or "\r" in text:
        return "holds a line break"
    if len(stripped) != len(text):
        return "begins or ends with a space"
    return _unicode_fault(text)


def _unicode_fault(text: str) -> str | None:
    if text.isascii():
        return None
    if _SURROGATE.search(text):
        return "holds a lone surrogate"
    return None if unicodedata.is_normalized("NFC", text) else "is not in Unicode form NFC"
