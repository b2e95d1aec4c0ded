"""Answers that are to be a list: the JSON schema that a model is held to, and what is made of its reply. Pure.

Not every server holds a model to a schema, and a reply can be cut, so every reply is checked.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from abs_descriptions.backends.base import Failure, Outcome, Reply, Request

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
    if outcome.finish_reason == "length":
        return Failure("the list was cut off; it needs more tokens")
    try:
        value = json.loads(outcome.text)
    except (ValueError, RecursionError):
        return Failure("the reply is not the JSON that was asked for")
    texts = value.get("descriptions") if isinstance(value, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return Failure("the reply is JSON and not the list that was asked for")
    lines = [" ".join(text.split()) for text in texts]
    if not any(lines):
        return Failure("the list is empty")
    return replace(outcome, text="\n".join(line for line in lines if line))
