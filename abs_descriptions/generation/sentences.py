"""Words, sentences and the language of a text, without any model. Pure.

Words are runs of letters, marks and digits, folded (NFKC, lower case); in scripts without spaces each character is a
word. Sentence ends follow the punctuation of the script.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal

from abs_core.text import JOINERS

__all__ = ["Language", "foreign_share", "other_language", "split_sentences", "tidy", "words"]

Language = Literal["en", "de", "fr", "es", "it", "pt", "nl", "any"]

_FUNCTION_WORDS = {
    "en": "a an and are as at by for from has have in is it its of often on or that the this to which with",
    "de": "auf aus bei das dem den der des die ein eine einem einen einer ist mit nicht oder sich sind und von zu zum",
    "fr": "au aux avec ce cette dans de des du elle en est et il la le les ou par pour qui son sont sur un une",
    "es": "al como con de del el en es está la las lo los o para por que se su sus un una y",
    "it": "al che con da del della delle di e gli i il in la le lo nel o per più sono su un una è",
    "pt": "ao as com da das de do dos e em na no o os ou para por que se sua são um uma é",
    "nl": "aan als dat de die een en het in is met naar of om op te uit van voor wordt zijn",
}

_WORDS = {code: frozenset(text.split()) for code, text in _FUNCTION_WORDS.items()}


def other_language(words: Sequence[str], expected: str) -> str:
    """Why ``words`` seem to be in another language than ``expected``; empty if they do not.

    Args:
        words: folded, in order, with names removed.
        expected: a ``Language`` other than "any".
    """
    counts = {code: sum(word in known for word in words) for code, known in _WORDS.items()}
    likeliest = max(counts, key=lambda code: (counts[code], code == expected))
    if counts[likeliest] >= 2 and counts[likeliest] > 2 * counts[expected]:
        return f"its function words are those of {likeliest!r}, not of {expected!r}"
    return ""


# A full stop after one of these does not end a sentence.
_ABBREVIATIONS = frozenset(
    "approx ca cf dr e.g eg etc fig ft i.e ie inc jr mr mrs ms mt no prof sr st vs u.s u.k".split()  # noqa: SIM905
)

_ASCII_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)*")
_END = re.compile(r"[.!?…]+[\"')\]”’»]*(?=\s+|$)|[。！？｡]+[」』”]*|[؟۔।॥](?=\s+|$)")
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


def tidy(text: str) -> str:
    """``text`` in NFC with plain spaces and line breaks, without other control or invisible characters."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(_plain(char) for char in unicodedata.normalize("NFC", text.replace("\r\n", "\n")))
        text = unicodedata.normalize("NFC", text)
    return text.strip()


def _plain(char: str) -> str:
    if char == "\n" or char in "\u2028\u2029\r\v\f":
        return "\n"
    category = unicodedata.category(char)
    if category == "Zs" or char == "\t":
        return " "
    # The joiners carry meaning in emoji and in Persian and Indic words.
    return "" if category in ("Cc", "Cf", "Cs", "Co") and char not in JOINERS else char


def split_sentences(line: str) -> list[str]:
    """The sentences of a line; the last one may be incomplete."""
    sentences, start = [], 0
    for end in _END.finditer(line):
        if _ends_sentence(line, end):
            sentences.append(line[start : end.end()].strip())
            start = end.end()
    rest = line[start:].strip()
    return [*sentences, rest] if rest else sentences


def _ends_sentence(line: str, end: re.Match[str]) -> bool:
    if end.group()[0] != ".":
        return True
    before = line[: end.start()].rpartition(" ")[2].lstrip("(\"'").casefold()
    if end.group() == "." and (before in _ABBREVIATIONS or (len(before) == 1 and before.isalpha() and before != "i")):
        return end.end() == len(line)
    following = line[end.end() :].lstrip()
    return not following or not following[0].islower()


def words(text: str) -> list[str]:
    """The words of a text, folded and without a possessive ending."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    parts = _ASCII_WORD.findall(folded) if folded.isascii() else list(_unicode_words(folded))
    return [word.removesuffix("'s") for word in parts]


def _unicode_words(folded: str) -> Iterator[str]:
    run: list[str] = []
    for position, char in enumerate(folded):
        inside = unicodedata.category(char)[0] in "LMN"
        apostrophe = char == "'" and run and folded[position + 1 : position + 2].isalpha()
        if (inside and not _script(char).startswith(_UNSPACED)) or apostrophe:
            run.append(char)
            continue
        if run:
            yield "".join(run)
            run = []
        if inside:
            yield char
    if run:
        yield "".join(run)


@lru_cache(maxsize=4096)
def _script(char: str) -> str:
    """The first word of a letter's Unicode name, which is its script: "LATIN", "CJK", "ARABIC"."""
    return unicodedata.name(char, "NONE").partition(" ")[0].partition("-")[0]


def foreign_share(text: str, allowed: str) -> float:
    """The share of the letters of ``text``, in [0,1], in a script that is neither Latin nor used in ``allowed``."""
    if text.isascii():
        return 0.0
    scripts = {"LATIN", *(_script(char) for char in allowed if char.isalpha())}
    letters = [char for char in unicodedata.normalize("NFKC", text) if char.isalpha()]
    return sum(_script(char) not in scripts for char in letters) / len(letters) if letters else 0.0
