"""Whether a server that has answered before is down: after minutes without an answer, not after hours. Pure."""

from __future__ import annotations

from abs_descriptions.generation.providers.response_problem import ResponseProblem

__all__ = ["ServerHealth"]

# A request that makes a server fail is no outage, nor are two.
_REQUESTS = 3


class ServerHealth:
    """The attempts in vain since the last reply.

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
        return len(self._requests) >= _REQUESTS and self.seconds(now) > self._longest

    def seconds(self, now: float) -> float:
        """How long there has been no answer."""
        return 0.0 if self._began is None else now - self._began
