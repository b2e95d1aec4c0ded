"""When a server that refuses a request wants to be asked again: every form in which servers say so. Pure.

``Retry-After`` comes first, then what the body states (``RetryInfo`` of Google's servers, headers that a gateway
quotes, "try again in 7m12s"), then the ``ratelimit`` headers of OpenAI, Anthropic, OpenRouter, Cerebras and others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from abs_core.durations import DURATION, seconds_until
from abs_core.http import retry_after

__all__ = ["reset_wait"]

_BODY_KEYS = re.compile(
    r"retry[_-]?delay|retry[_-]?after(?:[_-]?(?:ms|seconds?|secs?|s))?|(?:rate[_-]?limit[_-]?)?resets?[_-]?"
    r"(?:at|time|in|after)(?:[_-]?(?:ms|seconds?|secs?|s))?",
    re.IGNORECASE,
)
_SENTENCE = re.compile(
    rf"\b(?:try again|retry|wait|resets?|available again)\b[^.\d]{{0,40}}?(?:\b(?:in|after|for|at|on)\b|:|~)?\s*"
    rf"({DURATION}|\d{{4}}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{{1,9}})?)?(?:Z|[+-]\d\d:?\d\d)?)",
    re.IGNORECASE,
)
_STRUCTURED = re.compile(r"(?:\breset=|;\s*t=)\s*\"?(\d{1,15}(?:\.\d{1,9})?)")

# JSON values that are looked at; what a server nests deeper or lists later is not meant for a client.
_MAX_VALUES, _MAX_DEPTH = 300, 8


def reset_wait(headers: Any, body: Any, words: str, now: datetime) -> float | None:
    """The seconds that a server asks to wait; None if it does not say.

    Args:
        headers: mapping with ``get`` and ``items``, of lower-case names or blind to case.
        body: the JSON of the answer, or anything else.
        words: the text of the error.
        now: with a time zone.
    """
    asked = retry_after(headers, now)
    if asked:
        return asked
    values = list(_values(body))
    waits = [_scaled(name, value, now) for name, value in values if _BODY_KEYS.fullmatch(name)]
    positive = [wait for wait in waits if wait]
    if positive:
        return max(positive)
    sentence = _SENTENCE.search(words[:4000])
    if sentence is not None and (wait := seconds_until(sentence[1], now)):
        return wait
    pairs = [(name, value) for name, value in values if isinstance(value, str)]
    return _from_headers([*headers.items(), *pairs], now) or asked


def _scaled(name: str, value: Any, now: datetime) -> float | None:
    seconds = seconds_until(value, now)
    is_number = isinstance(value, (int, float)) or (isinstance(value, str) and value.replace(".", "", 1).isdigit())
    return seconds / 1000 if seconds and is_number and name.lower().endswith("ms") else seconds


def _from_headers(headers: Iterable[tuple[str, Any]], now: datetime) -> float | None:
    """The longest wait of a limit that is used up; where no header says which one is, the shortest of all."""
    values = {str(name).lower(): str(value) for name, value in headers if "ratelimit" in str(name).lower()}
    used_up, all_waits = list[float](), list[float]()
    for name, value in values.items():
        if name in ("ratelimit", "x-ratelimit"):
            match = _STRUCTURED.search(value)
            seconds = seconds_until(match[1], now) if match else None
        elif "reset" in name:
            seconds = seconds_until(value, now)
        else:
            continue
        if seconds:
            all_waits.append(seconds)
            remaining = values.get(re.sub("resets?(?:-after|-in|-at)?", "remaining", name), "")
            if re.fullmatch(r"0+(\.0+)?", remaining.strip()):
                used_up.append(seconds)
    if used_up:
        return max(used_up)
    return min(all_waits, default=None)


def _values(body: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of a JSON text at every depth, a bounded number of them."""
    pending: list[tuple[Any, int]] = [(body, 0)]
    count = 0
    while pending and count < _MAX_VALUES:
        value, depth = pending.pop(0)
        members: Iterable[tuple[str, Any]] = ()
        if isinstance(value, Mapping):
            members = ((str(name), member) for name, member in value.items())
        elif isinstance(value, list):
            members = (("", member) for member in value)
        for name, member in members:
            count += 1
            if count > _MAX_VALUES:
                return
            if isinstance(member, (Mapping, list)):
                if depth < _MAX_DEPTH:
                    pending.append((member, depth + 1))
            else:
                yield name, member
