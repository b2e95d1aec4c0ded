"""The header and the lines of a bundle as pydantic models, and the JSON Schema made of them. Pure.

The header and the rejected completions are checked by these models. Descriptions come by the million, so ``codec``
checks them by hand; ``RecordModel`` states the same rules for the JSON Schema, and the tests compare the two.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from abs_core.descriptions import DescriptionKind
from abs_core.labels import ClassLabel, LabelSet
from abs_core.text import quoted
from abs_descriptions.bundles.references import DIGEST, NAME, VERSION, name_problem, parse_version, pinned_problem

__all__ = [
    "SURROGATE",
    "BundleHeader",
    "ClassEntry",
    "Counts",
    "Generator",
    "HeaderSummary",
    "LabelSetEntry",
    "LabelSetSummary",
    "PromptSetEntry",
    "RecordModel",
    "RejectionModel",
    "bundle_schema",
    "header_problem",
    "text_problem",
    "token_problem",
]

FORMAT = "abs-descriptions"
FORMAT_VERSION = 1
MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_LINE_BYTES = 1024 * 1024
MAX_DEPTH = 16
MAX_TEXT = 4000
MAX_REJECTED_TEXT = 100_000
MAX_TOKEN = 200
MAX_CLASS_NAME = 1000
MAX_SCORES = 64
MAX_ALIASES = 1000

# Integers above this are not exact in JSON readers that use doubles (RFC 8259, section 6).
MAX_INTEGER = 2**53 - 1
SCORE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
SURROGATE = re.compile(r"[\ud800-\udfff]")


def token_problem(text: str, limit: int = MAX_TOKEN) -> str | None:
    """Why ``text`` cannot be an id or a name inside a bundle, continuing "... "; None if it can."""
    if not text:
        return "is empty"
    if len(text) > limit:
        return f"is longer than {limit} characters"
    if _CONTROL.search(text):
        return "contains a control character"
    if text.strip() != text:
        return "begins or ends with a space"
    return _unicode_problem(text)


def text_problem(text: str) -> str | None:
    """Why ``text`` cannot be a description, continuing "the text ..."; None if it can."""
    stripped = text.strip()
    if not stripped:
        return "is empty"
    if len(text) > MAX_TEXT:
        return f"is longer than {MAX_TEXT} characters"
    if "\0" in text:
        return "contains a NUL character"
    if "\n" in text or "\r" in text:
        return "contains a line break"
    if len(stripped) != len(text):
        return "begins or ends with a space"
    return _unicode_problem(text)


def _unicode_problem(text: str) -> str | None:
    if text.isascii():
        return None
    if SURROGATE.search(text):
        return "contains a lone surrogate"
    return None if unicodedata.is_normalized("NFC", text) else "is not in Unicode form NFC"


_CREATED = re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z")
_CREDENTIALS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}://[^/\s@]{1,500}@")


def _rule(problem: Callable[[str], str | None]) -> AfterValidator:
    """A pydantic validator that refuses a string for the reason that ``problem`` gives."""

    def check(text: str) -> str:
        reason = problem(text)
        if reason is not None:
            raise ValueError(reason)
        return text

    return AfterValidator(check)


def _class_name_problem(text: str) -> str | None:
    return token_problem(text, MAX_CLASS_NAME)


def _version_problem(text: str) -> str | None:
    return None if parse_version(text) else "is not a semantic version MAJOR.MINOR.PATCH"


def _created_problem(text: str) -> str | None:
    try:
        valid = _CREATED.fullmatch(text) is not None and datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        valid = False
    return None if valid else "is not a UTC time such as 2025-01-31T12:00:00Z"


def _bounded(number: float) -> float:
    if isinstance(number, int) and abs(number) > MAX_INTEGER:
        raise ValueError("is an integer that doubles cannot hold")
    return number


Token = Annotated[str, _rule(token_problem), Field(json_schema_extra={"minLength": 1, "maxLength": MAX_TOKEN})]

ClassName = Annotated[
    str, _rule(_class_name_problem), Field(json_schema_extra={"minLength": 1, "maxLength": MAX_CLASS_NAME})
]

Digest = Annotated[str, StringConstraints(pattern=f"^{DIGEST.pattern}$")]
Score = Annotated[int | float, AfterValidator(_bounded)]
ScoreName = Annotated[str, StringConstraints(pattern=f"^{SCORE_NAME.pattern}$")]
Scores = Annotated[
    dict[ScoreName, Score],
    Field(min_length=1, max_length=MAX_SCORES, json_schema_extra={"additionalProperties": False}),
]

Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Name = Annotated[str, _rule(name_problem), Field(json_schema_extra={"pattern": f"^{NAME.pattern}$"})]
SemanticVersion = Annotated[str, _rule(_version_problem), Field(json_schema_extra={"pattern": f"^{VERSION.pattern}$"})]
Created = Annotated[str, _rule(_created_problem), Field(json_schema_extra={"pattern": f"^{_CREATED.pattern}$"})]

Pinned = Annotated[
    str, _rule(pinned_problem), Field(json_schema_extra={"pattern": f"^[^@#]+@[^@#]+#{DIGEST.pattern}$"})
]

Text = Annotated[str, _rule(text_problem), Field(json_schema_extra={"minLength": 1, "maxLength": MAX_TEXT})]


class _FormatModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ClassEntry(_FormatModel):
    """A class: its stable id, the name that is shown and prompted, what tells it from a namesake, and other names."""

    id: Token
    name: ClassName
    group: Token | None = None
    note: ClassName | None = None
    aliases: Annotated[tuple[ClassName, ...], Field(min_length=1, max_length=MAX_ALIASES)] | None = None


class LabelSetEntry(_FormatModel):
    """The label set that the bundle describes, whole, so that a bundle is readable alone."""

    name: Token
    version: Token
    classes: Annotated[tuple[ClassEntry, ...], Field(min_length=1)]
    digest: Digest


class PromptSetEntry(_FormatModel):
    """The prompt set that a generator used."""

    id: Token
    version: Token
    digest: Digest


class Generator(_FormatModel):
    """What wrote descriptions: a model behind a backend, an importer, a reviewer."""

    id: Token
    backend: Token
    model: ClassName
    parameters: dict[str, JsonValue]
    prompts: PromptSetEntry | None = None


class Counts(_FormatModel):
    """How much there is: classes with at least one record, records, rejected completions beside the bundle."""

    classes: Count
    records: Count
    rejected: Count


class BundleHeader(_FormatModel):
    """Line 1 of a bundle."""

    format: Literal["abs-descriptions"]
    format_version: Literal[1]
    name: Name
    version: SemanticVersion
    created: Created
    label_set_entry: LabelSetEntry = Field(alias="label_set")
    generators: tuple[Generator, ...]
    license: Annotated[Token, Field(alias="licence")]
    parents: tuple[Pinned, ...]
    complete: bool
    counts: Counts
    records_digest: Digest
    rejected_digest: Digest

    @cached_property
    def label_set(self) -> LabelSet:
        """The classes that the bundle describes."""
        entry = self.label_set_entry
        classes = tuple(
            ClassLabel(label.id, label.name, label.group, label.note, label.aliases or ()) for label in entry.classes
        )
        return LabelSet(entry.name, classes, entry.version)


class LabelSetSummary(BaseModel):
    """Which label set a bundle describes, without its classes."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    name: Token
    version: Token
    digest: Digest


class HeaderSummary(BaseModel):
    """A header without the classes of the label set, which are nearly all of it; 30 times as fast to read."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)

    format: Literal["abs-descriptions"]
    format_version: Literal[1]
    name: Name
    version: SemanticVersion
    created: Created
    label_set: LabelSetSummary
    generators: tuple[Generator, ...]
    license: Annotated[Token, Field(alias="licence")]
    parents: tuple[Pinned, ...]
    complete: bool
    counts: Counts


class ProvenanceModel(_FormatModel):
    """Where a description comes from."""

    generator: Token
    sample: Count
    prompt: Token | None = None
    request: Digest | None = None
    accepted_by: Token | None = None
    edited_by: Token | None = None


class RecordModel(_FormatModel):
    """One description: every line but the first."""

    class_: Annotated[Token, Field(alias="class")]
    kind: DescriptionKind
    provenance: ProvenanceModel
    text: Text
    id: Token | None = None
    scores: Scores | None = None


class RejectionModel(_FormatModel):
    """One line of the file of rejected completions."""

    class_: Annotated[Token, Field(alias="class")]
    reason: Token
    provenance: ProvenanceModel
    text: Annotated[str, StringConstraints(max_length=MAX_REJECTED_TEXT)]
    detail: Annotated[str, StringConstraints(max_length=MAX_TEXT)] | None = None
    rejected_by: Token | None = None


def header_problem(header: BundleHeader) -> str | None:
    """What is wrong between the fields of a header, each valid alone; None if nothing is."""
    ids = [entry.id for entry in header.label_set_entry.classes]
    counts = header.counts
    if len(set(ids)) != len(ids):
        return f"the class id {_first_repeated(ids)} appears twice in the label set"
    names = [generator.id for generator in header.generators]
    if len(set(names)) != len(names):
        return f"the generator id {_first_repeated(names)} appears twice"
    if counts.classes > len(ids) or counts.classes > counts.records or (counts.records > 0 and counts.classes == 0):
        return (
            f"the counts are impossible: {counts.classes} classes with records among {len(ids)}, in {counts.records} "
            "records"
        )
    if header.label_set_entry.digest != header.label_set.digest:
        return "the digest of the label set is not that of its classes"
    if header.complete and counts.classes != len(ids):
        return f"it is marked complete but describes {counts.classes} of {len(ids)} classes"
    for position, generator in enumerate(header.generators):
        if _holds_credentials(generator.model) or _holds_credentials(generator.parameters):
            return f"generator {position} contains a URL with credentials"
    return None


def _first_repeated(values: Sequence[str]) -> str:
    counts = Counter(values)
    return next(quoted(value) for value in values if counts[value] > 1)


def _holds_credentials(value: Any) -> bool:
    if isinstance(value, str):
        return _CREDENTIALS.search(value) is not None
    if isinstance(value, Mapping):
        return any(_holds_credentials(key) or _holds_credentials(item) for key, item in value.items())
    return isinstance(value, (list, tuple)) and any(_holds_credentials(item) for item in value)


class _Generator(GenerateJsonSchema):
    """What is not given is left out of a bundle, never null, and titles only repeat the keys."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def bundle_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a line: header or record; rejected completions under ``$defs/RejectionModel``."""
    models = [(model, "validation") for model in (BundleHeader, RecordModel, RejectionModel)]
    _, definitions = models_json_schema(models, by_alias=True, schema_generator=_Generator)  # type: ignore[arg-type]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of an abs-descriptions bundle, format version 1",
        "description": "Line 1 is a BundleHeader, every other line a RecordModel. docs/bundle-format.md is normative.",
        "oneOf": [{"$ref": "#/$defs/BundleHeader"}, {"$ref": "#/$defs/RecordModel"}],
        "$defs": definitions["$defs"],
    }
