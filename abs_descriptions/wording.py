"""Words, sentences and names in a text: what cleaning asks of language, without any model. Pure.

Words are runs of letters, marks and digits, folded (NFKC, lower case); in scripts that write no spaces each character
is a word. Sentence ends follow the punctuation of the script. Plurals are English.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

__all__ = ["NameMatcher", "foreign_share", "split_sentences", "tidy", "words"]

# Full stops after these end no sentence.
_ABBREVIATIONS = frozenset(
    {
        "approx",
        "ca",
        "cf",
        "dr",
        "e.g",
        "eg",
        "etc",
        "fig",
        "ft",
        "i.e",
        "ie",
        "inc",
        "jr",
        "mr",
        "mrs",
        "ms",
        "mt",
        "no",
    }
    | {"prof", "sr", "st", "vs", "u.s", "u.k"}
)
_ASCII_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)*")
_END = re.compile(r"[.!?…]+[\"')\]”’»]*(?=\s+|$)|[。！？｡]+[」』”]*|[؟۔।॥](?=\s+|$)")
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
_IRREGULAR = {
    "child": "children", "foot": "feet", "goose": "geese", "louse": "lice", "man": "men", "mouse": "mice",
    "ox": "oxen", "person": "people", "tooth": "teeth", "woman": "women", "cactus": "cacti", "fungus": "fungi",
    "radius": "radii", "larva": "larvae", "alga": "algae", "nebula": "nebulae", "vertebra": "vertebrae",
}  # fmt: skip
_REGULAR = {plural: singular for singular, plural in _IRREGULAR.items()}


def tidy(text: str) -> str:
    """``text`` in NFC with plain spaces and line breaks, and without any other control or hidden character."""
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
    return "" if category in ("Cc", "Cf", "Cs", "Co") and char not in "\u200c\u200d" else char


def split_sentences(line: str) -> list[str]:
    """The sentences of a line; the last one may lack its end."""
    found, start = [], 0
    for end in _END.finditer(line):
        if _ends_sentence(line, end):
            found.append(line[start : end.end()].strip())
            start = end.end()
    rest = line[start:].strip()
    return [*found, rest] if rest else found


def _ends_sentence(line: str, end: re.Match[str]) -> bool:
    if end.group()[0] != ".":
        return True
    before = line[: end.start()].rpartition(" ")[2].lstrip("(\"'").casefold()
    if end.group() == "." and (before in _ABBREVIATIONS or (len(before) == 1 and before.isalpha() and before != "i")):
        return end.end() == len(line)
    following = line[end.end() :].lstrip()
    return not following or not following[0].islower()


def words(text: str) -> list[str]:
    """The words of a text, folded; a possessive ending is dropped."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    found = _ASCII_WORD.findall(folded) if folded.isascii() else list(_unicode_words(folded))
    return [word.removesuffix("'s") for word in found]


def _unicode_words(folded: str) -> Iterator[str]:
    run: list[str] = []
    for at, char in enumerate(folded):
        inside = unicodedata.category(char)[0] in "LMN"
        apostrophe = char == "'" and run and folded[at + 1 : at + 2].isalpha()
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


class NameMatcher:
    """Finds a class name in a text: any case, singular or plural, with spaces, hyphens or nothing between its words.

    A remark in brackets or after a comma need not be there: "crane (bird)" is found as "cranes".

    Args:
        name: the class name.
    """

    def __init__(self, name: str) -> None:
        core = re.sub(r"\([^)]*\)|\[[^\]]*\]", " ", name).partition(",")[0]
        spelled = [found for found in (words(name), words(core)) if found]
        self._forms = frozenset(form for found in spelled for form in _forms(found))
        self._longest = max(map(len, spelled), default=0) + 2
        # Scripts without spaces, with clitics, and symbols: the folded name anywhere.
        symbols = not spelled or any(unicodedata.category(char)[0] == "S" for char in name)
        self._anywhere = "" if name.isascii() and not symbols else _squeezed(name)

    @property
    def forms(self) -> frozenset[str]:
        """The spellings that are found, the words of each joined: "polkadot", "polkadots"."""
        return self._forms

    def __call__(self, text: str) -> bool:
        """Whether ``text`` names the class."""
        if self._anywhere and self._anywhere in _squeezed(text):
            return True
        found = words(text)
        return any(self._match(found, at) for at in range(len(found)))

    def mask(self, text: str) -> list[str]:
        """The words of ``text``, with each mention of the class written as the one word "{}"."""
        found, out, at = words(text), list[str](), 0
        while at < len(found):
            length = self._match(found, at)
            out.append("{}" if length else found[at])
            at += length or 1
        return out

    def _match(self, found: list[str], at: int) -> int:
        """How many words from ``at`` spell the name; 0 if they do not."""
        joined = ""
        for length, word in enumerate(found[at : at + self._longest], 1):
            joined += word
            if joined in self._forms:
                return length
        return 0


def _squeezed(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().replace("_", " ").split())


def _forms(name: list[str]) -> Iterator[str]:
    """The spellings of a name with its last word in singular and plural, all words joined."""
    stem, last = "".join(name[:-1]), name[-1]
    for form in {last, *_plurals(last), *_singulars(last)}:
        yield stem + form


def _plurals(word: str) -> Iterator[str]:
    yield from (word + "s", word + "es")
    for singular, plural in _IRREGULAR.items():
        if word.endswith(singular) and len(word) - len(singular) != 1:
            yield word.removesuffix(singular) + plural
    if word.endswith("y"):
        yield word[:-1] + "ies"
    if word.endswith(("f", "fe")):
        yield word.removesuffix("e")[:-1] + "ves"


def _singulars(word: str) -> Iterator[str]:
    if word in _REGULAR:
        yield _REGULAR[word]
    if word.endswith("s") and not word.endswith("ss") and len(word) > 3:
        yield word[:-1]
        if word.endswith("es"):
            yield word[:-2]
        if word.endswith("ies"):
            yield word[:-3] + "y"
        if word.endswith("ves"):
            yield from (word[:-3] + "f", word[:-3] + "fe")
