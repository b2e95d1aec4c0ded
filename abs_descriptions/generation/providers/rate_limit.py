"""Requests and tokens per minute: what a server allows, kept to before it complains.

Both limits are sliding windows: no 60 seconds ever hold more than was allowed, wherever they begin. (A token bucket
allows twice as much in its first minute.) The tokens of a request are not known when it is sent. They are reserved:
the prompt's as estimated from its bytes, the reply's as ``max_tokens``. When the reply is there, the reservation is
corrected to what was really used, and the estimate of prompts learns from it.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from abs_core.errors import UsageError
from abs_descriptions.generation.providers.base import Reply, Request

__all__ = ["RateLimiter", "RateLimits", "Reservation"]


_MINUTE = 60.0


# Before the first reply: a token is three bytes, as if that had been seen on so many bytes.
_PRIOR_BYTES, _PRIOR_TOKENS = 300, 100


@dataclass(slots=True, eq=False)
class Reservation:
    """What one attempt takes of a limit: when, how many tokens, and whether it still counts."""

    time: float
    amount: int
    counts: bool = True


class _Window:
    """A sliding window of at most ``limit`` a minute; a limit below one is one in a longer window."""

    def __init__(self, limit: float) -> None:
        self._length = _MINUTE * max(1.0, 1.0 / limit)
        self._limit = max(1, math.floor(limit))
        self._spent: deque[Reservation] = deque()
        self._used = 0

    def wait(self, now: float, amount: int) -> float:
        """Seconds until ``amount`` fits; one that never would fits into an empty window."""
        while self._spent and self._spent[0].time <= now - self._length:
            gone = self._spent.popleft()
            gone.counts = False
            self._used -= gone.amount
        left = self._used + min(amount, self._limit) - self._limit
        for one in self._spent:
            if left <= 0:
                break
            left -= one.amount
            until = one.time + self._length - now
            if left <= 0:
                return until
        return 0.0

    def add(self, now: float, amount: int) -> Reservation:
        spent = Reservation(now, min(amount, self._limit))
        self._spent.append(spent)
        self._used += spent.amount
        return spent

    def correct(self, spent: Reservation, amount: int) -> None:
        if spent.counts:
            self._used += amount - spent.amount
            spent.amount = amount


class RateLimits:
    """The limits of one server, over all calls of a backend; safe to be used from several threads.

    Args:
        requests_per_minute, tokens_per_minute: None for no limit. Tokens are those of prompts and replies together.
        clock: seconds, never going back.

    Raises:
        UsageError: a limit that is not above zero.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for what, limit in (("requests", requests_per_minute), ("tokens", tokens_per_minute)):
            if limit is not None and not (limit > 0 and math.isfinite(limit)):
                raise UsageError(f"the limit of {what} per minute is not above zero", remedy="Give a larger number")
        self._requests = None if requests_per_minute is None else _Window(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else _Window(tokens_per_minute)
        self._clock = clock
        self._lock = threading.Lock()
        self._not_before = -math.inf
        self._seen_bytes, self._seen_tokens = _PRIOR_BYTES, _PRIOR_TOKENS

    def tokens_of(self, request: Request) -> int:
        """The tokens to reserve for a request: its prompt as estimated, and as many as its reply may have."""
        if self._tokens is None:
            return 0
        return math.ceil(_bytes_of(request) * self._seen_tokens / self._seen_bytes) + request.parameters.max_tokens

    def take(self, request: Request) -> Reservation | float:
        """Take what the request needs, or say in how many seconds to come again."""
        with self._lock:
            now, amount = self._clock(), self.tokens_of(request)
            wait = self._not_before - now
            if self._requests is not None:
                wait = max(wait, self._requests.wait(now, 1))
            if self._tokens is not None:
                wait = max(wait, self._tokens.wait(now, amount))
            if wait > 0:
                return wait
            if self._requests is not None:
                self._requests.add(now, 1)
            return Reservation(now, 0) if self._tokens is None else self._tokens.add(now, amount)

    def settle(self, spent: Reservation, request: Request, reply: Reply) -> None:
        """Correct what was reserved to what was used; a server that counts no tokens leaves it as it is."""
        if self._tokens is None or not reply.prompt_tokens:
            return
        with self._lock:
            self._tokens.correct(spent, reply.prompt_tokens + reply.completion_tokens)
            self._seen_bytes += _bytes_of(request)
            self._seen_tokens += reply.prompt_tokens

    def hold_back(self, seconds: float) -> None:
        """Let nothing pass for so long: the server asked for it."""
        with self._lock:
            self._not_before = max(self._not_before, self._clock() + seconds)


def _bytes_of(request: Request) -> int:
    return sum(len(turn.content.encode("utf-8", "replace")) for turn in request.messages)


class RateLimiter:
    """Where the workers of one event loop wait for the limits, first come, first served.

    Args:
        limits: shared with other gates.
    """

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._closed = asyncio.Event()

    async def enter(self, request: Request) -> Reservation | None:
        """Wait until the request may be sent; None where the gate was closed meanwhile."""
        async with self._turn:
            while not self._closed.is_set():
                taken = self._limits.take(request)
                if isinstance(taken, Reservation):
                    return taken
                self._changed.clear()
                await _wait(self._changed, taken)
        return None

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the closing of the gate."""
        await _wait(self._closed, seconds)

    def settle(self, spent: Reservation, request: Request, reply: Reply) -> None:
        """See ``RateLimits.settle``; who waits looks again."""
        self._limits.settle(spent, request, reply)
        self._changed.set()

    def hold_back(self, seconds: float) -> None:
        """See ``RateLimits.hold_back``."""
        self._limits.hold_back(seconds)

    def close(self) -> None:
        """Let nobody pass any more and end all waiting."""
        self._closed.set()
        self._changed.set()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
