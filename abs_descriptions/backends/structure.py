"""Answers that are to be a list: the JSON schema that a model is held to, and what is made of its reply. Pure.

Not every server holds a model to a schema, and a reply can be cut, so every reply is checked.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from abs_descriptions.backends.base import Failure, Outcome, Reply, Request
from abs_descriptions.backends.tokens import taken_tokens

__all__ = ["LIST_SCHEMA", "checked"]

#: One object with one list of texts. Only keywords that OpenAI's strict mode and vLLM both know.
LIST_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"descriptions": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 12}},
    "required": ["descriptions"],
    "additionalProperties": False,
}


def checked(request: Request, outcome: Outcome) -> Outcome:
    """The outcome as it is where text was asked for; where a list was, its texts one a line, or a failure."""
    if request.answer == "text" or not isinstance(outcome, Reply):
        return outcome
    try:
        return replace(outcome, text="\n".join(_lines(outcome)))
    except _NoListError as fault:
        return Failure(str(fault), taken_tokens(request, outcome))


class _NoListError(Exception):
    """Why a reply is no list."""


def _lines(reply: Reply) -> list[str]:
    if reply.finish_reason == "length":
        raise _NoListError("the list was cut off; it needs more tokens")
    try:
        value = json.loads(reply.text)
    except (ValueError, RecursionError):
        raise _NoListError("the reply is not the JSON that was asked for") from None
    texts = value.get("descriptions") if isinstance(value, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _NoListError("the reply is JSON and not the list that was asked for")
    lines = [line for text in texts if (line := " ".join(text.split()))]
    if not lines:
        raise _NoListError("the list is empty")
    return lines
