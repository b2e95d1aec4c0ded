"""How many requests a server gets at once: as many as it answers well within the timeout, up to a limit. Pure.

A server that answers one request at a time lets the others wait, and a request that waits longer than the timeout is
sent again although the server is still to answer it. So the first request is sent alone. Its latency, and that of every
later one divided by the number of requests in flight with it, is what a request costs if the server answers them one
after the other; that times the window must stay below half of the timeout. A fast server has a full window after one
reply.

Answers that mean overload (429, 5xx, timeouts, broken connections) halve the window, replies widen it by one for each
window of them (additive increase, multiplicative decrease; Chiu and Jain 1989).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["ConcurrencyWindow", "Flight"]

# The weight of the latest reply in the moving average of costs.
_WEIGHT = 0.3
# The part of the timeout that replies may take on average.
_SHARE = 0.5


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
        affordable = _SHARE * self._timeout / max(self._cost, 1e-9)
        return max(1, int(min(self._limit, self._ceiling, affordable)))

    def send(self, in_flight: int) -> Flight:
        """Note that a request is sent while ``in_flight`` others are."""
        return Flight(self._clock(), in_flight + 1)

    def succeed(self, flight: Flight) -> None:
        """Note that a request was answered with a completion."""
        cost = (self._clock() - flight.sent) / flight.load
        self._cost = cost if self._cost is None else (1 - _WEIGHT) * self._cost + _WEIGHT * cost
        self._ceiling = min(float(self._limit), self._ceiling + 1 / self._ceiling)

    def overload(self, flight: Flight) -> None:
        """Note that a request was not answered because the server has too much to do, or is in trouble.

        Requests that were sent before the last decrease say nothing new.
        """
        if flight.sent > self._decreased:
            self._ceiling = max(1.0, min(self._ceiling, float(self.size)) / 2)
            self._decreased = self._clock()
