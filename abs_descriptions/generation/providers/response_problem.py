"""What is wrong with an answer of a server, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from abs_descriptions.generation.providers.base import (
    NO_ADAPTATION,
    Adaptation,
    Failure,
    FailureScope,
    Request,
    Tokens,
    max_tokens_per_attempt,
)

__all__ = ["ResponseProblem"]


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
        kind, scope, text: as of a ``Failure``.
        words: what the server said, not cut, and the codes that it gave.
        is_starved: the tokens that a reply may have were used up before its first word.
    """

    action: Literal["again", "give up", "stop"]
    reason: str
    wait: float | None = None
    throttled: bool = False
    remedy: str = ""
    status: int = 0
    billed: bool = False
    tokens: Tokens | None = None
    kind: str = ""
    scope: FailureScope = "unknown"
    text: str = ""
    words: str = ""
    is_starved: bool = False

    @property
    def is_outage(self) -> bool:
        """Whether the server gave no answer, or could not deal with any request."""
        return self.status >= 500 or self.kind in ("timeout", "connection")

    def lost(self, request: Request, adaptation: Adaptation = NO_ADAPTATION) -> Tokens:
        """The tokens of the attempt at ``request`` that had this problem; the maximum if they are not known."""
        if not self.billed:
            return Tokens()
        return max_tokens_per_attempt(request, adaptation) if self.tokens is None else self.tokens

    def failure(self, reason: str, lost: Tokens, adaptation: Adaptation = NO_ADAPTATION) -> Failure:
        """The failure of a request that is given up because of this problem."""
        return Failure(reason, lost, self.kind, self.scope, self.text, adaptation)
