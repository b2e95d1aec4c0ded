"""Class names in a text, in the forms in which people write them. Pure; plurals, verbs and spellings are English.

A name is found if its words stand in the text, whatever their case, accents and spelling (grey, gray), in singular or
plural, joined by spaces, hyphens or nothing. What label sets add to a name may be missing: a year, "indoor", a remark
in brackets, what follows a comma. Names of actions ("Apply Eye Makeup") are found in other forms of the verb and with
a few words in between ("applies her eye makeup").
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from abs_core.labels import ClassLabel
from abs_descriptions.generation.sentences import word_places, word_set, words
from abs_descriptions.generation.spelling import (
    SYNONYMS,
    plain_word,
    plurals,
    singulars,
    standard_word,
    verb_bases,
    verb_forms,
)

__all__ = ["NameMatcher", "joined_words_fit", "names_with", "own_aliases", "plain_spellings"]

_BRACKETS = re.compile(r"\([^()]{0,200}\)|\[[^\[\]]{0,200}\]")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])")
_NUMBERED = re.compile(r"^\d{1,5}(?:\.[ _]?|[_ ]?[-_][_ ]?|\)\s?)(?=[^\W\d])")
_YEAR = re.compile(r"(?:19|20)\d\d")
_LETTERS = re.compile(r"^(.*\d)[A-Za-z]/[A-Za-z]$")

# What a label set adds to tell two classes apart. Texts put it in front, or leave it out.
_INSIDE = word_set("indoor indoors interior inside")
_OUTSIDE = word_set("outdoor outdoors exterior outside")
_QUALIFIERS = _INSIDE | _OUTSIDE | {
    "natural", "urban", "wild", "cultivated", "sand", "vegetation", "broadleaf", "needleleaf",
}  # fmt: skip
_OPTIONAL = _INSIDE | _OUTSIDE | {"natural", "urban"}
_OPPOSITES = {
    **dict.fromkeys(_INSIDE, _OUTSIDE), **dict.fromkeys(_OUTSIDE, _INSIDE),
    **{one: frozenset((other,)) for pair in (("natural", "urban"), ("wild", "cultivated"), ("broadleaf", "needleleaf"),
       ("sand", "vegetation")) for one, other in (pair, pair[::-1])},
}  # fmt: skip

_CABS = word_set("regular crew extended club double quad king supercrew single mega access")
_BODIES = word_set(
    """
    sedan coupe hatchback convertible wagon suv minivan van cab roadster crossover pickup
    """
)

# One of these after a comma is what the thing is, not another name of it.
_KINDS = word_set(
    """
    animal appliance bird boat bug building car cat clothing computer container desert device dish dog drink
    electronics fish flower food fruit furniture game grass herb horse house insect instrument kitchen machine
    mammal man material meal medicine metal music mushroom nut object office person place plant reptile room rope
    shell ship shoe shop snake spice sport stone structure texture tool toy tree vegetable vehicle water weapon
    weather woman wood worm
    """
)

# Short words that are never the first or the last part of another word: "a corn" is no acorn, "cab in" no cabin.
_SEPARATE = word_set(
    """
    a an and are as at be but by do for from go he her his i if in is it its me my no not of off on or our out she
    so the to up us was we with
    """
)

# What may follow a name that lacks its last word: "the Acura TL has", but not "the Acura TL Type-S has".
_FOLLOWERS = _SEPARATE | word_set(
    """
    also appears can car comes features has have looks may model shows sits stands that typically usually vehicle
    which while whose
    """
)
_LINKS = word_set("of in on with and for without at")
_ARTICLES = word_set("a an the this")
_LONG = 9
_MOST_NAMES = 60


def joined_words_fit(text_words: Sequence[str], spelled: frozenset[str]) -> bool:
    """Whether words of a text that together spell a name, the words of which are ``spelled``, can be meant as it."""
    return len(text_words) == 1 or all(word not in _SEPARATE or word in spelled for word in text_words)


def plain_spellings(name: str) -> Mapping[str, frozenset[str]]:
    """The words of a name, joined, in singular and plural, with the words of each; nothing left out but remarks."""
    core = _BRACKETS.sub(" ", name).partition(",")[0]
    sequences = dict.fromkeys(tuple(map(standard_word, words(variant))) for variant in (name, core))
    return {"".join(form): frozenset(form) for sequence in sequences if sequence for form in _inflected(sequence)}


def names_with(classes: Sequence[ClassLabel]) -> Mapping[str, tuple[str, ...]]:
    """Class id -> names of other classes that have all words of its name and more; in linear time."""
    contents = {label.id: _content(label.name) for label in classes}
    # The words of a name, or of another name of the same thing: a "martial arts gym" is no gymnasium.
    own = {
        label.id: [name for name in (contents[label.id], *_synonyms(contents[label.id])) if name] for label in classes
    }
    by_word = dict[str, list[ClassLabel]]()
    wanted = frozenset(name[-1] for names in own.values() for name in names)
    for label in classes:
        for word in wanted.intersection(contents[label.id]):
            by_word.setdefault(word, []).append(label)
    longer = dict[str, tuple[str, ...]]()
    for label in classes:
        found = dict[str, None]()
        for name in own[label.id]:
            beside = by_word.get(name[-1], [])
            # A word of very many names, such as "number" in numbered ones, tells none of them apart.
            if len(beside) <= _MOST_NAMES:
                found |= {other.name: None for other in beside if {*name} < {*contents[other.id]} and other != label}
        if found:
            longer[label.id] = tuple(found)
    return longer


def own_aliases(classes: Sequence[ClassLabel]) -> Mapping[str, tuple[str, ...]]:
    """Class id -> those of its aliases that are no name of another class: "arena" tells no kind of arena apart."""
    counts = Counter(
        key for label in classes for key in {" ".join(words(name)) for name in (label.name, *label.aliases)}
    )
    return {
        label.id: tuple(alias for alias in label.aliases if counts[" ".join(words(alias))] == 1) for label in classes
    }


def _content(name: str) -> tuple[str, ...]:
    found = map(standard_word, words(_BRACKETS.sub(" ", name).partition(",")[0]))
    return tuple(word for word in found if word not in _OPTIONAL and not _YEAR.fullmatch(word))


class NameMatcher:
    """Finds a class name in a text.

    Args:
        name: the class name. The text may lack what it has in brackets, after a comma, or as a number in front.
        aliases: further names of the class.
        others: names of other classes; where the text has one of them, the class's own name within it is no mention:
            a "corn field" is no "field".
    """

    def __init__(self, name: str, aliases: Iterable[str] = (), others: Iterable[str] = ()) -> None:
        sequences = dict[tuple[str, ...], bool]()
        for one in (name, *aliases):
            for sequence, is_partial in _sequences(one):
                sequences[sequence] = is_partial and sequences.get(sequence, True)
        self._spellings: dict[str, frozenset[str]] = {}
        self._partial = set[str]()
        for sequence, is_partial in sequences.items():
            for form in _inflected(sequence):
                joined = "".join(form)
                if is_partial and joined not in self._spellings:
                    self._partial.add(joined)
                self._spellings[joined] = self._spellings.get(joined, frozenset()) | frozenset(form)
        self._longest = max(map(len, sequences), default=0) + 2
        self._long = [
            one for one, is_partial in sequences.items() if not is_partial and any(len(word) >= _LONG for word in one)
        ]
        own_words = {standard_word(word) for word in words(name)}
        self._years = {word for word in own_words if _YEAR.fullmatch(word)}
        self._opposites = frozenset[str]().union(*(_OPPOSITES.get(word, ()) for word in own_words))
        self._action = _ActionPattern.of(next(iter(sequences))) if sequences else None
        # In scripts without spaces or with clitics, and for symbols, the folded name is found anywhere.
        self._anywhere = _squeezed(name) if not sequences or _is_not_latin(name) else ""
        self._others = [NameMatcher(other) for other in others]

    def __call__(self, text: str) -> bool:
        """Whether ``text`` names the class."""
        if self._anywhere and self._anywhere in _squeezed(text):
            return True
        return any(self._mentions(*word_places(text)))

    def mask(self, text: str) -> list[str]:
        """The words of ``text``, with each mention of the class replaced by the word "{}"."""
        folded, places = word_places(text)
        masked, position = list[str](), 0
        for start, stop in self._mentions(folded, places):
            masked += [folded[slice(*place)].removesuffix("'s") for place in places[position:start]]
            masked.append("{}")
            position = stop
        return masked + [folded[slice(*place)].removesuffix("'s") for place in places[position:]]

    def masked(self, text: str) -> str:
        """``text``, folded, with each mention of the class replaced by "{}"."""
        folded, places = word_places(text)
        parts, position = list[str](), 0
        for start, stop in self._mentions(folded, places):
            parts += [folded[position : places[start][0]], "{}"]
            position = places[stop - 1][1]
        return "".join([*parts, folded[position:]])

    def _mentions(self, folded: str, places: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Where the class is named: the first word of each mention and the one after its last."""
        raw = [folded[start:stop].removesuffix("'s") for start, stop in places]
        text_words = [standard_word(word) for word in raw]
        position, taken = 0, list[tuple[int, int]]() if not self._others else None
        while position < len(text_words):
            length = self._match(text_words, position) or self._misspelled(raw, text_words, position)
            if not length and self._action is not None:
                length = self._action.match(folded, places, text_words, position)
            if length:
                if taken is None:
                    taken = [place for other in self._others for place in other._mentions(folded, places)]
                if not any(
                    start <= position and position + length <= stop and stop - start > length for start, stop in taken
                ):
                    yield position, position + length
            position += length or 1

    def _match(self, text_words: list[str], start: int) -> int:
        """The number of words from ``start`` that spell the name; 0 if they do not."""
        joined, longest = "", 0
        for length, word in enumerate(text_words[start : start + self._longest], 1):
            joined += word
            spelled = self._spellings.get(joined)
            if spelled is None or not joined_words_fit(text_words[start : start + length], spelled):
                continue
            if self._is_another(text_words, start, start + length):
                return 0
            if joined not in self._partial or _may_follow(text_words[start + length : start + length + 1]):
                longest = length
        return longest

    def _is_another(self, text_words: list[str], start: int, stop: int) -> bool:
        """Whether the words around a mention say that it is the class of another year or side of the wall."""
        around = {*text_words[max(0, start - 1) : start], *text_words[stop : stop + 1]}
        before = [word for word in text_words[max(0, start - 3) : start] if word not in _ARTICLES]
        if before[-1:] == ["of"]:  # "the interior of a church"
            around.update((_INSIDE | _OUTSIDE).intersection(before[-2:]))
        return bool(around & self._opposites) or (
            bool(self._years) and any(_YEAR.fullmatch(word) and word not in self._years for word in around)
        )

    def _misspelled(self, raw: list[str], text_words: list[str], start: int) -> int:
        """The same with one letter wrong in a long word, as label sets have them: "archaelogical"."""
        for sequence in self._long:
            found = [plain_word(word) for word in raw[start : start + len(sequence)]]
            if len(found) == len(sequence) and all(map(_is_close, sequence, found)):
                return 0 if self._is_another(text_words, start, start + len(sequence)) else len(sequence)
        return 0


def _may_follow(following: Sequence[str]) -> bool:
    """Whether a word goes on a sentence rather than a name: "Acura TL has", but not "Acura TL Type-S"."""
    if not following or following[0] in _FOLLOWERS:
        return True
    if following[0] in _CABS:  # "F-150 Extended Cab" is no "F-150 Regular Cab"
        return False
    return len(following[0]) > 3 and following[0].endswith(("s", "ed", "ly"))


def _is_not_latin(name: str) -> bool:
    return any(
        unicodedata.category(char)[0] == "S" or (char.isalpha() and not unicodedata.name(char, "").startswith("LATIN"))
        for char in name
    )


def _squeezed(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().replace("_", " ").split())


def _sequences(name: str) -> Iterator[tuple[tuple[str, ...], bool]]:
    """The words of a name in its variants, not inflected, the fullest first; and whether the last ones are missing."""
    for variant in _variants(name):
        plain = tuple(plain_word(word) for word in words(variant))
        own = tuple(map(standard_word, plain))
        if not own:
            continue
        whole = dict.fromkeys((own, plain, tuple(_possessive(variant)), *_reordered(own)))
        yield from ((sequence, False) for sequence in whole if sequence)
        for sequence in (*whole, *_shorter(own)):
            for synonym in _synonyms(sequence):
                yield synonym, len(synonym) < len(sequence) and synonym == sequence[: len(synonym)]
        yield from ((sequence, True) for sequence in _shorter(own))


def _variants(name: str) -> Iterator[str]:
    """A name whole, without brackets and numbers in front, and what it has between commas, slashes and "or"."""
    name = _CAMEL.sub(" ", name) if " " not in name and "_" not in name else name
    core = _NUMBERED.sub("", _BRACKETS.sub(" ", name)).strip()
    yield from (name, core)
    first, *others = [part.strip() for part in re.split(r",|;|\s/\s|\baka\b", core) if part.strip()] or [core]
    yield first
    for other in others:
        other_words = words(other)
        if len(other_words) == 1 and len(first.split()) == 1:
            yield f"{other} {first}"
        # With one more part, it may say what the thing is or where it is; with several, they are names.
        is_name = len(other_words) > 1 or not {*map(standard_word, other_words)} & (_KINDS | _QUALIFIERS)
        if other_words and is_name:
            yield other
    for part in re.split(r"\s+or\s+|(?<=[a-z]{3})/(?=[a-z]{3})", core) if len(core) < 100 else ():
        if part != core and words(part):
            yield part
    lettered = _LETTERS.match(core)
    if lettered is not None:
        yield from (lettered[1], f"{lettered[1]}{core[-3]}", f"{lettered[1]}{core[-1]}")


def _possessive(name: str) -> Iterator[str]:
    """The words with the s of a possessive: "colts foot"."""
    folded, places = word_places(name)
    for start, stop in places:
        yield standard_word(folded[start:stop].replace("'", ""))


def _reordered(name: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Without articles and "and", without a year or with the year in front, and with a qualifier in front."""
    core = name[1:] if len(name) > 1 and name[0] in ("a", "an", "the") else name
    yield core
    if len(core) > 1 and core[-1] in _QUALIFIERS:
        yield (core[-1], *core[:-1])
    if len(core) > 2 and _YEAR.fullmatch(core[-1]):
        yield core[:-1]
        yield (core[-1], *core[:-1])
    if "and" in core[1:-1]:
        yield tuple(word for word in core if word != "and")
    # With an article, the words in front are a thing that has the last one: "the platform of a train station".
    if 1 < len(core) < 4 and not _LINKS & {*core} and all(word.isalpha() and len(word) > 2 for word in core):
        yield from ((core[-1], "of", article, *core[:-1]) for article in ("a", "an", "the"))


def _shorter(name: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Without "indoor" or "outdoor", and a car without the kind of its body: "Acura TL" for "Acura TL Sedan 2012"."""
    if len(name) > 1 and name[-1] in _OPTIONAL:
        yield name[:-1]
    core = name[:-1] if len(name) > 2 and _YEAR.fullmatch(name[-1]) else name
    if len(core) > 2 and core[-1] in _BODIES:
        yield core[:-1]
        if core[-1] == "cab" and len(core) > 3 and core[-2] in _CABS:
            yield core[:-2]


def _synonyms(name: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not name:
        return
    yield from _SYNONYMS.get(name, ())
    singular = next((one for last in singulars(name[-1]) if (one := (*name[:-1], last)) in _SYNONYMS), None)
    if singular is not None:
        yield from _SYNONYMS[singular]
    if name[:2] in _SYNONYMS and len(name) > 2:
        yield from ((*other, *name[2:]) for other in _SYNONYMS[name[:2]])


def _synonym_table() -> dict[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    groups = [[tuple(standard_word(word) for word in name.split()) for name in group] for group in SYNONYMS]
    return {name: tuple(other for other in group if other != name) for group in groups for name in group}


_SYNONYMS = _synonym_table()


def _inflected(name: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """A name with its heads, the last word and the ones before "of" and "and", in singular and plural."""
    heads = {position - 1 for position, word in enumerate(name) if word in _LINKS and 0 < position < len(name) - 1}
    heads = {*sorted(heads)[:2], len(name) - 1}
    choices = [
        _numbers(word, has_more=len(name) > 1) if position in heads else (word,) for position, word in enumerate(name)
    ]
    yield from (tuple(form) for form in product(*choices))


def _numbers(word: str, *, has_more: bool = False) -> tuple[str, ...]:
    if has_more and word.endswith("tted"):
        return (word, word[:-3], f"{word[:-3]}s")  # "polka dot" for "polka-dotted"
    return tuple(map(standard_word, dict.fromkeys((word, *plurals(word), *singulars(word)))))


def _is_close(name: str, word: str) -> bool:
    """Whether a word is that of a name, with one letter added, left out or wrong if it is long."""
    if name == word or standard_word(word) == standard_word(name):
        return True
    if min(len(name), len(word)) < _LONG or name[0] != word[0] or abs(len(name) - len(word)) > 1:
        return False
    start = next((at for at, (one, other) in enumerate(zip(name, word, strict=False)) if one != other), len(word))
    ends = (name[start + 1 :], word[start + 1 :]), (name[start:], word[start + 1 :]), (name[start + 1 :], word[start:])
    swapped = name[start : start + 2] == word[start : start + 2][::-1] and name[start + 2 :] == word[start + 2 :]
    return swapped or any(one == other for one, other in ends)


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
class _ActionPattern:
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
    def of(cls, name: Sequence[str]) -> _ActionPattern | None:
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
