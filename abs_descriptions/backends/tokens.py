"""How many tokens a request takes: at most before it is asked, and as far as it is known afterwards. Pure.

Before a request is asked, only its text is known. Two numbers are made of it: one near to what models of today count
in English text, one that no byte-level tokenizer exceeds. A reply has at most ``max_tokens`` tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from abs_descriptions.backends.base import Failure, Message, Outcome, Request, Tokens

__all__ = ["likely_prompt_tokens", "most_prompt_tokens", "most_tokens", "taken_tokens"]

# The marks of a chat template around a message, and those around the conversation.
_LIKELY_MARKS, _MOST_MARKS, _MOST_AROUND = 4, 16, 256


def likely_prompt_tokens(messages: Sequence[Message]) -> int:
    """About how many tokens a conversation has: one for 4 bytes of UTF-8, and 4 a message. For an estimate."""
    return sum(_LIKELY_MARKS + math.ceil(_bytes(one.content) / 4) for one in messages)


def most_prompt_tokens(messages: Sequence[Message]) -> int:
    """More tokens than a conversation can have where a token is at least one byte: one a byte, 16 a message, and 256
    for what a chat template writes by itself. For a limit."""
    return _MOST_AROUND + sum(_MOST_MARKS + _bytes(one.content) for one in messages)


def most_tokens(request: Request) -> Tokens:
    """The most that one attempt at a request can take."""
    return Tokens(most_prompt_tokens(request.messages), request.parameters.max_tokens, unstated=1)


def taken_tokens(request: Request, outcome: Outcome) -> Tokens:
    """What all attempts at a request took; a reply whose tokens are not known counts with the most."""
    if isinstance(outcome, Failure):
        return outcome.lost
    if outcome.prompt_tokens and outcome.completion_tokens:
        return outcome.lost + Tokens(outcome.prompt_tokens, outcome.completion_tokens)
    return outcome.lost + most_tokens(request)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
