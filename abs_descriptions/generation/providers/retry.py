"""How often a server is asked again, and when it is given up: one policy for every provider. Pure."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from abs_core.errors import UsageError
from abs_descriptions.generation.providers.error_responses import ResponseProblem, resume_remedy

__all__ = ["RetryPolicy", "RetryState", "ServerHealth"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a request is attempted and how long to wait in between.

    Args:
        attempts: the maximum, not counting those that the server answered with "too many requests".
        first_wait: seconds before the second attempt; each further wait is twice as long, and shortened at random by
            up to a half so that requests do not come in step.
        longest_wait: the maximum of such a wait, in seconds.
        longest_retry_after: a server that asks to wait for more seconds than this ends the run, which can be resumed.
        give_up_after: seconds after which no request is attempted again, whatever the server said.
        timeout: seconds for one attempt, from connecting to the last byte.
        longest_outage: seconds without any answer of a server, however often it is asked, after which the run ends.
    """

    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_retry_after: float = 300.0
    give_up_after: float = 900.0
    timeout: float = 300.0
    longest_outage: float = 120.0

    def with_timeout(self, timeout: float | None) -> RetryPolicy:
        """The policy with this timeout, and with time for three attempts; None leaves it as it is.

        Raises:
            UsageError: a timeout that is not a positive finite number.
        """
        if timeout is None:
            return self
        if not (math.isfinite(timeout) and timeout > 0):
            raise UsageError(f"the timeout must be a number above 0, got '{timeout:g}'", remedy="Give it in seconds")
        return replace(self, timeout=timeout, give_up_after=max(self.give_up_after, 3 * timeout))

    def cap(self, problem: ResponseProblem, host: str) -> ResponseProblem:
        """``problem``, or the end of the run if ``host`` asks to wait for too long."""
        if problem.action == "stop" or (problem.wait or 0.0) <= self.longest_retry_after:
            return problem
        reason = f"{host} asks to wait for {problem.wait:.0f} s ({problem.reason})"
        return replace(problem, action="stop", reason=reason, remedy=resume_remedy(problem.wait), scope="run")


class RetryState:
    """The attempts at one request.

    Args:
        policy: the retry policy.
        started: when the first attempt began, in seconds of any clock.
    """

    def __init__(self, policy: RetryPolicy, started: float) -> None:
        self._policy, self._started = policy, started
        self._wait, self._attempts = policy.first_wait, 0

    @property
    def attempts(self) -> int:
        """The number of attempts so far, without those that the server answered with "too many requests"."""
        return self._attempts

    def wait_after(self, problem: ResponseProblem, now: float) -> float | None:
        """Seconds to wait before the next attempt, or None if there is to be none.

        Args:
            problem: of the attempt that has just failed.
            now: of the same clock as ``started``.
        """
        policy = self._policy
        self._attempts += not problem.throttled
        exhausted = self._attempts >= policy.attempts or now - self._started > policy.give_up_after
        if exhausted or problem.action != "again":
            return None
        if problem.wait:
            return problem.wait
        wait, self._wait = self._wait, min(2 * self._wait, policy.longest_wait)
        return wait * random.uniform(0.5, 1.0)

    def reason(self, problem: ResponseProblem) -> str:
        """Why there is no reply, with the number of attempts."""
        return f"{problem.reason} ({self._attempts} attempts)" if self._attempts > 1 else problem.reason


# A request that makes a server fail is no outage, nor are two.
_OUTAGE_REQUESTS = 3


class ServerHealth:
    """Whether a server that has answered before is down: after minutes without an answer, not after hours.

    Args:
        longest_outage: seconds after which a server that gives no answer is given up.
    """

    def __init__(self, longest_outage: float) -> None:
        self._longest = longest_outage
        self._began: float | None = None
        self._requests = set[int]()

    def note_reply(self) -> None:
        """A usable reply has arrived."""
        self._began = None
        self._requests.clear()

    def note_problem(self, problem: ResponseProblem, request: int, began: float) -> None:
        """An attempt was in vain.

        Args:
            problem: what was wrong.
            request: identifies the request.
            began: when the attempt began, in seconds of any clock.
        """
        if problem.is_outage:
            self._began = began if self._began is None else self._began
            self._requests.add(request)
            return
        self._began = None
        self._requests.clear()

    def is_down(self, now: float) -> bool:
        """Whether several requests in a row have got no answer for so long that the server is given up."""
        return len(self._requests) >= _OUTAGE_REQUESTS and self.seconds(now) > self._longest

    def seconds(self, now: float) -> float:
        """How long there has been no answer."""
        return 0.0 if self._began is None else now - self._began
