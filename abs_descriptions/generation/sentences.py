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

__all__ = ["Language", "foreign_share", "other_language", "split_sentences", "tidy", "word_places", "word_set", "words"]

Language = Literal["en", "de", "fr", "es", "it", "pt", "nl", "any"]

# Frequent words of each language; what English has too, such as "in" or "die", stands in both lists.
_FUNCTION_WORDS = {
    "en": "a about above across all along also an and any are around as at be been behind below beneath beside between "
    "both but by can covered down each features for from had has have her his in inside into is it its like made many "
    "may more most near no not of off often on one or other out over seen shows so some such than that the their these "
    "they this those through to two under up usually was were where which while who whose with without",
    "de": "als an auf aus bei das dem den der des die ein eine einem einen einer eines hat haben im ist kein mit nicht "
    "oder sein seine sich sind und unter vom von vor wird wie zu zum zur über",
    "fr": "au aux avec ce ces cette comme dans de des deux du elle en est et il la le les ont ou par plus pour qui "
    "sa ses son sont sous sur très un une à été",
    "es": "al como con cuando de del dos el en entre es está las los más muy o para pero por que se sin sobre su sus "
    "tiene tienen un una y",
    "it": "al alla che come con da dal dalla degli dei del della delle di due e gli ha hanno i il in la le lo nel "
    "o per più si sono su sul sulla un una è",
    "pt": "ao aos as com como da das de do dois dos e em entre mais muito na nas no nos o os ou para pela pelo por que "
    "se seu sua são tem têm um uma à é",
    "nl": "aan als bij dat de die een en er haar heeft het hun in is met naar niet of om onder ook op over te uit van "
    "voor wordt zich zijn",
    "sv": "av den det en ett från för har i med och på sig som till är över", "da": "af den der det en er et fra har i "
    "med og på sig som til ved", "no": "av den det en er et fra har i med og på seg som til ved",
    "pl": "a i jest ma na nad nie o od oraz po pod przez się są w z ze",
    "cs": "a je jsou jako má na nebo od po s se ve v z ze že",
    "tr": "bir bu çok da de gibi ile için olan olarak var ve", "id": "adalah dan dari dengan di ini ke memiliki pada "
    "sebuah untuk yang", "fi": "ja joka kuin ne on ovat se sen", "hu": "a az egy és hogy is nem van",
    "ro": "ale are care cu de din este la o pe sau sunt un și", "vi": "các có của là màu một những trên và với",
}  # fmt: skip

_WORDS = {code: frozenset(listed.split()) for code, listed in _FUNCTION_WORDS.items()}


# In texts of more words than this, one function word more is no sign of another language.
_SURE = 8


def other_language(words: Sequence[str], expected: str) -> str:
    """Why ``words`` seem to be in another language than ``expected``; empty if they do not.

    Args:
        words: folded, in order, with names removed.
        expected: a ``Language`` other than "any".
    """
    counts = {code: sum(word in known for word in words) for code, known in _WORDS.items()}
    likeliest = max(counts, key=lambda code: (counts[code], code == expected))
    if counts[likeliest] >= 2 and counts[likeliest] > counts[expected] + (len(words) > _SURE):
        return f"its function words are those of {likeliest!r}, not of {expected!r}"
    return ""


def word_set(text: str) -> frozenset[str]:
    """The words of a list between spaces."""
    return frozenset(text.split())


# A full stop after one of these does not end a sentence.
_ABBREVIATIONS = word_set(
    """
    approx ca cf dr e.g eg etc fig ft i.e ie inc jr mr mrs ms mt no prof sr st vs u.s u.k
    """
)

_LONGEST_ABBREVIATION = 12
_SPACE = re.compile(r"\s*")
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
    if end.group()[0] in "。！？｡؟۔।॥":
        return True
    start = end.start()
    before = line[max(line.rfind(" ", 0, start), start - _LONGEST_ABBREVIATION) + 1 : start]
    before = before.lstrip("(\"'").casefold()
    following = _SPACE.match(line, end.end())
    position = following.end() if following else end.end()
    if end.group() == "." and (before in _ABBREVIATIONS or (len(before) == 1 and before.isalpha() and before != "i")):
        return end.end() == len(line)
    return position >= len(line) or not line[position].islower()


def words(text: str) -> list[str]:
    """The words of a text, folded and without a possessive ending."""
    folded, places = word_places(text)
    return [folded[start:stop].removesuffix("'s") for start, stop in places]


def word_places(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The folded text, and where in it each word begins and ends; an ending "'s" is within."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    if folded.isascii():
        return folded, [match.span() for match in _ASCII_WORD.finditer(folded)]
    return folded, list(_unicode_words(folded))


def _unicode_words(folded: str) -> Iterator[tuple[int, int]]:
    start = -1
    for position, char in enumerate(folded):
        inside = unicodedata.category(char)[0] in "LMN"
        apostrophe = char == "'" and start >= 0 and folded[position + 1 : position + 2].isalpha()
        if (inside and not _script(char).startswith(_UNSPACED)) or apostrophe:
            start = position if start < 0 else start
            continue
        if start >= 0:
            yield start, position
            start = -1
        if inside:
            yield position, position + 1
    if start >= 0:
        yield start, len(folded)


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
