"""One line of a bundle: JSON text to a checked record, and a record to its only spelling. Pure.

A million lines are read in seconds, so there are two ways through. The fast one is a regular expression of the one
allowed spelling; it says yes or nothing. The slow one parses, checks every rule, rebuilds the spelling and compares it
with the line (which finds other key orders, spaces, escapes, number spellings and repeated keys); it says what is
wrong. The slow one is the fast one's oracle, and ``format.RecordModel`` is the oracle of both.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from math import isfinite
from typing import Any, cast
from unicodedata import is_normalized

from abs_core.canonical import canonical_json
from abs_descriptions.bundles.format import (
    KINDS,
    MAX_DEPTH,
    MAX_INTEGER,
    MAX_SCORES,
    MAX_TEXT,
    SCORE_NAME,
    Description,
    Kind,
    Provenance,
    text_fault,
    token_fault,
)
from abs_descriptions.bundles.spelling import spell_scores
from abs_descriptions.references import DIGEST, quoted

__all__ = [
    "Fields",
    "LineFault",
    "RecordRules",
    "are_scores",
    "check_canonical",
    "is_too_deep",
    "parse_json",
    "provenance_from_value",
    "record_from_value",
]

CANONICAL = "Write bundles with write_bundle, which spells every line in the one allowed way"
FETCH = "Fetch or copy the bundle again; to change a bundle, write a new version"

_STRINGS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_DECODER = json.JSONDecoder()
_RECORD_KEYS = frozenset(("class", "id", "kind", "provenance", "scores", "text"))
_PROVENANCE_KEYS = frozenset(("accepted_by", "edited_by", "generator", "prompt", "request", "sample"))
_JSON_TYPES = {bool: "a truth value", int: "a number", float: "a number", str: "a string", list: "a list"}
_NUMBERS = frozenset((int, float))
_MEMORY = 10_000
#: class, id, kind, accepted by, edited by, generator, prompt, request, sample, scores, text; sample and text as spelled
#: in JSON.
Fields = tuple[
    str,
    str | None,
    str,
    str | None,
    str | None,
    str,
    str | None,
    str | None,
    str,
    Mapping[str, float] | None,
    str,
]

# A string whose spelling is its value. Every repeat is possessive: a hostile line costs one walk.
_PLAIN = r'[^"\\\x00-\x1f]*+'
_RECORD = re.compile(
    rf'\{{"class":"(?P<class>{_PLAIN})",(?:"id":"(?P<id>{_PLAIN})",)?"kind":"(?P<kind>phrase|sentence)","provenance":'
    rf'\{{(?:"accepted_by":"(?P<accepted>{_PLAIN})",)?(?:"edited_by":"(?P<edited>{_PLAIN})",)?'
    rf'"generator":"(?P<generator>{_PLAIN})",(?:"prompt":"(?P<prompt>{_PLAIN})",)?'
    rf'(?:"request":"(?P<request>sha256:[0-9a-f]{{64}})",)?"sample":(?P<sample>0|[1-9][0-9]{{0,14}})\}},'
    rf'(?:"scores":(?P<scores>\{{[^{{}}]*\}}),)?"text":"(?P<text>{_PLAIN}(?:\\["\\]{_PLAIN})*+)"\}}'
)


class LineFault(Exception):  # noqa: N818  an AbsError is made of it where file and line are known
    """What is wrong with a line, and the remedy. Not a ``ValueError``: jsonlines would catch it."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def parse_json(line: str) -> dict[str, Any]:
    """The object that a line holds.

    Raises:
        LineFault: no JSON object, JSON with something after it, or nesting deeper than the limit.
    """
    if line[:1] != "{":
        raise LineFault(_not_an_object(line), FETCH)
    if line.count("{") + line.count("[") > MAX_DEPTH and is_too_deep(line):
        raise LineFault(f"nested deeper than {MAX_DEPTH} levels", FETCH)
    try:
        value, end = _DECODER.raw_decode(line)
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError):
            reason = f"{error.msg.lower().removesuffix(' at')}, column {error.pos + 1}"
        else:
            reason = "a number with too many digits"
        raise LineFault(f"no valid JSON: {reason}", FETCH) from None
    if end != len(line):
        raise LineFault(f"more follows the JSON object: {quoted(line[end:], 20)}", CANONICAL)
    return cast("dict[str, Any]", value)


def _not_an_object(line: str) -> str:
    if not line.strip():
        return "an empty line"
    if line[0] == "\ufeff":
        return "a byte order mark before the JSON object"
    return f"no JSON object: {quoted(line, 20)}"


def is_too_deep(line: str) -> bool:
    depth = 0
    for char in _STRINGS.sub("", line):
        if char in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif char in "]}":
            depth -= 1
    return False


def check_canonical(value: Any, line: str) -> None:
    """Check that ``line`` is the canonical JSON of ``value``.

    Raises:
        LineFault: it is another spelling of the value, or no value that has one.
    """
    try:
        spelling = canonical_json(value)
    except ValueError:
        raise LineFault("a number that is not finite, or two keys that are equal in Unicode form NFC", FETCH) from None
    if spelling != line:
        raise LineFault(f"not in canonical form ({_spelling_difference(line, spelling)})", CANONICAL)


def _spelling_difference(line: str, spelling: str) -> str:
    repeated: list[str] = []

    def note_repeats(pairs: list[tuple[str, Any]]) -> None:
        repeated.extend(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)

    json.loads(line, object_pairs_hook=note_repeats)
    if repeated:
        return f"the key {quoted(repeated[0])} stands twice"
    position = next((i for i, (a, b) in enumerate(zip(line, spelling, strict=False)) if a != b), len(spelling))
    return f"it differs from column {position + 1}: {quoted(line[position : position + 21], 20)}"


class RecordRules:
    """The rules of one record of one bundle. All methods say what is wrong, or None.

    Args:
        classes: the ids of the label set.
        generators: the ids of the header's generators.
    """

    def __init__(self, classes: Collection[str], generators: Collection[str]) -> None:
        self._classes = frozenset(classes)
        self._generators = frozenset(generators)
        self._good_prompts: set[str] = set()
        self._good_score_names: set[str] = set()

    def knows_class(self, class_id: str) -> bool:
        """Whether the class is in the label set."""
        return class_id in self._classes

    def fast_match(self, line: str) -> Fields | None:
        """The fields of a line that keeps every rule; None says nothing: the line may be good or bad."""
        match = _RECORD.fullmatch(line)
        if match is None:
            return None
        class_id, ident, kind, accepted, edited, generator, prompt, request, sample, spelling, text = match.groups()
        if (
            class_id in self._classes
            and generator in self._generators
            and (accepted is None or accepted in self._generators)
            and (edited is None or edited in self._generators)
            and (prompt is None or prompt in self._good_prompts)
            and 0 < len(text) <= MAX_TEXT
            and text.strip() == text
            and (text.isascii() or is_normalized("NFC", text))
            and (ident is None or token_fault(ident) is None)
        ):
            scores = None if spelling is None else self._spelled_scores(spelling)
            if spelling is None or scores is not None:
                return class_id, ident, kind, accepted, edited, generator, prompt, request, sample, scores, text
        return None

    def _spelled_scores(self, spelling: str) -> dict[str, float] | None:
        """The scores that are spelled like this if they keep the rules, else None."""
        try:
            scores: dict[str, Any] = _DECODER.raw_decode(spelling)[0]
        except ValueError:
            return None
        good = are_scores(scores) and self.scores_fault(scores) is None and spell_scores(scores) == spelling
        return scores if good else None

    def read(self, line: str) -> Description:
        """The record on a line.

        Raises:
            LineFault: the line breaks a rule of the format.
        """
        fields = self.fast_match(line)
        if fields is None:
            return self.read_slowly(line)
        class_id, ident, kind, accepted, edited, generator, prompt, request, sample, scores, text = fields
        source = Provenance(generator, int(sample), prompt, request, accepted, edited)
        text = _DECODER.decode(f'"{text}"') if "\\" in text else text
        return Description(class_id, text, source, cast("Kind", kind), scores, ident)

    def read_slowly(self, line: str) -> Description:
        """The record on a line, by the way that says what is wrong.

        Raises:
            LineFault: the line breaks a rule of the format.
        """
        value = parse_json(line)
        record = record_from_value(value)
        reason = self.fault(record)
        if reason is not None:
            raise LineFault(reason, FETCH)
        check_canonical(value, line)
        return record

    def fault(self, record: Description) -> str | None:
        """What is wrong with a record whose fields have the right types."""
        source = record.provenance
        if record.class_id not in self._classes:
            return f"the class {quoted(record.class_id)} is not in the label set"
        if record.kind not in KINDS:
            return f"the kind is {quoted(record.kind)}, not 'sentence' or 'phrase'"
        reason = text_fault(record.text)
        if reason is not None:
            return f"the text {reason}"
        if record.id is not None and (reason := token_fault(record.id)):
            return f"the id {reason}"
        if record.scores is not None and (reason := self.scores_fault(record.scores)):
            return reason
        return self.provenance_fault(source)

    def provenance_fault(self, source: Provenance) -> str | None:
        """What is wrong with a provenance whose fields have the right types."""
        if source.generator not in self._generators:
            return f"the generator {quoted(source.generator)} is not in the header"
        if source.accepted_by is not None or source.edited_by is not None:
            reason = self.reviewer_fault(source.accepted_by) or self.reviewer_fault(source.edited_by)
            if reason is not None:
                return reason
        if type(source.sample) is not int or not 0 <= source.sample <= MAX_INTEGER:
            return f"the sample is not a whole number from 0 to {MAX_INTEGER}"
        if source.request is not None and DIGEST.fullmatch(source.request) is None:
            return f"the request {quoted(source.request)} is not sha256: and 64 hexadecimal digits"
        if source.prompt is not None and source.prompt not in self._good_prompts:
            reason = token_fault(source.prompt)
            if reason is not None:
                return f"the prompt id {reason}"
            if len(self._good_prompts) < _MEMORY:
                self._good_prompts.add(source.prompt)
        return None

    def reviewer_fault(self, who: str | None) -> str | None:
        """What is wrong with the id of a reviewer, None being none."""
        known = who is None or who in self._generators
        return None if known else f"the reviewer {quoted(str(who))} is not in the header"

    def scores_fault(self, scores: Mapping[str, float]) -> str | None:
        """What is wrong with scores that are numbers."""
        if not 1 <= len(scores) <= MAX_SCORES:
            return f"there are {len(scores)} scores, not 1 to {MAX_SCORES}"
        for name, score in scores.items():
            if name not in self._good_score_names:
                if SCORE_NAME.fullmatch(name) is None:
                    return f"the score name {quoted(name)} is not 1 to 100 of a-z, 0-9, '.', '_', '-'"
                if len(self._good_score_names) < _MEMORY:
                    self._good_score_names.add(name)
            if not isfinite(score) if isinstance(score, float) else abs(score) > MAX_INTEGER:
                return f"the score {quoted(name)} is not a finite number of double precision"
        return None


def record_from_value(value: dict[str, Any]) -> Description:
    """The record that a JSON object holds, with the right types; its values are not yet checked.

    Raises:
        LineFault: a key is missing or unknown, or a value has another type.
    """
    source = value.get("provenance")
    ident, scores = value.get("id"), value.get("scores")
    if (
        len(value) != 4 + (ident is not None) + (scores is not None)
        or type(source) is not dict
        or type(value.get("class")) is not str
        or type(value.get("kind")) is not str
        or type(value.get("text")) is not str
        or not (ident is None or type(ident) is str)
        or not (scores is None or are_scores(scores))
    ):
        raise LineFault(_shape_fault(value), FETCH)
    return Description(
        value["class"], value["text"], provenance_from_value(source), cast("Kind", value["kind"]), scores, ident
    )


def provenance_from_value(source: dict[str, Any]) -> Provenance:
    """The provenance that a JSON object holds, with the right types.

    Raises:
        LineFault: a key is missing or unknown, or a value has another type.
    """
    prompt, request, sample = source.get("prompt"), source.get("request"), source.get("sample")
    accepted, edited = source.get("accepted_by"), source.get("edited_by")
    given = [item for item in (prompt, request, accepted, edited) if item is not None]
    if (
        len(source) != 2 + len(given)
        or type(source.get("generator")) is not str
        or type(sample) is not int
        or any(type(item) is not str for item in given)
    ):
        raise LineFault(_provenance_shape_fault(source), FETCH)
    return Provenance(source["generator"], sample, prompt, request, accepted, edited)


def are_scores(scores: Any) -> bool:
    """Whether a value is an object of numbers."""
    return type(scores) is dict and _NUMBERS.issuperset(map(type, scores.values()))


def _shape_fault(value: dict[str, Any]) -> str:
    reason = _keys_fault("record", value, _RECORD_KEYS, ("class", "kind", "provenance", "text"))
    if reason is not None:
        return reason
    for key in ("class", "kind", "text", "id"):
        if type(value.get(key, "")) is not str:
            return f"the {key} is {_type_name(value[key])}, not a string"
    if type(value["provenance"]) is not dict:
        return f"the provenance is {_type_name(value['provenance'])}, not an object"
    return "the scores are not an object of numbers"


def _provenance_shape_fault(source: dict[str, Any]) -> str:
    reason = _keys_fault("provenance", source, _PROVENANCE_KEYS, ("generator", "sample"))
    if reason is not None:
        return reason
    for key in ("generator", "prompt", "request", "accepted_by", "edited_by"):
        if type(source.get(key, "")) is not str:
            return f"the provenance's {key} is {_type_name(source[key])}, not a string"
    return f"the provenance's sample is {_type_name(source['sample'])}, not a whole number"


def _keys_fault(what: str, value: Mapping[str, Any], known: Collection[str], needed: Collection[str]) -> str | None:
    unknown = sorted(set(value) - set(known))
    if unknown:
        return f"the {what} has an unknown key {quoted(unknown[0])}"
    missing = [key for key in needed if key not in value]
    if missing:
        return f"the {what} lacks {quoted(missing[0])}"
    null = [key for key, item in value.items() if item is None]
    return f"the {what}'s {quoted(null[0])} is null; leave the key out" if null else None


def _type_name(value: Any) -> str:
    return "null" if value is None else _JSON_TYPES.get(type(value), "an object")
