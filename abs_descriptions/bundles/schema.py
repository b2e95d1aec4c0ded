"""docs/bundle.schema.json, made from the models so that it cannot drift. Pure.

A JSON Schema sees one line at a time and no Unicode form, order, digest or count: it is a help for editors and other
languages, not a validator.
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from abs_descriptions.bundles.models import BundleHeader, RecordModel, RejectionModel

__all__ = ["bundle_schema"]


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
