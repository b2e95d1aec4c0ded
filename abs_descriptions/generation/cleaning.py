"""Split a completion into descriptions and rejected pieces. Pure.

Every sentence or phrase of a completion is either accepted or rejected with a ``RejectionReason``. Markup, numbering,
quotes and labels such as "Caption:" are stripped and are no reason for a rejection.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from abs_descriptions.generation.naming import NameMatcher
from abs_descriptions.generation.providers.base import FinishReason
from abs_descriptions.generation.reasoning import final_answer
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

# Servers may send anything; no model writes more than this when asked for a sentence.
_MAX_COMPLETION = 100_000
_MAX_REASONING = 2_000_000


class RejectionReason(StrEnum):
    """Why a piece of a completion is not kept as a description."""

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
    """Well-formed, but the class has enough descriptions."""
    NEAR_DUPLICATE = "near duplicate"
    """This and the following three are given by ``filtering``."""
    OFF_TOPIC = "off topic"
    OTHER_CLASS = "nearer to another class"
    UNUSED = "unused by the images"


@dataclass(frozen=True, slots=True)
class CleaningRules:
    """What a description must fulfil.

    Args:
        kind: "sentence", or "phrase": one descriptor per line, which need not name the class.
        language: the expected ``Language``, or "any".
        naming: for a sentence that does not name its class, "require" rejects it, "prefix" puts the name and a colon
            before it.
        min_words: minimum of a sentence; a phrase needs one word.
        max_words: maximum of a sentence; a phrase may have 20 words.
        count_tokens: counts the tokens of a text as the image-text model does; None counts none.
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
    """A piece of a completion, why it is rejected, and details (may be empty)."""

    text: str
    reason: RejectionReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CleanedText:
    """The pieces of a completion, in the order of the text. Accepted texts are NFC, on one line, stripped."""

    accepted: tuple[str, ...]
    rejected: tuple[RejectedText, ...]
    has_reasoning: bool = False
    """The completion contains reasoning beside the answer; none of it is among the pieces."""


def clean(
    completion: str,
    *,
    finish_reason: FinishReason,
    matcher: NameMatcher,
    name: str,
    rules: CleaningRules,
    seen: AbstractSet[str] = frozenset(),
) -> CleanedText:
    """Split a completion and check every piece.

    Args:
        completion: the text of the model.
        finish_reason: "length" if it was cut off; its last piece then counts only if it ends like a sentence.
        matcher: finds the class name.
        name: the class name, for ``naming="prefix"``.
        rules: what a description must fulfil.
        seen: ``description_key`` of the descriptions that the class has already, and of the examples in the prompt.
    """
    accepted: list[str] = []
    rejected: list[RejectedText] = []
    keys = set(seen)
    answer = final_answer(completion[:_MAX_REASONING], finish_reason)
    for piece, cut in _pieces(tidy(answer.text[:_MAX_COMPLETION]), rules.kind, finish_reason):
        text, problem = _check(piece, cut, matcher, name, rules)
        key = description_key(text, matcher)
        if problem is None and key in keys:
            problem = (RejectionReason.DUPLICATE, "")
        if problem is not None:
            rejected.append(RejectedText(text, *problem))
            continue
        keys.add(key)
        accepted.append(text)
    if not accepted and not rejected:
        reason = RejectionReason.CUT_OFF if answer.is_cut else RejectionReason.TOO_SHORT
        detail = "reasoning without an answer" if answer.has_reasoning else ""
        rejected.append(RejectedText(tidy(completion[:_MAX_COMPLETION]), reason, detail))
    return CleanedText(tuple(accepted), tuple(rejected), answer.has_reasoning)


def description_key(text: str, matcher: NameMatcher) -> str:
    """Equal for duplicates: the words without articles, with the class name masked."""
    return " ".join(word for word in matcher.mask(text) if word not in _ARTICLES)


def _pieces(completion: str, kind: str, finish_reason: FinishReason) -> Iterator[tuple[str, bool]]:
    """The sentences or phrases of a completion, and whether each was cut off."""
    lines = [line for line in map(_strip_line, _without_markup(completion).split("\n")) if line]
    if lines:
        lines[0] = _without_opening(lines[0])
    pieces = [
        piece
        for line in lines
        for piece in (split_sentences(line) if kind == "sentence" else [line.rstrip(" .;,")])
        if piece.strip(_QUOTES + " ")
    ]
    for number, piece in enumerate(pieces, 1):
        text = _unquote(piece)
        ended = kind == "sentence" and text.endswith(_ENDS) and not text.endswith(("...", "…"))
        cut = finish_reason == "length" and number == len(pieces) and not ended
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
    """Without quotes around the whole, and without a double quote whose counterpart is in another piece."""
    text = piece.strip()
    inner = text[1:-1]
    if len(text) > 2 and text[0] in _QUOTES and text[-1] in _QUOTES and not any(mark in inner for mark in _DOUBLE):
        return inner.strip()
    if sum(text.count(mark) for mark in _DOUBLE) % 2:
        text = text[1:] if text[0] in _DOUBLE else text[:-1] if text[-1] in _DOUBLE else text
    return text.strip()


def _check(
    piece: str, cut: bool, matcher: NameMatcher, name: str, rules: CleaningRules
) -> tuple[str, tuple[RejectionReason, str] | None]:
    """The text as it would be kept, and why it is rejected, if it is."""
    word_count = len(words(piece))
    sentence = rules.kind == "sentence"
    if _REFUSAL.search(piece):
        return piece, (RejectionReason.REFUSAL, "")
    if _CHATTY.search(piece):
        return piece, (RejectionReason.CHATTY, "")
    if cut:
        return piece, (RejectionReason.CUT_OFF, "")
    if word_count < (rules.min_words if sentence else 1):
        return piece, (RejectionReason.TOO_SHORT, f"{word_count} words")
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
    return text, _length_problem(text, word_count, rules)


def _foreign(piece: str, matcher: NameMatcher, name: str, rules: CleaningRules) -> str:
    if rules.language == "any":
        return ""
    share = foreign_share(piece, name)
    if share > _FOREIGN_LIMIT:
        return f"{share:.0%} of its letters are of another script"
    return other_language(matcher.mask(piece), rules.language)


def _length_problem(text: str, count: int, rules: CleaningRules) -> tuple[RejectionReason, str] | None:
    limit = rules.max_words if rules.kind == "sentence" else 20
    if count > limit:
        return RejectionReason.TOO_LONG, f"{count} words, the limit is {limit}"
    if rules.count_tokens is not None and rules.token_limit is not None:
        tokens = rules.count_tokens(text)
        if tokens > rules.token_limit:
            return RejectionReason.TOO_LONG, f"{tokens} tokens, the limit is {rules.token_limit}"
    return None


def _loops(text_words: list[str]) -> bool:
    """Whether words repeat as in the output of a model that is stuck: one word three times in a row, a sequence of four
    words twice, or of three words three times; in scripts without spaces a word is a character, and sequences are
    twice as long."""
    triples = zip(text_words, text_words[1:], text_words[2:], strict=False)
    if any(first == second == third for first, second, third in triples):
        return True
    characters = sum(len(word) == 1 and not word.isascii() for word in text_words) > len(text_words) / 2
    longer, shorter = (8, 6) if characters else (4, 3)
    return _max_repeats(text_words, longer) >= 2 or _max_repeats(text_words, shorter) >= 3


def _max_repeats(text_words: list[str], length: int) -> int:
    """How often the most frequent sequence of ``length`` words occurs."""
    sequences = (tuple(text_words[start : start + length]) for start in range(len(text_words) - length + 1))
    return max(Counter(sequences).values(), default=0)
