"""When to ask again: one policy for every backend that talks to a server. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass

from abs_descriptions.generation.providers.response_validation import ValidatedResponse

__all__ = ["RetryPolicy", "RetryState"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a request is asked and how long is waited between.

    Args:
        attempts: at most so many times, not counting those that the server answered with "too many requests".
        first_wait: seconds before the second attempt; each further wait is twice as long, and shortened at random by
            up to a half so that requests do not come in step.
        longest_wait: seconds, of such a wait.
        longest_retry_after: a server that asks to wait longer than this ends the run, which can go on later.
        give_up_after: seconds after which no request is asked again, whatever the server said.
        timeout: seconds for one attempt, from connecting to the last byte.
    """

    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_retry_after: float = 300.0
    give_up_after: float = 900.0
    timeout: float = 180.0

    def cap(self, verdict: ValidatedResponse, host: str) -> ValidatedResponse:
        """``verdict``, or the end of the run where ``host`` asks to wait for too long."""
        if (verdict.wait or 0.0) <= self.longest_retry_after:
            return verdict
        reason = f"{host} asks to wait for {verdict.wait:.0f} s ({verdict.reason})"
        return ValidatedResponse("stop", reason, remedy="Run the same command again later; it goes on from here")


class RetryState:
    """The attempts of one request.

    Args:
        patience: the policy.
        started: when the first attempt began, seconds of any clock.
    """

    def __init__(self, patience: RetryPolicy, started: float) -> None:
        self._patience, self._started = patience, started
        self._wait, self._asked = patience.first_wait, 0

    def wait_after(self, verdict: ValidatedResponse, now: float) -> float | None:
        """Seconds to wait before the next attempt, or None where the patience is spent.

        Args:
            verdict: on the attempt that has just failed.
            now: of the same clock as ``started``.
        """
        patience = self._patience
        self._asked += not verdict.throttled
        spent = self._asked >= patience.attempts or now - self._started > patience.give_up_after
        if spent or verdict.action != "again":
            return None
        if verdict.wait:
            return verdict.wait
        wait, self._wait = self._wait, min(2 * self._wait, patience.longest_wait)
        return wait * random.uniform(0.5, 1.0)

    def reason(self, verdict: ValidatedResponse) -> str:
        """Why there is no reply, with the number of attempts."""
        return f"{verdict.reason} (asked {self._asked} times)" if self._asked > 1 else verdict.reason
