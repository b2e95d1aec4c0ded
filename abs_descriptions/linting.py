"""What is wrong with class names and descriptions, found before money or scores are spent. Pure but for one table.

``lint`` takes a label set and, where there are some, descriptions, and gives findings, each of one of ``RULES``. It
reads each text once: names are found by a table of spellings, not by comparing every text with every class.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from abs_core.descriptions import Description
from abs_core.errors import UsageError
from abs_core.files import data_folder, storage_errors
from abs_core.labels import ClassLabel, fold
from abs_descriptions.generation.naming import NameMatcher
from abs_descriptions.generation.sentences import words

__all__ = ["RULES", "LintFinding", "LintOptions", "Severity", "ambiguous_names", "lint"]


Severity = Literal["error", "warning"]


#: rule -> (severity, what it says)
RULES: Mapping[str, tuple[Severity, str]] = MappingProxyType(
    {
        "labels-refused": ("error", "the label set breaks a rule, so it cannot be read"),
        "duplicate-name": ("error", "two classes have one name and no notes that tell them apart"),
        "no-descriptions": ("error", "a class has no description"),
        "shared-text": ("error", "two classes have one sentence"),
        "over-token-limit": ("error", "the image-text model does not see the end of a text"),
        "control-character": ("error", "a text holds a character that hides or reorders others"),
        "similar-name": ("warning", "two names differ by number, spaces or a note alone"),
        "ambiguous-name": ("warning", "a name means several things, and nothing says which"),
        "too-few": ("warning", "a class has few descriptions"),
        "unequal-counts": ("warning", "one class has many more descriptions than another"),
        "names-other-class": ("warning", "a text names another class of the set"),
        "shared-phrase": ("warning", "two classes have one phrase"),
        "near-empty": ("warning", "a sentence has hardly any words"),
        "markup": ("warning", "a text holds HTML"),
    }
)


_NEAR_EMPTY = 3


_MARKUP = re.compile(r"</?[a-zA-Z][^<>]{0,200}>|&(?:[a-zA-Z]{2,10}|#\d{1,6}|#x[0-9a-fA-F]{1,5});|<!--")


_JOINERS = "\u200c\u200d"


# a name's first characters under which it is looked up, and what no sentence can do without
_KEY = 5


_COMMON = frozenset(
    "a an and any are as at be but by can do for from go had has have he her his i if in is it its like look "  # noqa: SIM905
    "may no not of off on one or out over she so some that the their they this to two under up was we which will "
    "with you".split()
)


@dataclass(frozen=True, slots=True)
class LintFinding:
    """Something that is wrong.

    Args:
        rule: a key of ``RULES``, which give the severity.
        message: what is wrong and with which class or text.
        class_id: the class, where it is about one.
        other: id of the other class, where there is one.
        text: the description, where it is about one.
    """

    rule: str
    message: str
    class_id: str | None = None
    other: str | None = None
    text: str | None = None

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return RULES[self.rule][0]


@dataclass(frozen=True, slots=True)
class LintOptions:
    """What counts as wrong.

    Args:
        min_descriptions: a class with fewer has too few.
        max_ratio: the most descriptions of a class over the fewest of another.
        count_tokens: how many tokens the image-text model sees in a text; None counts none.
        token_limit: texts with more are over the limit.

    Raises:
        UsageError: a number out of range.
    """

    min_descriptions: int = 5
    max_ratio: float = 2.0
    count_tokens: Callable[[str], int] | None = field(default=None, compare=False)
    token_limit: int | None = None

    def __post_init__(self) -> None:
        if self.min_descriptions < 1 or not self.max_ratio >= 1:
            raise UsageError("a limit of lint is below 1", remedy="Give numbers from 1 on")


def lint(
    classes: Sequence[ClassLabel],
    descriptions: Mapping[str, Sequence[Description]] | None,
    ambiguous: Mapping[str, str],
    options: LintOptions | None = None,
) -> list[LintFinding]:
    """All findings, errors first, then in the order of ``RULES``, then in that of the classes.

    Args:
        classes: of the label set.
        descriptions: class id to descriptions; None where there are only labels yet.
        ambiguous: word to its senses, ``ambiguous_names()``.
        options: what counts as wrong.
    """
    told = options or LintOptions()
    found = [*_duplicate_names(classes), *_ambiguous(classes, ambiguous)]
    if descriptions is not None:
        found += _counts(classes, descriptions, told)
        found += _texts(classes, descriptions, told)
    order = {rule: at for at, rule in enumerate(RULES)}
    return sorted(found, key=lambda finding: order[finding.rule])


def ambiguous_names() -> dict[str, str]:
    """The shipped table of ambiguous English names: folded word to its senses.

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
    for one in classes:
        name, key = fold(one.name), _loose(one.name)
        twin = exact.setdefault(name, one)
        near = loose.setdefault(key, one)
        if twin is not one:
            told_apart = one.note and twin.note and one.note != twin.note
            rule = "similar-name" if told_apart else "duplicate-name"
            more = ", apart by their notes, which no image-text model reads" if told_apart else ""
            yield LintFinding(rule, f"{_named(one)} and {_named(twin)} have one name{more}", one.id, twin.id)
        elif near is not one:
            yield LintFinding("similar-name", f"{_named(one)} and {_named(near)} are all but one name", one.id, near.id)


def _loose(name: str) -> str:
    """A name without spaces, hyphens and case, its last word in the singular where English forms it by -s."""
    joined = "".join(words(name)) or fold(name)
    return (
        joined[:-1] if len(joined) > 3 and joined.endswith("s") and not joined.endswith(("ss", "us", "is")) else joined
    )


def _ambiguous(classes: Sequence[ClassLabel], table: Mapping[str, str]) -> Iterator[LintFinding]:
    for one in classes:
        name = fold(one.name)
        # "crane (bird)" and "crane, bird" say it; "crane bird" is another name
        word = name if name in table else name.removesuffix("s")
        if word in table and not (one.note or one.group):
            message = f"{_named(one)} may mean {table[word]}"
            yield LintFinding(
                "ambiguous-name", f"{message}: write which, as in '{word} ({_first(table[word])})'", one.id
            )


def _first(senses: str) -> str:
    return senses.partition(";")[0].strip()


def _counts(
    classes: Sequence[ClassLabel], descriptions: Mapping[str, Sequence[Description]], options: LintOptions
) -> Iterator[LintFinding]:
    counts = {one.id: len(descriptions.get(one.id, ())) for one in classes}
    for one in classes:
        if counts[one.id] == 0:
            yield LintFinding("no-descriptions", f"{_named(one)} has no description", one.id)
        elif counts[one.id] < options.min_descriptions:
            few = f"{_named(one)} has {counts[one.id]} of at least {options.min_descriptions} descriptions"
            yield LintFinding("too-few", few, one.id)
    described = [one for one in classes if counts[one.id]]
    if not described:
        return
    fewest, most = (choose(described, key=lambda one: counts[one.id]) for choose in (min, max))
    if counts[most.id] > options.max_ratio * counts[fewest.id]:
        yield LintFinding(
            "unequal-counts",
            f"{_named(most)} has {counts[most.id]} descriptions, {_named(fewest)} has {counts[fewest.id]}",
            most.id,
            fewest.id,
        )


def _texts(
    classes: Sequence[ClassLabel], descriptions: Mapping[str, Sequence[Description]], options: LintOptions
) -> Iterator[LintFinding]:
    names = _Names(classes)
    first: dict[tuple[str, ...], ClassLabel] = {}
    for one in classes:
        for record in descriptions.get(one.id, ()):
            text, found = record.text, words(record.text)
            # a text that several classes have says nothing for any; reported at the second class
            owner = first.setdefault(tuple(found) or (text,), one)
            if owner.id != one.id:
                rule = "shared-text" if record.kind == "sentence" else "shared-phrase"
                yield LintFinding(rule, f"{_named(one)} and {_named(owner)} share a text", one.id, owner.id, text)
            for other in names.others(found, one):
                yield LintFinding("names-other-class", f"{_named(one)} names {_named(other)}", one.id, other.id, text)
            if record.kind == "sentence" and len(found) < _NEAR_EMPTY:
                yield LintFinding(
                    "near-empty", f"{_named(one)} has a sentence of {len(found)} words", one.id, None, text
                )
            if _MARKUP.search(text):
                yield LintFinding("markup", f"{_named(one)} has a text with markup", one.id, None, text)
            hidden = _hidden(text)
            if hidden:
                yield LintFinding("control-character", f"{_named(one)} has a text with {hidden}", one.id, None, text)
            tokens = _over(text, options)
            if tokens:
                message = f"{_named(one)} has a text of {tokens} tokens, the limit is {options.token_limit}"
                yield LintFinding("over-token-limit", message, one.id, None, text)


def _hidden(text: str) -> str:
    if text.isascii() and text.isprintable():
        return ""
    for char in text:
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co") and char not in _JOINERS:
            return f"U+{ord(char):04X}"
    return ""


def _over(text: str, options: LintOptions) -> int:
    if options.count_tokens is None or options.token_limit is None:
        return 0
    # no token is shorter than a byte, and two mark the ends
    if len(text.encode("utf-8", "replace")) + 2 <= options.token_limit:
        return 0
    tokens = options.count_tokens(text)
    return tokens if tokens > options.token_limit else 0


class _Names:
    """Finds the classes that a text names, the longest name at each place; its own name is no finding.

    Spellings are joined words, as ``NameMatcher`` has them, in one table. From a place in a text words are joined only
    while a spelling may still begin so, so the time does not grow with the number of classes.
    """

    def __init__(self, classes: Sequence[ClassLabel]) -> None:
        self._owners: dict[str, list[ClassLabel]] = defaultdict(list)
        self._longest: dict[str, int] = defaultdict(int)
        for one in classes:
            if "".join(words(one.name)) in _COMMON or any(unicodedata.category(c)[0] == "S" for c in one.name):
                continue
            for form in NameMatcher(one.name).forms:
                self._owners[form].append(one)
                for length in range(1, min(len(form), _KEY) + 1):
                    start = form[:length]
                    self._longest[start] = max(self._longest[start], len(form))

    def others(self, found: Sequence[str], own: ClassLabel) -> Iterator[ClassLabel]:
        """Each other class that the words ``found`` name, once."""
        seen = {own.id}
        after = 0
        for at, word in enumerate(found):
            if at < after or len(word) > self._longest.get(word[:_KEY], 0):
                continue
            length, named = self._match(found, at)
            after = at + length
            if any(one.id == own.id for one in named):
                continue
            for one in named:
                if one.id not in seen:
                    seen.add(one.id)
                    yield one

    def _match(self, found: Sequence[str], at: int) -> tuple[int, Sequence[ClassLabel]]:
        joined, best, named = "", 0, list[ClassLabel]()
        for stop in range(at, len(found)):
            joined += found[stop]
            if len(joined) > self._longest.get(joined[:_KEY], 0):
                break
            owners = self._owners.get(joined)
            if owners:
                best, named = stop + 1 - at, owners
        return best, named


def _named(one: ClassLabel) -> str:
    return f"'{one.name}'" if fold(one.name).replace(" ", "_") == one.id else f"'{one.name}' ({one.id})"
