"""One line of a bundle: JSON text to a checked record, and a record to its canonical JSON. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from json.encoder import encode_basestring
from math import isfinite
from types import MappingProxyType
from typing import Any, NamedTuple, cast
from unicodedata import normalize

from pydantic import ValidationError

from abs_core.canonical import canonical_json
from abs_core.descriptions import DESCRIPTION_KINDS, Description, DescriptionKind, Provenance
from abs_core.text import quoted, validation_message
from abs_descriptions.bundles.format import (
    FORMAT,
    FORMAT_VERSION,
    MAX_DEPTH,
    MAX_INTEGER,
    MAX_SCORES,
    SCORE_NAME,
    BundleHeader,
    header_problem,
    text_problem,
    token_problem,
)
from abs_descriptions.bundles.references import DIGEST

__all__ = [
    "MIGRATIONS",
    "LineError",
    "Migration",
    "RecordRules",
    "check_canonical",
    "is_too_deep",
    "nfc",
    "parse_header",
    "parse_json",
    "serialize_header",
    "serialize_record",
]

CANONICAL = "Write bundles with write_bundle, which writes every line in its one canonical form"
FETCH = "Fetch or copy the bundle again; to change a bundle, write a new version"
_STRINGS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_DECODER = json.JSONDecoder()
_RECORD_KEYS = frozenset(("class", "id", "kind", "provenance", "scores", "text"))
_PROVENANCE_KEYS = frozenset(("accepted_by", "edited_by", "generator", "prompt", "request", "sample"))
_JSON_TYPES = {bool: "a truth value", int: "a number", float: "a number", str: "a string", list: "a list"}
_NUMBERS = frozenset((int, float))


class LineError(Exception):  # an AbsError is made of it where file and line are known
    """What is wrong with a line, and the remedy. Not a ``ValueError``: jsonlines would catch it."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def parse_json(line: str) -> dict[str, Any]:
    """The object that a line holds.

    Raises:
        LineError: no JSON object, JSON with something after it, or nesting deeper than the limit.
    """
    if line[:1] != "{":
        raise LineError(_not_an_object(line), FETCH)
    if line.count("{") + line.count("[") > MAX_DEPTH and is_too_deep(line):
        raise LineError(f"nested deeper than {MAX_DEPTH} levels", FETCH)
    try:
        value, end = _DECODER.raw_decode(line)
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError):
            reason = f"{error.msg.lower().removesuffix(' at')}, column {error.pos + 1}"
        else:
            reason = "a number with too many digits"
        raise LineError(f"invalid JSON: {reason}", FETCH) from None
    if end != len(line):
        raise LineError(f"there is more after the JSON object: {quoted(line[end:], 20)}", CANONICAL)
    return cast("dict[str, Any]", value)


def _not_an_object(line: str) -> str:
    if not line.strip():
        return "the line is empty"
    if line[0] == "\ufeff":
        return "a byte order mark before the JSON object"
    return f"not a JSON object: {quoted(line, 20)}"


def is_too_deep(line: str) -> bool:
    """Whether JSON nests objects and lists deeper than the limit, without parsing it."""
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
        LineError: it is written differently, or the value has no canonical form.
    """
    try:
        canonical = canonical_json(value)
    except ValueError:
        raise LineError("a number that is not finite, or two keys that are equal in Unicode form NFC", FETCH) from None
    if canonical != line:
        raise _not_canonical(line, canonical)


def _not_canonical(line: str, canonical: str) -> LineError:
    return LineError(f"not in canonical form ({_difference(line, canonical)})", CANONICAL)


def _difference(line: str, canonical: str) -> str:
    repeated: list[str] = []

    def note_repeats(pairs: list[tuple[str, Any]]) -> None:
        repeated.extend(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)

    json.loads(line, object_pairs_hook=note_repeats)
    if repeated:
        return f"the key {quoted(repeated[0])} appears twice"
    position = next((i for i, (a, b) in enumerate(zip(line, canonical, strict=False)) if a != b), len(canonical))
    return f"it differs from column {position + 1}: {quoted(line[position : position + 21], 20)}"


class RecordRules:
    """The rules of the records of one bundle. The methods in ``_problem`` say what is wrong, or None.

    Args:
        classes: the ids of the label set.
        generators: the ids of the header's generators.
    """

    def __init__(self, classes: Collection[str], generators: Collection[str]) -> None:
        self._classes = frozenset(classes)
        self._generators = frozenset(generators)

    def knows_class(self, class_id: str) -> bool:
        """Whether the class is in the label set."""
        return class_id in self._classes

    def read(self, line: str) -> Description:
        """The record on a line.

        Raises:
            LineError: the line breaks a rule of the format.
        """
        value = parse_json(line)
        record = _record_from_value(value)
        reason = self.problem(record)
        if reason is not None:
            raise LineError(reason, FETCH)
        canonical = serialize_record(record)
        if canonical != line:
            raise _not_canonical(line, canonical)
        return record

    def normalized(self, record: Description) -> Description:
        """A record that keeps the rules, its strings brought to Unicode form NFC where they are not in it.

        Raises:
            LineError: the record breaks a rule.
            TypeError, AttributeError: a field has the wrong type.
        """
        if self.problem(record) is None:
            return record
        record = _normalized(record)
        reason = self.problem(record)
        if reason is not None:
            raise LineError(reason, "Clean the descriptions before writing them")
        return record

    def problem(self, record: Description) -> str | None:
        """What is wrong with a record whose fields have the right types."""
        source = record.provenance
        if record.class_id not in self._classes:
            return f"the class {quoted(record.class_id)} is not in the label set"
        if record.kind not in DESCRIPTION_KINDS:
            return f"the kind must be 'sentence' or 'phrase', got {quoted(record.kind)}"
        reason = text_problem(record.text)
        if reason is not None:
            return f"the text {reason}"
        if record.id is not None and (reason := token_problem(record.id)):
            return f"the id {reason}"
        if record.scores is not None and (reason := self.scores_problem(record.scores)):
            return reason
        return self.provenance_problem(source)

    def provenance_problem(self, source: Provenance) -> str | None:
        """What is wrong with a provenance whose fields have the right types."""
        if source.generator not in self._generators:
            return f"the generator {quoted(source.generator)} is not in the header"
        if reason := self.reviewer_problem(source.accepted_by) or self.reviewer_problem(source.edited_by):
            return reason
        if type(source.sample) is not int or not 0 <= source.sample <= MAX_INTEGER:
            return f"the sample must be a whole number from 0 to {MAX_INTEGER}"
        if source.request is not None and DIGEST.fullmatch(source.request) is None:
            return f"the request must be sha256: and 64 hexadecimal digits, got {quoted(source.request)}"
        if source.prompt is not None and (reason := token_problem(source.prompt)):
            return f"the prompt id {reason}"
        return None

    def reviewer_problem(self, who: str | None) -> str | None:
        """What is wrong with the id of a reviewer, None being none."""
        known = who is None or who in self._generators
        return None if known else f"the reviewer {quoted(str(who))} is not in the header"

    def scores_problem(self, scores: Mapping[str, float]) -> str | None:
        """What is wrong with scores that are numbers."""
        if not 1 <= len(scores) <= MAX_SCORES:
            return f"there must be 1 to {MAX_SCORES} scores, got {len(scores)}"
        for name, score in scores.items():
            if SCORE_NAME.fullmatch(name) is None:
                return f"a score name must be 1 to 100 of a-z, 0-9, '.', '_', '-', got {quoted(name)}"
            if not isfinite(score) if isinstance(score, float) else abs(score) > MAX_INTEGER:
                return f"the score {quoted(name)} must be a finite number of double precision"
        return None


def _record_from_value(value: dict[str, Any]) -> Description:
    """The record that a JSON object holds, with the right types; its values are not yet checked.

    Raises:
        LineError: a key is missing or unknown, or a value has another type.
    """
    source = value.get("provenance")
    record_id, scores = value.get("id"), value.get("scores")
    if (
        len(value) != 4 + (record_id is not None) + (scores is not None)
        or type(source) is not dict
        or type(value.get("class")) is not str
        or type(value.get("kind")) is not str
        or type(value.get("text")) is not str
        or not (record_id is None or type(record_id) is str)
        or not (scores is None or _are_numbers(scores))
    ):
        raise LineError(_shape_problem(value), FETCH)
    return Description(
        value["text"],
        cast("DescriptionKind", value["kind"]),
        class_id=value["class"],
        provenance=_provenance_from_value(source),
        scores=scores,
        id=record_id,
    )


def _provenance_from_value(source: dict[str, Any]) -> Provenance:
    """The provenance that a JSON object holds, with the right types.

    Raises:
        LineError: a key is missing or unknown, or a value has another type.
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
        raise LineError(_provenance_shape_problem(source), FETCH)
    return Provenance(source["generator"], sample, prompt, request, accepted, edited)


def serialize_record(record: Description) -> str:
    """The canonical JSON of a record that keeps the rules.

    What ``canonical_json`` would make of it, several times as fast: reading a line compares it with this.
    """
    source, scores = record.provenance, ""
    if record.scores is not None:
        members = ",".join([f'"{name}":{_number(score)}' for name, score in sorted(record.scores.items())])
        scores = f'"scores":{{{members}}},'
    return (
        f'{{"class":{encode_basestring(record.class_id)},{_member("id", record.id)}"kind":"{record.kind}",'
        f'"provenance":{{{_member("accepted_by", source.accepted_by)}{_member("edited_by", source.edited_by)}'
        f'"generator":{encode_basestring(source.generator)},{_member("prompt", source.prompt)}'
        f'{_member("request", source.request)}"sample":{source.sample}}},'
        f'{scores}"text":{encode_basestring(record.text)}}}'
    )


def _number(score: float) -> str:
    # The built-in type's repr: that of a subclass such as numpy.float64 or bool may be no JSON number.
    return float.__repr__(score) if isinstance(score, float) else int.__repr__(score)


def _member(key: str, value: str | None) -> str:
    return "" if value is None else f'"{key}":{encode_basestring(value)},'


def nfc(value: Any) -> Any:
    """A string in Unicode form NFC; anything else as it is, for whoever checks it next."""
    return normalize("NFC", value) if isinstance(value, str) else value


def _normalized(record: Description) -> Description:
    given = record.provenance
    source = replace(
        given,
        generator=nfc(given.generator),
        prompt=nfc(given.prompt),
        accepted_by=nfc(given.accepted_by),
        edited_by=nfc(given.edited_by),
    )
    return replace(record, class_id=nfc(record.class_id), text=nfc(record.text), id=nfc(record.id), provenance=source)


def _are_numbers(scores: Any) -> bool:
    return type(scores) is dict and _NUMBERS.issuperset(map(type, scores.values()))


def _shape_problem(value: dict[str, Any]) -> str:
    reason = _keys_problem("record", value, _RECORD_KEYS, ("class", "kind", "provenance", "text"))
    if reason is not None:
        return reason
    for key in ("class", "kind", "text", "id"):
        if type(value.get(key, "")) is not str:
            return f"the {key} must be a string, got {_type_name(value[key])}"
    if type(value["provenance"]) is not dict:
        return f"the provenance must be an object, got {_type_name(value['provenance'])}"
    return "the scores must be an object of numbers"


def _provenance_shape_problem(source: dict[str, Any]) -> str:
    reason = _keys_problem("provenance", source, _PROVENANCE_KEYS, ("generator", "sample"))
    if reason is not None:
        return reason
    for key in ("generator", "prompt", "request", "accepted_by", "edited_by"):
        if type(source.get(key, "")) is not str:
            return f"the provenance's {key} must be a string, got {_type_name(source[key])}"
    return f"the provenance's sample must be a whole number, got {_type_name(source['sample'])}"


def _keys_problem(part: str, value: Mapping[str, Any], known: Collection[str], needed: Collection[str]) -> str | None:
    unknown = sorted(set(value) - set(known))
    if unknown:
        return f"the {part} has an unknown key {quoted(unknown[0])}"
    missing = [key for key in needed if key not in value]
    if missing:
        return f"the {part} lacks {quoted(missing[0])}"
    null = [key for key, item in value.items() if item is None]
    return f"the {part}'s {quoted(null[0])} is null; leave the key out" if null else None


def _type_name(value: Any) -> str:
    return "null" if value is None else _JSON_TYPES.get(type(value), "an object")


class Migration(NamedTuple):
    """From one format version to the next: two pure functions on JSON objects."""

    header: Callable[[dict[str, Any]], dict[str, Any]]
    record: Callable[[dict[str, Any]], dict[str, Any]]


#: The version that a step migrates from -> the step. Version 1 is the first, so there is none yet.
MIGRATIONS: Mapping[int, Migration] = MappingProxyType({})


def _steps_from(version: object, migrations: Mapping[int, Migration] = MIGRATIONS) -> tuple[Migration, ...]:
    """The steps from ``version`` to ``FORMAT_VERSION``, in order; none for a file of today.

    Raises:
        LineError: no format version, or one that this release does not know.
    """
    if type(version) is not int:
        raise LineError("the format version is not a whole number", "Check that the file is a description bundle")
    if version > FORMAT_VERSION:
        raise LineError(
            f"format version {_shown(version)} is not known; this release reads up to {FORMAT_VERSION}",
            "Upgrade abs-toolkit",
        )
    numbers = range(version, FORMAT_VERSION) if version >= min(migrations, default=FORMAT_VERSION) else None
    if numbers is None or any(number not in migrations for number in numbers):
        raise LineError(f"format version {_shown(version)} never existed", "Get the bundle from where it was written")
    return tuple(migrations[number] for number in numbers)


def _shown(version: int) -> str:
    return str(version) if abs(version) < 10**12 else "of an absurd size"


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_header(
    line: str, migrations: Mapping[int, Migration] = MIGRATIONS
) -> tuple[BundleHeader, tuple[Migration, ...]]:
    """The header on a line, and the steps that bring the records after it to today's format.

    Raises:
        LineError: no bundle, an unknown format version, or a header that breaks a rule.
    """
    value = parse_json(line)
    if value.get("format") != FORMAT:
        stated = quoted(value["format"]) if isinstance(value.get("format"), str) else "missing"
        raise LineError(
            f"this is not a description bundle (its format is {stated}, not '{FORMAT}')", "Name a bundle's .jsonl file"
        )
    steps = _steps_from(value.get("format_version"), migrations)
    if steps:
        check_canonical(value, line)
        for step in steps:
            value = step.header(value)
        canonical = canonical_json(value)
    else:
        canonical = line
    header = _validated(canonical)
    if not steps:
        check_canonical(value, line)
    if serialize_header(header) != canonical:
        raise LineError("the header is invalid: null is not allowed; leave the key out", FETCH)
    reason = header_problem(header)
    if reason is not None:
        raise LineError(f"the header is invalid: {reason}", FETCH)
    return header, steps


def _validated(line: str) -> BundleHeader:
    try:
        return BundleHeader.model_validate_json(line)
    except ValidationError as error:
        # Python's parser, which came first, takes lone surrogates; pydantic's calls them invalid JSON.
        surrogate = error.errors()[0]["type"] == "json_invalid" and _SURROGATE.search(line)
        reason = "a lone surrogate" if surrogate else validation_message(error)
        raise LineError(f"the header is invalid: {reason}", FETCH) from None


def serialize_header(header: BundleHeader) -> str:
    """The canonical JSON of a header.

    Raises:
        ValueError: the parameters of a generator hold a number that is not finite.
    """
    value: dict[str, Any] = header.model_dump(mode="json", by_alias=True, exclude_none=True)
    return canonical_json(value)
