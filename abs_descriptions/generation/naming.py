"""Class names in a text, in singular and plural. Pure; plurals are English."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from abs_descriptions.generation.sentences import words

__all__ = ["NameMatcher"]

_IRREGULAR = {
    "child": "children", "foot": "feet", "goose": "geese", "louse": "lice", "man": "men", "mouse": "mice",
    "ox": "oxen", "person": "people", "tooth": "teeth", "woman": "women", "cactus": "cacti", "fungus": "fungi",
    "radius": "radii", "larva": "larvae", "alga": "algae", "nebula": "nebulae", "vertebra": "vertebrae",
}  # fmt: skip

_REGULAR = {plural: singular for singular, plural in _IRREGULAR.items()}


class NameMatcher:
    """Finds a class name in a text: in any case, singular or plural, its words joined by spaces, hyphens or nothing.

    A remark in brackets or after a comma is optional: "crane (bird)" is found as "cranes".

    Args:
        name: the class name.
    """

    def __init__(self, name: str) -> None:
        core = re.sub(r"\([^)]*\)|\[[^\]]*\]", " ", name).partition(",")[0]
        variants = [variant for variant in (words(name), words(core)) if variant]
        self._forms = frozenset(form for variant in variants for form in _forms(variant))
        self._longest = max(map(len, variants), default=0) + 2
        # In scripts without spaces or with clitics, and for symbols, the folded name is found anywhere.
        symbols = not variants or any(unicodedata.category(char)[0] == "S" for char in name)
        self._anywhere = "" if name.isascii() and not symbols else _squeezed(name)

    @property
    def forms(self) -> frozenset[str]:
        """The spellings that are recognized, the words of each joined: "polkadot", "polkadots"."""
        return self._forms

    def __call__(self, text: str) -> bool:
        """Whether ``text`` names the class."""
        if self._anywhere and self._anywhere in _squeezed(text):
            return True
        text_words = words(text)
        return any(self._match(text_words, start) for start in range(len(text_words)))

    def mask(self, text: str) -> list[str]:
        """The words of ``text``, with each mention of the class replaced by the word "{}"."""
        text_words, masked, position = words(text), list[str](), 0
        while position < len(text_words):
            length = self._match(text_words, position)
            masked.append("{}" if length else text_words[position])
            position += length or 1
        return masked

    def _match(self, text_words: list[str], start: int) -> int:
        """The number of words from ``start`` that spell the name; 0 if they do not."""
        joined = ""
        for length, word in enumerate(text_words[start : start + self._longest], 1):
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
