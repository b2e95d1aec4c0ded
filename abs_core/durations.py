"""Points in time and durations as servers write them in headers and error bodies. Pure."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

__all__ = ["DURATION", "http_date", "seconds_until"]

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNIT = r"(?:milliseconds?|msecs?|ms|[nuµ]s|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)(?![A-Za-zµ])"
#: A duration with units, such as ``6m0s``, ``1.5 seconds`` and ``2 hours, 3 min``; for ``re.IGNORECASE``.
DURATION = rf"(?:\d{{1,15}}(?:\.\d{{1,15}})?\s?{_UNIT},?\s?){{1,6}}"
_DURATION = re.compile(DURATION, re.IGNORECASE)
_PART = re.compile(rf"(\d{{1,15}}(?:\.\d{{1,15}})?)\s?({_UNIT})", re.IGNORECASE)
_ISO_DURATION = re.compile(r"p(?:(\d{1,9})d)?(?:t(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9}(?:\.\d{1,9})?)s)?)?", re.I)
_CLOCK = re.compile(r"(?:(\d{1,4}):)?(\d{1,2}):(\d{2}(?:\.\d{1,9})?)")

# From these numbers on a count of seconds is one since 1970, in seconds, milliseconds, microseconds or nanoseconds. A
# duration of 30 years is none that a server would state.
_EPOCHS = ((1e18, 1e9), (1e15, 1e6), (1e12, 1e3), (1e9, 1.0))
_LONGEST = 400 * 86400.0


def seconds_until(value: Any, now: datetime) -> float | None:
    """The seconds from now to a point in time, or of a duration; None if the value is neither, or more than 400 days.

    Read are numbers of seconds, since 1970 (in any unit) or from now; durations such as ``6m0s``, ``20ms``,
    ``1.5 seconds``, ``PT30S`` and ``0:01:30``; dates of ISO 8601 and of HTTP. What is past gives 0.

    Args:
        value: text, a number, or anything else that JSON has.
        now: with a time zone.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    if isinstance(value, str):
        text = value.strip().strip('"')
        seconds = None if len(text) > 100 else _number(text, now)
        seconds = _duration(text) if seconds is None and len(text) <= 100 else seconds
        if seconds is None and 8 <= len(text) <= 100:
            date = _iso_date(text) or http_date(text)
            seconds = None if date is None else (date - now).total_seconds()
    else:
        seconds = _number(value, now)
    if seconds is None or not math.isfinite(seconds) or seconds > _LONGEST:
        return None
    return max(0.0, seconds)


def http_date(value: str) -> datetime | None:
    """A date as RFC 9110 writes it; None if it is none."""
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _number(value: str | float, now: datetime) -> float | None:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    for least, unit in _EPOCHS:
        if number >= least:
            return number / unit - now.timestamp()
    return number


def _duration(text: str) -> float | None:
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS[_unit(unit)] for number, unit in _PART.findall(text))
    match = _ISO_DURATION.fullmatch(text) or _CLOCK.fullmatch(text)
    if match is None or not any(match.groups()):
        return None
    factors = (86400.0, 3600.0, 60.0, 1.0)[-len(match.groups()) :]
    return sum(float(part or 0) * factor for part, factor in zip(match.groups(), factors, strict=True))


def _unit(name: str) -> str:
    name = name.lower()
    if name in _UNITS:
        return name
    return "ms" if name.startswith(("milli", "ms")) else name[0]


def _iso_date(text: str) -> datetime | None:
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
