"""What a server's answer means: a reply, something to ask again, something to give up, or the end of the run. Pure.

Works on the objects of the openai client by their attributes, so that it needs no import of it. Every field of an
answer is checked, because the client builds its objects without validating them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from abs_core.http import retry_after
from abs_core.text import printable
from abs_descriptions.generation.providers.base import (
    Failure,
    Outcome,
    Reply,
    Request,
    Tokens,
    most_tokens,
    taken_tokens,
)

__all__ = ["LIST_SCHEMA", "ValidatedResponse", "checked", "classify_status", "hide", "is_quota", "validate_answer"]


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


# Codes and types of error bodies that no waiting and no other request changes.
_QUOTA = frozenset(
    ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "quota_exceeded", "access_terminated")
)


_UNFIT = frozenset(
    ("model_not_found", "invalid_model", "unsupported_parameter", "unsupported_value", "unknown_parameter")
)


# A key of a few letters, as local servers accept, stands in any text.
_SHORTEST_SECRET = 8


# A count beyond this is none; JSON's numbers may be larger than any float, and costs are floats.
_MOST_TOKENS = 1 << 40


_RETRIED = frozenset((408, 409, 425, 429))


@dataclass(frozen=True, slots=True)
class ValidatedResponse:
    """What to do about an answer that is no reply.

    Args:
        action: "again" asks once more, "give up" fails this request, "stop" ends the run.
        reason: short; holds nothing of the request.
        wait: seconds that the server asks to wait, or None.
        throttled: the server said that there were too many requests.
        remedy: where the run ends, what to do.
        status: the HTTP status that was judged; 0 where there was none.
        billed: the server may bill for it: it answered with a success, or what it answered did not arrive.
        tokens: what the answer states that it took; None where it states nothing.
    """

    action: Literal["again", "give up", "stop"]
    reason: str
    wait: float | None = None
    throttled: bool = False
    remedy: str = ""
    status: int = 0
    billed: bool = False
    tokens: Tokens | None = None

    def lost(self, request: Request) -> Tokens:
        """The tokens of an attempt at ``request`` that was judged so; the most where they are not known."""
        if not self.billed:
            return Tokens()
        return most_tokens(request) if self.tokens is None else self.tokens


def validate_answer(answer: Any, secret: str | None = None) -> Reply | ValidatedResponse:
    """A reply from a chat completion, or what is wrong with it.

    Args:
        answer: what the client returned.
        secret: the key; it is blotted out should the server repeat it.
    """
    judged = _judge_choices(answer, secret)
    usage = getattr(answer, "usage", None)
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if isinstance(judged, Reply):
        return replace(judged, prompt_tokens=prompt or 0, completion_tokens=completion or 0)
    # No prompt is empty, but what was answered may be.
    stated = Tokens(prompt, completion) if prompt and completion is not None else None
    return replace(judged, billed=True, tokens=stated)


def _judge_choices(answer: Any, secret: str | None) -> Reply | ValidatedResponse:
    choices = getattr(answer, "choices", None)
    if not isinstance(choices, list):
        return ValidatedResponse("again", "the reply is no chat completion")
    if not choices:
        return ValidatedResponse("again", "the reply has no choices")
    message, finish = getattr(choices[0], "message", None), getattr(choices[0], "finish_reason", None)
    content = getattr(message, "content", None)
    refusal = getattr(message, "refusal", None)
    if finish == "content_filter":
        return ValidatedResponse("give up", "the server's content filter held the reply back")
    if isinstance(refusal, str) and refusal and not content:
        return ValidatedResponse("give up", f"the model refused: {printable(hide(refusal, secret), 120)}")
    if not isinstance(content, str) or not content.strip():
        if finish == "length":
            return ValidatedResponse("give up", "the reply was cut before its first word; it needs more tokens")
        return ValidatedResponse("again", "the reply is empty")
    if finish not in ("stop", "length"):
        return ValidatedResponse("again", f"the reply ended with {printable(str(finish), 40)!r}")
    return Reply(hide(content, secret), finish)


def _count(usage: Any, name: str) -> int | None:
    value = getattr(usage, name, None)
    return value if isinstance(value, int) and 0 <= value <= _MOST_TOKENS else None


def hide(text: str, secret: str | None) -> str:
    """``text`` with the secret blotted out."""
    return text if secret is None or len(secret) < _SHORTEST_SECRET else text.replace(secret, "***")


def classify_status(status: int, headers: Any, body: Any, host: str, secret: str | None = None) -> ValidatedResponse:
    """What an HTTP status outside 2xx means.

    Args:
        status: the code.
        headers: mapping with ``get``.
        body: the ``error`` object of the answer, or whatever came instead.
        host: the server, for messages.
        secret: the key; it is blotted out should the server repeat it.
    """
    codes = {_text(body, "code"), _text(body, "type")}
    said = _text(body, "message") or _text(body, "detail")
    detail = f": {printable(hide(said, secret), 160)}" if said else ""
    ends = _end_of_run(status, codes, host, detail)
    if ends is not None:
        return ValidatedResponse("stop", ends[0], remedy=ends[1], status=status)
    if status in _RETRIED or status >= 500:
        wait = retry_after(headers, datetime.now(UTC))
        return ValidatedResponse("again", f"status {status}{detail}", wait, throttled=status == 429, status=status)
    return ValidatedResponse("give up", f"status {status}{detail}", status=status)


def _end_of_run(status: int, codes: set[str], host: str, detail: str) -> tuple[str, str] | None:
    """Reason and remedy of what no waiting and no other request changes."""
    if status == 402 or is_quota(codes):
        return f"the quota at {host} is spent", "Add credit, or use another server"
    if status == 401:
        return f"{host} does not accept the key", "Check the key, and whether it is for this host"
    if status == 403:
        return f"{host} does not permit this{detail}", "Check the key's rights"
    if status == 404:
        return f"{host} has no such model or path{detail}", "Check the model and the base URL"
    if codes & _UNFIT or status == 405:
        return f"{host} cannot take such requests{detail}", "Check the model and its parameters"
    if 300 <= status < 400:
        return f"{host} redirects elsewhere; a key is not sent on", "Give the base URL that it redirects to"
    return None


def is_quota(codes: set[str]) -> bool:
    """Whether one of these codes of errors says that the quota is spent."""
    return bool(codes & _QUOTA)


def _text(body: Any, key: str) -> str:
    inner = body.get("error", body) if isinstance(body, dict) else None
    value = inner.get(key) if isinstance(inner, dict) else None
    return value if isinstance(value, str) else ""
