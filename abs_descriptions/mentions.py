"""Which classes of a set a text names: for lint. Pure.

A word is a mention only where it stands for the thing: the colour of "an orange beak" is no orange, "a tight lid" no
tights, a "lion-like ruff" no lion, and "a corn" no acorn.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence

from abs_core.labels import ClassLabel
from abs_descriptions.generation.naming import joined_words_fit, plain_spellings
from abs_descriptions.generation.sentences import word_places, word_set
from abs_descriptions.generation.spelling import standard_word

__all__ = ["NameIndex"]

# Names are looked up by this many first characters; common words are never taken for names.
_KEY = 5

_COMMON = word_set(
    """
    a an and any are as at be but by can do for from go had has have he her his i if in is it its like look may no not
    of off on one or out over she so some that the their they this to two under up was we which will with you
    """
)

# Names of things that are colours, adjectives or verbs as well: mentions only as nouns.
_HOMOGRAPHS = word_set(
    """
    amber apricot aqua bat bear bears bow bows bronze brush brushes bubble bubbles can cans cap caps cast chain chains
    cherry chestnut chocolate clip clips coil coils comb combs copper coral crane cranes cream drill drills drum duck
    ducks fan fans file files flat fly flies fork forks frame frames gold hammer hammers hook hooks iron irons ivory
    jet ladle lavender lemon lie light lighter lime link links lock locks loop loops mask masks match matches mint mole
    mount mustard nail nails navy nut olive orange oranges park peach pearl pin pins pink plane planes plate plates plum
    plunger plug plugs pot pots punch rail rails ring rings rocket rose ruby ruler rust saddle saffron salmon sand saw
    saws scale scales screen screens screw screws seal seals shield shields shock short shorts silver sink sinks skip
    sling slip slips slide slides smoke snail spiral spirals spoon spot spots spring springs square squares stand stands
    stem stems stone stones stove strap straps string strings sugar suit suits swallow swallows swing swings switch tan
    tank tap taps tent tights tight tile tiles top tops torch train trains trap turn turquoise vault vaults violet wall
    walnut watch watches wheel wheels wheat whistle wine wing wings wool wrap yoke
    """
)
_DETERMINERS = word_set(
    """
    a an another any both each every few four his her its many my no of one our several some that the their these this
    those three two your than like 1 2 3 4 5
    """
)
_NOT_NOUNS = word_set(
    """
    about above across after against along also and are around as at because before behind below beneath beside between
    beyond but by can down during for from had has have if in inside into is it its like may might must near of off on
    onto or out outside over past seen since so than that the then there through to toward under until up was were when
    where which while who will with within without
    """
)


class NameIndex:
    """Finds the classes that a text names, the longest name at each place; the class's own name is no finding.

    Spellings are joined words, in one table. From a place in a text, words are joined only while a spelling may still
    begin that way, so the time does not grow with the number of classes.
    """

    def __init__(self, classes: Sequence[ClassLabel]) -> None:
        self._labels: dict[str, list[ClassLabel]] = defaultdict(list)
        self._words: dict[str, frozenset[str]] = {}
        self._longest: dict[str, int] = defaultdict(int)
        for label in classes:
            if any(unicodedata.category(char)[0] == "S" for char in label.name):
                continue
            for form, spelled in plain_spellings(label.name).items():
                if form in _COMMON:
                    continue
                self._labels[form].append(label)
                self._words[form] = self._words.get(form, frozenset()) | spelled
                for length in range(1, min(len(form), _KEY) + 1):
                    start = form[:length]
                    self._longest[start] = max(self._longest[start], len(form))

    def others(self, text: str, described: ClassLabel) -> Iterator[ClassLabel]:
        """Each class other than ``described`` that a text names, once."""
        folded, places = word_places(text)
        text_words = [standard_word(folded[start:stop].removesuffix("'s")) for start, stop in places]
        seen = {described.id}
        after = 0
        for position, word in enumerate(text_words):
            if position < after or len(word) > self._longest.get(word[:_KEY], 0):
                continue
            length, named = self._match(text_words, position)
            after = position + length
            if not named or any(label.id == described.id for label in named):
                continue
            if not _is_thing(folded, places, text_words, position, after):
                continue
            for label in named:
                if label.id not in seen:
                    seen.add(label.id)
                    yield label

    def _match(self, text_words: Sequence[str], start: int) -> tuple[int, Sequence[ClassLabel]]:
        """The longest name that begins at ``start``: its number of words, and the classes with this name."""
        joined, best, named = "", 0, list[ClassLabel]()
        for stop in range(start, len(text_words)):
            joined += text_words[stop]
            if len(joined) > self._longest.get(joined[:_KEY], 0):
                break
            labels = self._labels.get(joined)
            if labels and joined_words_fit(text_words[start : stop + 1], self._words[joined]):
                best, named = stop + 1 - start, labels
        return best, named


def _is_thing(folded: str, places: Sequence[tuple[int, int]], text_words: Sequence[str], start: int, stop: int) -> bool:
    """Whether the words from ``start`` to ``stop`` stand for a thing, and are not part of a compound or adjective."""
    following = folded[places[stop - 1][1] : places[stop - 1][1] + 2]
    if re.match(r"[-‐‑–]\w", following) and not folded[places[stop - 1][0] :].startswith("-"):
        return False
    if stop - start > 1 or text_words[start] not in _HOMOGRAPHS:
        return True
    before = text_words[start - 1] if start else ""
    has_end = stop == len(text_words) or not folded[places[stop - 1][1] : places[stop][0]].isspace()
    return before in _DETERMINERS and (has_end or text_words[stop] in _NOT_NOUNS)
