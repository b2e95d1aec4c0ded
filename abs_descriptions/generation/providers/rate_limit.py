"""How much a server is asked at once: rate limits, enforced before it complains, and a window of requests in flight.

Both limits are sliding windows: no 60 seconds contain more than is allowed, wherever they begin. (A token bucket allows
twice as much in its first minute.) The tokens of a request are not known when it is sent, so they are reserved: those
of the prompt as estimated from its bytes, those of the reply as ``max_tokens``. When the reply arrives, the reservation
is corrected to the tokens used, and the estimate of prompts learns from it.

The window is as many requests as the server answers well within the timeout, up to a limit. A server that answers one
request at a time lets the others wait, and a request that waits longer than the timeout is sent again although the
server is still to answer it. So the first request is sent alone. Its latency, and that of every later one divided by
the number of requests in flight with it, is what a request costs if the server answers them one after the other; that
times the window must stay below half of the timeout. A fast server has a full window after one reply. Answers that mean
overload (429, 5xx, timeouts, broken connections) halve the window, replies widen it by one for each window of them
(additive increase, multiplicative decrease; Chiu and Jain 1989).
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

__all__ = ["ConcurrencyWindow", "Flight", "RateLimiter", "RateLimits", "Reservation"]

_MINUTE = 60.0

# The estimate before the first reply: a token has three bytes, as if this many had been observed.
_PRIOR_BYTES, _PRIOR_TOKENS = 300, 100


@dataclass(slots=True, eq=False)
class Reservation:
    """What one attempt takes from a limit: when, how many tokens, and whether it is still in the window."""

    time: float
    amount: int
    counts: bool = True


class _Window:
    """A sliding window of at most ``limit`` per minute; a limit below one allows one in a longer window."""

    def __init__(self, limit: float) -> None:
        self._length = _MINUTE * max(1.0, 1.0 / limit)
        self._limit = max(1, math.floor(limit))
        self._reservations: deque[Reservation] = deque()
        self._used = 0

    def wait(self, now: float, amount: int) -> float:
        """Seconds until ``amount`` fits; an amount over the limit fits into an empty window."""
        while self._reservations and self._reservations[0].time <= now - self._length:
            expired = self._reservations.popleft()
            expired.counts = False
            self._used -= expired.amount
        excess = self._used + min(amount, self._limit) - self._limit
        for reservation in self._reservations:
            if excess <= 0:
                break
            excess -= reservation.amount
            if excess <= 0:
                return reservation.time + self._length - now
        return 0.0

    def add(self, now: float, amount: int) -> Reservation:
        reservation = Reservation(now, min(amount, self._limit))
        self._reservations.append(reservation)
        self._used += reservation.amount
        return reservation

    def correct(self, reservation: Reservation, amount: int) -> None:
        if reservation.counts:
            self._used += amount - reservation.amount
            reservation.amount = amount


class RateLimits:
    """The limits of one server, across all calls of a provider. Thread-safe.

    Args:
        requests_per_minute, tokens_per_minute: None for no limit. Tokens are those of prompts and replies together.
        clock: monotonic seconds.

    Raises:
        UsageError: a limit that is not a positive finite number.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for unit, limit in (("requests", requests_per_minute), ("tokens", tokens_per_minute)):
            if limit is not None and not (limit > 0 and math.isfinite(limit)):
                raise UsageError(
                    f"the {unit} per minute must be a number above 0, got '{limit:g}'", remedy="Give a positive number"
                )
        self._requests = None if requests_per_minute is None else _Window(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else _Window(tokens_per_minute)
        self._clock = clock
        self._lock = threading.Lock()
        self._not_before = -math.inf
        self._observed_bytes, self._observed_tokens = _PRIOR_BYTES, _PRIOR_TOKENS

    def estimate_tokens(self, request: Request) -> int:
        """The tokens to reserve for a request: its prompt as estimated, its reply at its maximum."""
        if self._tokens is None:
            return 0
        return (
            math.ceil(_bytes_of(request) * self._observed_tokens / self._observed_bytes) + request.parameters.max_tokens
        )

    def reserve(self, request: Request) -> Reservation | float:
        """Reserve what the request needs, or return the seconds to wait before the next try."""
        with self._lock:
            now, amount = self._clock(), self.estimate_tokens(request)
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

    def settle(self, reservation: Reservation, request: Request, reply: Reply) -> None:
        """Correct a reservation to the tokens used; without token counts from the server it stays as it is."""
        if self._tokens is None or not reply.prompt_tokens:
            return
        with self._lock:
            self._tokens.correct(reservation, reply.prompt_tokens + reply.completion_tokens)
            self._observed_bytes += _bytes_of(request)
            self._observed_tokens += reply.prompt_tokens

    def throttle(self, seconds: float) -> None:
        """Send nothing for this many seconds, because the server asked for it."""
        with self._lock:
            self._not_before = max(self._not_before, self._clock() + seconds)


def _bytes_of(request: Request) -> int:
    return sum(len(turn.content.encode("utf-8", "replace")) for turn in request.messages)


class RateLimiter:
    """Makes the workers of one event loop wait for the limits, first come, first served.

    Args:
        limits: shared by all rate limiters of a provider.
    """

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._closed = asyncio.Event()

    async def acquire(self, request: Request) -> Reservation | None:
        """Wait until the request may be sent; None if the rate limiter was closed meanwhile."""
        async with self._turn:
            while not self._closed.is_set():
                reserved = self._limits.reserve(request)
                if isinstance(reserved, Reservation):
                    return reserved
                self._changed.clear()
                await _wait(self._changed, reserved)
        return None

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than until the rate limiter is closed."""
        await _wait(self._closed, seconds)

    def settle(self, reservation: Reservation, request: Request, reply: Reply) -> None:
        """See ``RateLimits.settle``; waiting workers try again."""
        self._limits.settle(reservation, request, reply)
        self._changed.set()

    def throttle(self, seconds: float) -> None:
        """See ``RateLimits.throttle``."""
        self._limits.throttle(seconds)

    def close(self) -> None:
        """Let no further request pass and end all waiting."""
        self._closed.set()
        self._changed.set()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


# The weight of the latest reply in the moving average of costs.
_LATEST_WEIGHT = 0.3
# The part of the timeout that replies may take on average.
_TIMEOUT_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Flight:
    """A request that is in flight: when it was sent, and how many were then, itself included."""

    sent: float
    load: int


class ConcurrencyWindow:
    """The number of requests that may be in flight at once. For one thread.

    Args:
        limit: the maximum.
        timeout: seconds after which an attempt is given up.
        clock: monotonic seconds.
    """

    def __init__(self, limit: int, timeout: float, clock: Callable[[], float]) -> None:
        self._limit, self._timeout, self._clock = limit, timeout, clock
        self._ceiling = float(limit)
        self._cost: float | None = None
        self._decreased = -1.0

    @property
    def size(self) -> int:
        """The window: 1 before the first reply."""
        if self._cost is None:
            return 1
        affordable = _TIMEOUT_SHARE * self._timeout / max(self._cost, 1e-9)
        return max(1, int(min(self._limit, self._ceiling, affordable)))

    def send(self, in_flight: int) -> Flight:
        """Note that a request is sent while ``in_flight`` others are."""
        return Flight(self._clock(), in_flight + 1)

    def succeed(self, flight: Flight) -> None:
        """Note that a request was answered with a completion."""
        cost = (self._clock() - flight.sent) / flight.load
        self._cost = cost if self._cost is None else (1 - _LATEST_WEIGHT) * self._cost + _LATEST_WEIGHT * cost
        self._ceiling = min(float(self._limit), self._ceiling + 1 / self._ceiling)

    def overload(self, flight: Flight) -> None:
        """Note that a request was not answered because the server has too much to do, or is in trouble.

        Requests that were sent before the last decrease say nothing new.
        """
        if flight.sent > self._decreased:
            self._ceiling = max(1.0, min(self._ceiling, float(self.size)) / 2)
            self._decreased = self._clock()
