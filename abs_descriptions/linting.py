"""Problems of class names and descriptions, found before money is spent on generation or scores are computed.

``lint_bundle`` and ``lint_labels`` report findings, each under one of ``RULES``. Each text is read once: names are
found in a table of spellings, not by comparing every text with every class. A word is a mention only where it stands
for the thing: the colour of "an orange beak" is no orange, "a tight lid" no tights, a "lion-like ruff" no lion, and "a
corn" no acorn.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from abs_core.descriptions import Description, LabelSpace
from abs_core.errors import LabelError, UnknownNameError, UsageError
from abs_core.files import data_folder, storage_errors
from abs_core.labels import ClassLabel, LabelSet, fold
from abs_core.text import hidden_characters
from abs_descriptions.bundles.reader import Bundle
from abs_descriptions.generation.naming import joined_words_fit, plain_spellings
from abs_descriptions.generation.sentences import word_places, word_set, words
from abs_descriptions.generation.spelling import standard_word

__all__ = [
    "RULES",
    "LintFinding",
    "LintOptions",
    "LintReport",
    "Severity",
    "ambiguous_names",
    "lint_bundle",
    "lint_descriptions",
    "lint_labels",
    "report_refused_labels",
]

Severity = Literal["error", "warning"]

#: rule -> (severity, what it reports)
RULES: Mapping[str, tuple[Severity, str]] = MappingProxyType(
    {
        "labels-refused": ("error", "the label set is invalid"),
        "duplicate-name": ("error", "two classes have the same name and no notes that distinguish them"),
        "no-descriptions": ("error", "a class has no description"),
        "shared-text": ("error", "two classes have the same sentence"),
        "over-token-limit": ("error", "a text is longer than the image-text model reads"),
        "control-character": ("error", "a text contains a character that hides or reorders others"),
        "similar-name": ("warning", "two names differ only in number, spaces or a note"),
        "ambiguous-name": ("warning", "a name has several meanings, and nothing says which is meant"),
        "too-few": ("warning", "a class has few descriptions"),
        "unequal-counts": ("warning", "one class has many more descriptions than another"),
        "names-other-class": ("warning", "a text names another class of the set"),
        "shared-phrase": ("warning", "two classes have the same phrase"),
        "near-empty": ("warning", "a sentence has hardly any words"),
        "markup": ("warning", "a text contains HTML"),
    }
)

_NEAR_EMPTY = 3
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]{0,200}>|&(?:[a-zA-Z]{2,10}|#\d{1,6}|#x[0-9a-fA-F]{1,5});|<!--")


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One problem.

    Args:
        rule: a key of ``RULES``.
        message: what is wrong, and with which class or text.
        class_id: the class, if the finding is about one.
        other: id of the other class, if there is one.
        text: the description, if the finding is about one.
    """

    rule: str
    message: str
    class_id: str | None = None
    other: str | None = None
    text: str | None = None

    @property
    def severity(self) -> Severity:
        """The severity of its rule."""
        return RULES[self.rule][0]


@dataclass(frozen=True, slots=True)
class LintOptions:
    """The limits.

    Args:
        min_descriptions: a class with fewer descriptions is reported.
        max_ratio: highest number of descriptions of any class, divided by the lowest of any other.
        count_tokens: counts the tokens of a text as the image-text model does; None counts none.
        token_limit: texts with more tokens are reported; None reports none.
        ignored: rules that report nothing.
        allowed: class names that texts of other classes may contain, and texts of which nothing is reported, in any
            case.

    Raises:
        UsageError: a number out of range, or an unknown rule.
    """

    min_descriptions: int = 5
    max_ratio: float = 2.0
    count_tokens: Callable[[str], int] | None = field(default=None, compare=False)
    token_limit: int | None = None
    ignored: frozenset[str] = frozenset()
    allowed: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        unknown = sorted(self.ignored - RULES.keys())
        if unknown:
            raise UnknownNameError("lint rule", unknown[0], RULES, at_most=len(RULES))
        if self.min_descriptions < 1 or not self.max_ratio >= 1:
            raise UsageError(
                f"min_descriptions and max_ratio must be at least 1, "
                f"got {self.min_descriptions} and {self.max_ratio:g}",
                remedy="Give larger numbers",
            )


@dataclass(frozen=True, slots=True)
class LintReport:
    """All problems of one bundle or label set.

    Args:
        source: reference of the bundle, or name and digest of the label set.
        classes: number of classes.
        descriptions: number of descriptions; None for a label set.
        findings: errors first.
        silenced: findings that the options leave out.
    """

    source: str
    classes: int
    descriptions: int | None
    findings: tuple[LintFinding, ...]
    silenced: int = 0

    @property
    def errors(self) -> int:
        """Number of errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """Number of warnings."""
        return len(self.findings) - self.errors

    def failed(self, *, strict: bool = False) -> bool:
        """Whether there is an error or, if ``strict``, a warning."""
        return bool(self.errors or (strict and self.findings))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "source": self.source,
            "classes": self.classes,
            "descriptions": self.descriptions,
            "errors": self.errors,
            "warnings": self.warnings,
            "silenced": self.silenced,
            "findings": [
                {
                    "rule": finding.rule,
                    "severity": finding.severity,
                    "message": finding.message,
                    "class": finding.class_id,
                    "other": finding.other,
                    "text": finding.text,
                }
                for finding in self.findings
            ],
        }


def lint_bundle(bundle: Bundle, options: LintOptions | None = None) -> LintReport:
    """Check the class names and the descriptions of a bundle.

    Raises:
        BundleError: the file is no longer the one that was validated.
        StorageError: the file, or the table of ambiguous names, cannot be read.
    """
    return _report(bundle.label_space(), options)


def lint_labels(labels: LabelSet, options: LintOptions | None = None) -> LintReport:
    """Check the class names of a label set, before descriptions are written.

    Raises:
        StorageError: the table of ambiguous names cannot be read.
    """
    return _report(LabelSpace.of_labels(labels), options)


def report_refused_labels(source: str, error: LabelError) -> LintReport:
    """The report on labels that are not a valid label set: why they are refused is the only finding."""
    return LintReport(source, 0, None, (LintFinding("labels-refused", error.message),))


def _report(space: LabelSpace, options: LintOptions | None) -> LintReport:
    options = options or LintOptions()
    found = lint_descriptions(space.labels.classes, space.descriptions, ambiguous_names(), options)
    names = {label.id: fold(label.name) for label in space.labels.classes}
    findings = [finding for finding in found if not _is_silenced(finding, names, options)]
    count = None if space.descriptions is None else sum(len(records) for records in space.descriptions.values())
    return LintReport(space.source, len(space.labels.classes), count, tuple(findings), len(found) - len(findings))


def _is_silenced(finding: LintFinding, names: Mapping[str, str], options: LintOptions) -> bool:
    if finding.rule in options.ignored or (finding.text is not None and fold(finding.text) in options.allowed):
        return True
    return finding.rule == "names-other-class" and finding.other is not None and names[finding.other] in options.allowed


def lint_descriptions(
    classes: Sequence[ClassLabel],
    descriptions: Mapping[str, Sequence[Description]] | None,
    ambiguous: Mapping[str, str],
    options: LintOptions | None = None,
) -> list[LintFinding]:
    """All findings, errors first, then in the order of ``RULES``, then in that of the classes; none is silenced.

    Args:
        classes: of the label set.
        descriptions: class id -> descriptions; None for labels alone.
        ambiguous: word -> its senses, ``ambiguous_names()``.
        options: the limits.
    """
    options = options or LintOptions()
    findings = [*_duplicate_names(classes), *_ambiguous(classes, ambiguous)]
    if descriptions is not None:
        findings += _counts(classes, descriptions, options)
        findings += _texts(classes, descriptions, options)
    order = {rule: position for position, rule in enumerate(RULES)}
    return sorted(findings, key=lambda finding: order[finding.rule])


def ambiguous_names() -> dict[str, str]:
    """The shipped table of ambiguous English names: folded word -> its senses.

    Raises:
        StorageError: the table cannot be read.
    """
    path = data_folder() / "ambiguous.tsv"
    with storage_errors(path, "read"):
        lines = path.read_text(encoding="utf-8").splitlines()
    return {word: senses for word, _, senses in (line.partition("\t") for line in lines if not line.startswith("#"))}


def _duplicate_names(classes: Sequence[ClassLabel]) -> Iterator[LintFinding]:
    exact: dict[str, ClassLabel] = {}
    loose: dict[str, ClassLabel] = {}
    for label in classes:
        twin = exact.setdefault(fold(label.name), label)
        near = loose.setdefault(_loose(label.name), label)
        pair = f"{_quoted(label)} and {_quoted(twin if twin is not label else near)}"
        if twin is not label:
            differ = label.note and twin.note and label.note != twin.note
            rule = "similar-name" if differ else "duplicate-name"
            notes = "; only their notes differ, which no image-text model reads" if differ else ""
            yield LintFinding(rule, f"{pair} have the same name{notes}", label.id, twin.id)
        elif near is not label:
            yield LintFinding("similar-name", f"{pair} have almost the same name", label.id, near.id)


def _loose(name: str) -> str:
    """A name without spaces, hyphens and case, and without a plural -s at its end."""
    joined = "".join(words(name)) or fold(name)
    return (
        joined[:-1] if len(joined) > 3 and joined.endswith("s") and not joined.endswith(("ss", "us", "is")) else joined
    )


def _ambiguous(classes: Sequence[ClassLabel], table: Mapping[str, str]) -> Iterator[LintFinding]:
    for label in classes:
        name = fold(label.name)
        # "crane (bird)" and "crane, bird" say which is meant; "crane bird" is another name.
        word = name if name in table else name.removesuffix("s")
        if word in table and not (label.note or label.group):
            example = f"'{word} ({table[word].partition(';')[0].strip()})'"
            message = f"{_quoted(label)} may mean {table[word]}: say which, as in {example}"
            yield LintFinding("ambiguous-name", message, label.id)


def _counts(
    classes: Sequence[ClassLabel], descriptions: Mapping[str, Sequence[Description]], options: LintOptions
) -> Iterator[LintFinding]:
    counts = {label.id: len(descriptions.get(label.id, ())) for label in classes}
    for label in classes:
        if counts[label.id] == 0:
            yield LintFinding("no-descriptions", f"{_quoted(label)} has no description", label.id)
        elif counts[label.id] < options.min_descriptions:
            few = f"{_quoted(label)} has {counts[label.id]} of at least {options.min_descriptions} descriptions"
            yield LintFinding("too-few", few, label.id)
    described = [label for label in classes if counts[label.id]]
    if not described:
        return
    fewest, most = (choose(described, key=lambda label: counts[label.id]) for choose in (min, max))
    if counts[most.id] > options.max_ratio * counts[fewest.id]:
        yield LintFinding(
            "unequal-counts",
            f"{_quoted(most)} has {counts[most.id]} descriptions, {_quoted(fewest)} has {counts[fewest.id]}",
            most.id,
            fewest.id,
        )


def _texts(
    classes: Sequence[ClassLabel], descriptions: Mapping[str, Sequence[Description]], options: LintOptions
) -> Iterator[LintFinding]:
    names = _NameIndex(classes)
    first: dict[tuple[str, ...], ClassLabel] = {}
    for label in classes:
        for record in descriptions.get(label.id, ()):
            text, text_words = record.text, words(record.text)
            # A text that several classes share distinguishes none of them; it is reported at the second class.
            owner = first.setdefault(tuple(text_words) or (text,), label)
            if owner.id != label.id:
                rule = "shared-text" if record.kind == "sentence" else "shared-phrase"
                message = f"{_quoted(label)} and {_quoted(owner)} share a text"
                yield LintFinding(rule, message, label.id, owner.id, text)
            for other in names.others(text, label):
                message = f"{_quoted(label)} names {_quoted(other)}"
                yield LintFinding("names-other-class", message, label.id, other.id, text)
            for rule, problem in _text_problems(record, len(text_words), options):
                yield LintFinding(rule, f"{_quoted(label)} has a {problem}", label.id, None, text)


def _text_problems(record: Description, word_count: int, options: LintOptions) -> Iterator[tuple[str, str]]:
    """Rule and message, continuing "the class has a ...", of what is wrong with one text."""
    text = record.text
    if record.kind == "sentence" and word_count < _NEAR_EMPTY:
        yield "near-empty", f"sentence of {word_count} words"
    if _MARKUP.search(text):
        yield "markup", "text with markup"
    hidden = _hidden_character(text)
    if hidden:
        yield "control-character", f"text with {hidden}"
    tokens = _excess_tokens(text, options)
    if tokens:
        yield "over-token-limit", f"text of {tokens} tokens, the limit is {options.token_limit}"


def _hidden_character(text: str) -> str:
    """The first control or invisible character, as U+XXXX; empty if there is none."""
    if text.isascii() and text.isprintable():
        return ""
    # What this release of Unicode does not know yet may be a letter or an emoji.
    hidden = (char for char in hidden_characters(text) if unicodedata.category(char) != "Cn")
    return next((f"U+{ord(char):04X}" for char in hidden), "")


def _excess_tokens(text: str, options: LintOptions) -> int:
    """The number of tokens of a text over the limit; 0 if it is within."""
    if options.count_tokens is None or options.token_limit is None:
        return 0
    # A token has at least one byte, and two more mark the ends.
    if len(text.encode("utf-8", "replace")) + 2 <= options.token_limit:
        return 0
    tokens = options.count_tokens(text)
    return tokens if tokens > options.token_limit else 0


def _quoted(label: ClassLabel) -> str:
    return f"'{label.name}'" if fold(label.name).replace(" ", "_") == label.id else f"'{label.name}' ({label.id})"


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


class _NameIndex:
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
