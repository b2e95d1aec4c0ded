"""Names of actions in a text: "Apply Eye Makeup" in "a woman applies her eye makeup". Pure; verbs are English."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from abs_descriptions.generation.sentences import word_set
from abs_descriptions.generation.spelling import plurals, singulars, verb_bases, verb_forms

__all__ = ["ActionPattern"]

# A name that begins with one of these and goes on is an action.
_VERBS = word_set(
    """
    apply bake blow brush chop clean climb cook cut dance dive draw drink drive drum dry eat feed fix fold hammer
    hold juggle jump kick knit lift massage mix mop paint peel perform play pour push put ride row run shave shoot
    sing skip smoke spin sweep swim swing take tie throw trim type use walk wash watch wave weave write
    """
)
# The same for names that end with one of these.
_FEATS = word_set("catch dive dunk jump kick lift lunge pitch punch serve shot spike squat swing throw toss vault")
# Things, not actions.
_NOUNS = word_set(
    """
    awning bedding being bing building bunting ceiling clearing clothing coating crossing dressing
    duckling dumpling dwelling earring evening fencing flooring greeting herring housing icing king
    landing lemming lightning lining living morning nothing offspring opening packing painting parking
    petting pudding railing ring roofing sapling seedling setting shilling siding sibling sling
    something spring starling sterling sting string stuffing thing topping turning viking waxwing
    webbing wedding wing yearling
    """
)
# The same in front of a thing: a "swimming pool", a "cutting board".
_USES = word_set(
    """
    boxing bowling cutting dining drinking fishing frying hearing hiking measuring mixing operating racing rocking
    rolling running sewing shaving shooting shopping skating sleeping swimming training vending waiting walking washing
    wrestling
    """
)
_ARTICLES = frozenset(("a", "an", "the", "and"))

# Between the words of an action none of these stands, unless the name has it.
_BARRIERS = word_set(
    """
    about above against along and are around at beside between but by for from has have in inside into is near of
    off on onto or over that to toward under was were where which while who with without
    """
)
_PASSIVE = word_set("is are being been gets was were")
_DETERMINERS = word_set(
    """
    a an the this that these those some many several few its their his her two three four five of with and in on
    for by 2 3 4 5
    """
)
_CLAUSE = re.compile(r"[,;:.!?()—–\n]")
_GAP = 3


@dataclass(frozen=True, slots=True)
class ActionPattern:
    """The words of an action, each in all its forms, in order.

    Args:
        words: the forms of each word; prepositions are not among them.
        verbs: the positions of the verbs in ``words``.
        links: the prepositions of the name.
    """

    words: tuple[frozenset[str], ...]
    verbs: frozenset[int]
    links: frozenset[str]

    @classmethod
    def of(cls, name: Sequence[str]) -> ActionPattern | None:
        """The pattern of a name; None if it is no action."""
        content = [word for word in name if word not in _ARTICLES and word not in _BARRIERS]
        links = frozenset(name) & _BARRIERS
        verbs = [at for at, word in enumerate(content) if _is_verb(word, at, content, has_links=bool(links))]
        if not verbs or (len(content) == 1 and len(name) > 1):
            return None
        words = tuple(
            _verb(word) if position in verbs else frozenset((word, *plurals(word), *singulars(word)))
            for position, word in enumerate(content)
        )
        return cls(words, frozenset(verbs), links)

    def match(self, folded: str, places: Sequence[tuple[int, int]], text_words: Sequence[str], start: int) -> int:
        """The number of words from ``start`` that name the action; 0 if they do not."""
        if len(self.words) == 1:
            return int(self._is_done(text_words, start))
        order = range(len(self.words))
        length = self._in_order(folded, places, text_words, start, order)
        if not length and len(self.verbs) == 1:
            (verb,) = self.verbs
            others = [position for position in order if position != verb]
            # "rides a horse" for "Horse Riding", "a horse being ridden" for "Riding a Horse"
            length = self._in_order(folded, places, text_words, start, [verb, *others]) if verb else 0
            length = length or self._in_order(folded, places, text_words, start, [*others, verb], passive=True)
        return length

    def _in_order(
        self,
        folded: str,
        places: Sequence[tuple[int, int]],
        text_words: Sequence[str],
        start: int,
        order: Sequence[int],
        *,
        passive: bool = False,
    ) -> int:
        position = start
        for number, wanted in enumerate(order):
            for gap in range(_GAP + 1 if number else 1):
                at = position + gap
                if at >= len(text_words):
                    return 0
                if number and _CLAUSE.search(folded, places[at - 1][1], places[at][0]):
                    return 0
                if text_words[at] in self.words[wanted]:
                    break
                allowed = self.links | {"with"} if order[0] else self.links
                if text_words[at] in _BARRIERS - allowed and not (passive and text_words[at] in _PASSIVE):
                    return 0
            else:
                return 0
            if passive and wanted in self.verbs and at > position and text_words[at - 1] not in _PASSIVE:
                return 0
            position = at + 1
        return position - start

    def _is_done(self, text_words: Sequence[str], position: int) -> bool:
        """Whether the word is a form of the verb, and not a noun of the same spelling."""
        word = text_words[position]
        if word not in self.words[0] or position == 0:
            return False
        return word.endswith(("ing", "ed")) or text_words[position - 1] not in _DETERMINERS


def _is_verb(word: str, position: int, content: Sequence[str], *, has_links: bool) -> bool:
    """Whether a word of a name is what is done in it; ``has_links`` says whether the name has prepositions."""
    is_alone = len(content) < 2
    if verb_bases(word) and word not in _NOUNS and (is_alone or has_links or position or word not in _USES):
        return True
    if is_alone:
        return False
    # "Blow Dry Hair" has two.
    compound = position == 1 and len(content) > 2 and content[0] in _VERBS
    is_feat = position == len(content) - 1 and word.removesuffix("s") in _FEATS
    return ((position == 0 or compound) and word in _VERBS) or is_feat


def _verb(word: str) -> frozenset[str]:
    bases = verb_bases(word) or ((word.removesuffix("s"),) if word.removesuffix("s") in _FEATS else (word,))
    forms = {word, *bases, *(form for base in bases for form in verb_forms(base))}
    return frozenset(forms | ({"shoot", "shoots", "shooting"} if word == "shot" else set()))
