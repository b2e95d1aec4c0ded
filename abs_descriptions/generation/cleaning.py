"""From a completion to descriptions, or to rejections with their reasons. Pure.

Every piece of a completion ends in one of two lists: accepted, or rejected with one of the reasons of ``Reason``.
Markup, numbering, quotes and labels such as "Caption:" are stripped and not worth a rejection.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from abs_descriptions.generation.naming import NameMatcher
from abs_descriptions.generation.providers.base import FinishReason
from abs_descriptions.generation.sentences import foreign_share, other_language, split_sentences, tidy, words

__all__ = ["CleanedText", "CleaningRules", "RejectedText", "RejectionReason", "clean", "description_key"]


_DOUBLE = '"“”«»„'


_QUOTES = _DOUBLE + "'‘’`"


_BULLET = re.compile(r"^\s*(?:[-*•–—▪◦·>]+\s+|#{1,6}\s+|\(?\d{1,3}[.):\]](?=\s|\D)\s*|\(?[a-zA-Z][.)]\s+)+")


_LABEL = re.compile(
    r"^(?:short |brief |visual |image |one-sentence )*"
    r"(?:caption|description|answer|response|sentence|output|example|assistant|a|q)\s*\d{0,3}\s*[:：]\s*",
    re.IGNORECASE,
)


_OPENING = re.compile(
    r"^(?:(?:sure|certainly|of course|absolutely|ok|okay|great)(?: thing)?[,.!:]\s*)?"
    r"(?:(?:here(?:'s| is| are)|below (?:is|are)|the following)\b[^:.!?]{0,120}:\s*)?",
    re.IGNORECASE,
)


_REFUSAL = re.compile(
    r"\b(?:i(?:['’]m| am) (?:sorry|unable|not able|afraid)|i apologi[sz]e|i (?:cannot|can['’]t|can not|won['’]t|"
    r"don['’]t have)|as an (?:ai|artificial intelligence))\b",
    re.IGNORECASE,
)


_CHATTY = re.compile(
    r"^(?:sure|certainly|of course|absolutely|okay|great|yes|no|hello|hi)[,.!:]|"
    r"^(?:here(?:'s| is| are) (?:a|an|the|some|my|your|one)|(?:the following|below) (?:is|are)|let me|let's|please|"
    r"thank|note that|remember|i(?=\s)|i['’][a-z]+|we|my|our)\b|"
    r"\b(?:i hope|let me know|feel free|you asked|your (?:question|request|image|prompt)|the user|this (?:sentence|"
    r"description|caption|response)|language model|as requested)\b|[?？؟]\W*$|:\W*$",
    re.IGNORECASE,
)


_ENDS = (".", "!", "?", "…", "。", "！", "？", "؟", "۔", "।", "॥")


_ARTICLES = frozenset(("a", "an", "the"))


_FOREIGN_LIMIT = 0.3


# A server may send anything; no model that is asked for a sentence writes more than this.
_LONGEST_COMPLETION = 100_000


class RejectionReason(StrEnum):
    """Why a piece of a completion is no description."""

    CUT_OFF = "cut off"
    NO_CLASS_NAME = "no class name"
    CHATTY = "chatty"
    LOOP = "loop"
    TOO_SHORT = "too short"
    TOO_LONG = "too long"
    OTHER_LANGUAGE = "another language"
    DUPLICATE = "duplicate"
    REFUSAL = "refusal"
    SURPLUS = "surplus"
    """Well-formed, and the class had enough."""
    NEAR_DUPLICATE = "near duplicate"
    """This and the next three are given by ``filtering``, not here."""
    OFF_TOPIC = "off topic"
    OTHER_CLASS = "nearer to another class"
    UNUSED = "unused by the images"


@dataclass(frozen=True, slots=True)
class CleaningRules:
    """What a description must be.

    Args:
        kind: "sentence", or "phrase": one descriptor a line, which need not name the class.
        language: code of the language that is expected (see ``languages``), or "any".
        naming: what becomes of a sentence that does not name its class: "require" rejects it, "prefix" writes the name
            and a colon before it.
        min_words: sentences with fewer words are too short; phrases need one.
        max_words: of a sentence; a phrase may have 20.
        count_tokens: how many tokens the image-text model sees in a text; None counts none.
        token_limit: texts with more tokens are too long; None sets no limit.
    """

    kind: Literal["sentence", "phrase"] = "sentence"
    language: str = "en"
    naming: Literal["require", "prefix"] = "require"
    min_words: int = 5
    max_words: int = 60
    count_tokens: Callable[[str], int] | None = field(default=None, compare=False)
    token_limit: int | None = None


@dataclass(frozen=True, slots=True)
class RejectedText:
    """A piece of a completion, why it is no description, and what was seen (may be empty)."""

    text: str
    reason: RejectionReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CleanedText:
    """What came of a completion, each in the order of the text. Accepted texts are NFC, on one line, stripped."""

    accepted: tuple[str, ...]
    rejected: tuple[RejectedText, ...]


def clean(
    completion: str,
    *,
    finish_reason: FinishReason,
    matcher: NameMatcher,
    name: str,
    rules: CleaningRules,
    seen: AbstractSet[str] = frozenset(),
) -> CleanedText:
    """Take a completion apart and judge every piece.

    Args:
        completion: what the model wrote.
        finish_reason: "length" where it was cut; its last piece then counts only if it ends as a sentence does.
        matcher: of the class name.
        name: the class name, for ``naming="prefix"``.
        rules: what a description must be.
        seen: ``description_key`` of what the class has already, and of the examples in the prompt.
    """
    accepted: list[str] = []
    rejected: list[RejectedText] = []
    keys = set(seen)
    for piece, cut in _pieces(completion, rules.kind, finish_reason):
        text, fault = _judge(piece, cut, matcher, name, rules)
        key = description_key(text, matcher)
        if fault is None and key in keys:
            fault = (RejectionReason.DUPLICATE, "")
        if fault is not None:
            rejected.append(RejectedText(text, *fault))
            continue
        keys.add(key)
        accepted.append(text)
    if not accepted and not rejected:
        rejected.append(RejectedText(tidy(completion[:_LONGEST_COMPLETION]), RejectionReason.TOO_SHORT))
    return CleanedText(tuple(accepted), tuple(rejected))


def description_key(text: str, matcher: NameMatcher) -> str:
    """What makes two descriptions duplicates: their words without articles, the class name as one sign."""
    return " ".join(word for word in matcher.mask(text) if word not in _ARTICLES)


def _pieces(completion: str, kind: str, finish_reason: FinishReason) -> Iterator[tuple[str, bool]]:
    """The sentences or phrases of a completion, and whether each was cut before its end."""
    lines = [
        line for line in map(_strip_line, _without_markup(tidy(completion[:_LONGEST_COMPLETION])).split("\n")) if line
    ]
    if lines:
        lines[0] = _without_opening(lines[0])
    found = [
        piece
        for line in lines
        for piece in (split_sentences(line) if kind == "sentence" else [line.rstrip(" .;,")])
        if piece.strip(_QUOTES + " ")
    ]
    for at, piece in enumerate(found):
        text = _unquote(piece)
        ended = kind == "sentence" and text.endswith(_ENDS) and not text.endswith(("...", "…"))
        cut = finish_reason == "length" and at == len(found) - 1 and not ended
        yield text, cut or text.endswith((",", "...", "…", "-", "–"))


def _without_markup(text: str) -> str:
    text = re.sub(r"^```.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^\]\n]{1,200})\]\([^)\s]{1,500}\)", r"\1", text)
    return re.sub(r"(\*\*|__|\*|`)(?=\S)([^*`\n]{1,400}?)(?<=\S)\1", r"\2", text)


def _strip_line(line: str) -> str:
    stripped = _BULLET.sub("", " ".join(line.split()))
    return _LABEL.sub("", stripped, count=1).strip()


def _without_opening(line: str) -> str:
    rest = _LABEL.sub("", _OPENING.sub("", line, count=1), count=1)
    return line if rest == line else rest[:1].upper() + rest[1:]


def _unquote(piece: str) -> str:
    """Without quotes around the whole, and without a double quote whose partner went to another piece."""
    text = piece.strip()
    inner = text[1:-1]
    if len(text) > 2 and text[0] in _QUOTES and text[-1] in _QUOTES and not any(mark in inner for mark in _DOUBLE):
        return inner.strip()
    if sum(text.count(mark) for mark in _DOUBLE) % 2:
        text = text[1:] if text[0] in _DOUBLE else text[:-1] if text[-1] in _DOUBLE else text
    return text.strip()


def _judge(
    piece: str, cut: bool, matcher: NameMatcher, name: str, rules: CleaningRules
) -> tuple[str, tuple[RejectionReason, str] | None]:
    """The text as it would be kept, and what speaks against it."""
    found = words(piece)
    sentence = rules.kind == "sentence"
    if _REFUSAL.search(piece):
        return piece, (RejectionReason.REFUSAL, "")
    if _CHATTY.search(piece):
        return piece, (RejectionReason.CHATTY, "")
    if cut:
        return piece, (RejectionReason.CUT_OFF, "")
    if len(found) < (rules.min_words if sentence else 1):
        return piece, (RejectionReason.TOO_SHORT, f"{len(found)} words")
    foreign = _foreign(piece, matcher, name, rules)
    if foreign:
        return piece, (RejectionReason.OTHER_LANGUAGE, foreign)
    masked = matcher.mask(piece)
    if _loops(masked):
        return piece, (RejectionReason.LOOP, "")
    text = piece if not sentence or piece.endswith(_ENDS) else f"{piece}."
    if sentence and not matcher(text):
        if rules.naming == "require":
            return text, (RejectionReason.NO_CLASS_NAME, "")
        text = f"{' '.join(tidy(name).split())}: {text}"
    return text, _length_fault(text, len(found), rules)


def _foreign(piece: str, matcher: NameMatcher, name: str, rules: CleaningRules) -> str:
    if rules.language == "any":
        return ""
    share = foreign_share(piece, name)
    if share > _FOREIGN_LIMIT:
        return f"{share:.0%} of its letters are of another script"
    return other_language(matcher.mask(piece), rules.language)


def _length_fault(text: str, count: int, rules: CleaningRules) -> tuple[RejectionReason, str] | None:
    limit = rules.max_words if rules.kind == "sentence" else 20
    if count > limit:
        return RejectionReason.TOO_LONG, f"{count} words, the limit is {limit}"
    if rules.count_tokens is not None and rules.token_limit is not None:
        tokens = rules.count_tokens(text)
        if tokens > rules.token_limit:
            return RejectionReason.TOO_LONG, f"{tokens} tokens, the limit is {rules.token_limit}"
    return None


def _loops(found: list[str]) -> bool:
    """Whether words repeat as a model does that is stuck: a word three times running, four words twice, or three
    words thrice; words of scripts without spaces are characters, there eight count as four."""
    if any(first == second == third for first, second, third in zip(found, found[1:], found[2:], strict=False)):
        return True
    characters = sum(len(word) == 1 and not word.isascii() for word in found) > len(found) / 2
    longer, shorter = (8, 6) if characters else (4, 3)
    return _most(_grams(found, longer)) >= 2 or _most(_grams(found, shorter)) >= 3


def _grams(found: list[str], length: int) -> Iterable[tuple[str, ...]]:
    return (tuple(found[at : at + length]) for at in range(len(found) - length + 1))


def _most(grams: Iterable[tuple[str, ...]]) -> int:
    return max(Counter(grams).values(), default=0)
