"""People as generators of a bundle: who accepted, edited, rejected or added sentences, or decided a conflict. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pydantic import JsonValue, ValidationError

from abs_core.errors import UsageError
from abs_core.text import quoted, validation_message
from abs_descriptions.bundles.format import Generator

__all__ = ["reviewer_generator"]


def reviewer_generator(name: str, existing: Collection[str], parameters: Mapping[str, JsonValue]) -> Generator:
    """The header's entry of a reviewer, with an id that no other generator has.

    Args:
        name: 1 to 1,000 characters.
        existing: the ids of the other generators.
        parameters: what was decided, and the digest of the file with the decisions.

    Raises:
        UsageError: a name that the header cannot hold.
    """
    identifier, number = "review", 1
    while identifier in existing:
        number += 1
        identifier = f"review-{number}"
    try:
        return Generator(id=identifier, backend="review", model=name, parameters=dict(parameters))
    except ValidationError as error:
        problem = validation_message(error).partition(": ")[2]
        raise UsageError(f"the reviewer's name {quoted(name)} {problem}", remedy="Give the name in one line") from None
