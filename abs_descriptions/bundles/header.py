"""The first line of a bundle: from text to a checked header, and back. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from abs_core.canonical import canonical_json
from abs_core.printable import printable
from abs_descriptions.bundles.format import FORMAT
from abs_descriptions.bundles.lines import FETCH, LineFault, check_canonical, parse_json
from abs_descriptions.bundles.migrations import MIGRATIONS, Migration, steps_from
from abs_descriptions.bundles.models import BundleHeader, header_fault
from abs_descriptions.references import quoted

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

__all__ = ["parse_header", "spell_header", "validation_message"]


def parse_header(
    line: str, migrations: Mapping[int, Migration] = MIGRATIONS
) -> tuple[BundleHeader, tuple[Migration, ...]]:
    """The header on a line, and the steps that bring the records after it to today's format.

    Raises:
        LineFault: no bundle, an unknown format version, or a header that breaks a rule.
    """
    value = parse_json(line)
    if value.get("format") != FORMAT:
        found = quoted(value["format"]) if isinstance(value.get("format"), str) else "missing"
        raise LineFault(
            f"this is no description bundle (its format is {found}, not '{FORMAT}')", "Name a bundle's .jsonl file"
        )
    steps = steps_from(value.get("format_version"), migrations)
    if steps:
        check_canonical(value, line)
        for step in steps:
            value = step.header(value)
        spelling = canonical_json(value)
    else:
        spelling = line
    header = _validated(spelling)
    if not steps:
        check_canonical(value, line)
    if spell_header(header) != spelling:
        raise LineFault("the header is wrong: null is written; leave the key out", FETCH)
    reason = header_fault(header)
    if reason is not None:
        raise LineFault(f"the header is wrong: {reason}", FETCH)
    return header, steps


def _validated(line: str) -> BundleHeader:
    try:
        return BundleHeader.model_validate_json(line)
    except ValidationError as error:
        # Python's parser, which came first, takes lone surrogates; pydantic's calls them invalid JSON.
        surrogate = error.errors()[0]["type"] == "json_invalid" and _SURROGATE.search(line)
        reason = "a lone surrogate" if surrogate else validation_message(error)
        raise LineFault(f"the header is wrong: {reason}", FETCH) from None


def validation_message(error: ValidationError) -> str:
    """The first complaint of pydantic on one line, with nothing of the input but its keys."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = printable(".".join(str(part)[:60] for part in first["loc"]), 120) or "the whole"
    if first["type"] == "extra_forbidden":
        return f"{where}: an unknown key"
    if first["type"] in ("missing", "too_short"):
        return f"{where}: {'missing' if first['type'] == 'missing' else 'empty'}"
    return f"{where}: {printable(first['msg'].removeprefix('Value error, '), 200)}"


def spell_header(header: BundleHeader) -> str:
    """The canonical JSON of a header.

    Raises:
        ValueError: the parameters of a generator hold a number that is not finite.
    """
    value: dict[str, Any] = header.model_dump(mode="json", exclude_none=True)
    return canonical_json(value)
