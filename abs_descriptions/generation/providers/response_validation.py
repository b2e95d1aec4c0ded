"""Response validation: is a server's answer a reply, and if not, is it a reason to retry, give up or stop? Pure.

Works on the attributes of the objects of the openai client, so it does not import the client. Every field of an answer
is checked, because the client builds its objects without validating them.
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
    max_tokens_per_attempt,
    used_tokens,
)

__all__ = [
    "LIST_SCHEMA",
    "ResponseProblem",
    "classify_status",
    "is_quota_code",
    "redact",
    "validate_completion",
    "validate_outcome",
]

#: An object with one list of texts. Only keywords that both OpenAI's strict mode and vLLM support.
LIST_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"descriptions": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 12}},
    "required": ["descriptions"],
    "additionalProperties": False,
}


def validate_outcome(request: Request, outcome: Outcome) -> Outcome:
    """The outcome itself if text was requested; if a list was, its texts, one per line, or a failure."""
    if request.answer == "text" or not isinstance(outcome, Reply):
        return outcome
    try:
        return replace(outcome, text="\n".join(_lines(outcome)))
    except _InvalidListError as error:
        return Failure(str(error), used_tokens(request, outcome))


class _InvalidListError(Exception):
    """Why a reply is not the list that was requested."""


def _lines(reply: Reply) -> list[str]:
    if reply.finish_reason == "length":
        raise _InvalidListError("the list is cut off; it needs more tokens")
    try:
        value = json.loads(reply.text)
    except (ValueError, RecursionError):
        raise _InvalidListError("the reply is not the JSON that was requested") from None
    texts = value.get("descriptions") if isinstance(value, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _InvalidListError("the reply is JSON but not the list that was requested")
    lines = [line for text in texts if (line := " ".join(text.split()))]
    if not lines:
        raise _InvalidListError("the list is empty")
    return lines


# Codes and types of error bodies for which neither waiting nor another request helps.
_QUOTA = frozenset(
    ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "quota_exceeded", "access_terminated")
)

_UNFIT = frozenset(
    ("model_not_found", "invalid_model", "unsupported_parameter", "unsupported_value", "unknown_parameter")
)

# A key of a few letters, as local servers accept, occurs in any text.
_MIN_SECRET = 8

# A larger count is not plausible; JSON numbers may exceed any float, and costs are floats.
_MAX_TOKEN_COUNT = 1 << 40
_RETRIED = frozenset((408, 409, 425, 429))


@dataclass(frozen=True, slots=True)
class ResponseProblem:
    """What is wrong with an answer, and what to do about it.

    Args:
        action: "again" retries, "give up" fails this request, "stop" ends the run.
        reason: short; contains nothing of the request.
        wait: seconds that the server asks to wait, or None.
        throttled: the server reported too many requests.
        remedy: what the user can do, if the run ends.
        status: the HTTP status; 0 if there was none.
        billed: the server may bill for it: it answered with a success, or its answer did not arrive.
        tokens: the tokens that the answer states; None if it states none.
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
        """The tokens of the attempt at ``request`` that had this problem; the maximum if they are not known."""
        if not self.billed:
            return Tokens()
        return max_tokens_per_attempt(request) if self.tokens is None else self.tokens


def validate_completion(answer: Any, secret: str | None = None) -> Reply | ResponseProblem:
    """A reply from a chat completion, or what is wrong with it.

    Args:
        answer: what the client returned.
        secret: the key; it is redacted if the server repeats it.
    """
    result = _validate_choices(answer, secret)
    usage = getattr(answer, "usage", None)
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if isinstance(result, Reply):
        return replace(result, prompt_tokens=prompt or 0, completion_tokens=completion or 0)
    # No prompt is empty, but a completion may be.
    stated = Tokens(prompt, completion) if prompt and completion is not None else None
    return replace(result, billed=True, tokens=stated)


def _validate_choices(answer: Any, secret: str | None) -> Reply | ResponseProblem:
    choices = getattr(answer, "choices", None)
    if not isinstance(choices, list):
        return ResponseProblem("again", "the reply is not a chat completion")
    if not choices:
        return ResponseProblem("again", "the reply has no choices")
    message, finish = getattr(choices[0], "message", None), getattr(choices[0], "finish_reason", None)
    content = getattr(message, "content", None)
    refusal = getattr(message, "refusal", None)
    if finish == "content_filter":
        return ResponseProblem("give up", "the server's content filter blocked the reply")
    if isinstance(refusal, str) and refusal and not content:
        return ResponseProblem("give up", f"the model refused: {printable(redact(refusal, secret), 120)}")
    if not isinstance(content, str) or not content.strip():
        if finish == "length":
            return ResponseProblem("give up", "the reply was cut off before its first word; it needs more tokens")
        return ResponseProblem("again", "the reply is empty")
    if finish not in ("stop", "length"):
        return ResponseProblem("again", f"the reply ended with {printable(str(finish), 40)!r}")
    return Reply(redact(content, secret), finish)


def _count(usage: Any, name: str) -> int | None:
    value = getattr(usage, name, None)
    return value if isinstance(value, int) and 0 <= value <= _MAX_TOKEN_COUNT else None


def redact(text: str, secret: str | None) -> str:
    """``text`` with the secret replaced by asterisks."""
    return text if secret is None or len(secret) < _MIN_SECRET else text.replace(secret, "***")


def classify_status(status: int, headers: Any, body: Any, host: str, secret: str | None = None) -> ResponseProblem:
    """What an HTTP status outside 2xx means.

    Args:
        status: the code.
        headers: mapping with ``get``.
        body: the ``error`` object of the answer, or whatever the server sent instead.
        host: the server, for messages.
        secret: the key; it is redacted if the server repeats it.
    """
    codes = {_text(body, "code"), _text(body, "type")}
    said = _text(body, "message") or _text(body, "detail")
    detail = f": {printable(redact(said, secret), 160)}" if said else ""
    ends = _end_of_run(status, codes, host, detail)
    if ends is not None:
        return ResponseProblem("stop", ends[0], remedy=ends[1], status=status)
    if status in _RETRIED or status >= 500:
        wait = retry_after(headers, datetime.now(UTC))
        return ResponseProblem("again", f"status {status}{detail}", wait, throttled=status == 429, status=status)
    return ResponseProblem("give up", f"status {status}{detail}", status=status)


def _end_of_run(status: int, codes: set[str], host: str, detail: str) -> tuple[str, str] | None:
    """Reason and remedy if neither waiting nor another request helps."""
    if status == 402 or is_quota_code(codes):
        return f"the quota at {host} is exhausted", "Add credit, or use another server"
    if status == 401:
        return f"{host} does not accept the key", "Check the key, and whether it is for this host"
    if status == 403:
        return f"{host} does not permit this{detail}", "Check the key's rights"
    if status == 404:
        return f"{host} has no such model or path{detail}", "Check the model and the base URL"
    if codes & _UNFIT or status == 405:
        return f"{host} cannot take such requests{detail}", "Check the model and its parameters"
    if 300 <= status < 400:
        return f"{host} redirects elsewhere; the key is not sent there", "Give the base URL of the target"
    return None


def is_quota_code(codes: set[str]) -> bool:
    """Whether one of these error codes says that the quota is exhausted."""
    return bool(codes & _QUOTA)


def _text(body: Any, key: str) -> str:
    inner = body.get("error", body) if isinstance(body, dict) else None
    value = inner.get(key) if isinstance(inner, dict) else None
    return value if isinstance(value, str) else ""
