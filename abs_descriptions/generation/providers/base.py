"""The protocol of a backend: requests go in, replies come out as they arrive.

A backend decides how many requests run at once and what is asked again. It knows nothing of classes, files or journals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

from abs_core.canonical import digest
from abs_core.errors import UsageError

__all__ = [
    "AnswerForm",
    "Failure",
    "FinishReason",
    "Message",
    "Outcome",
    "Parameters",
    "Provider",
    "Reply",
    "Request",
    "Tokens",
    "likely_prompt_tokens",
    "most_prompt_tokens",
    "most_tokens",
    "request_digest",
    "taken_tokens",
]


AnswerForm = Literal["text", "list"]


FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Numbers of tokens: of what was asked and of what was answered.

    Args:
        prompt, completion: the numbers.
        unstated: attempts among these whose tokens nobody states; each counts with the most that it can have taken.
    """

    prompt: int = 0
    completion: int = 0
    unstated: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt + other.prompt, self.completion + other.completion, self.unstated + other.unstated)

    @property
    def total(self) -> int:
        """Of prompts and replies together."""
        return self.prompt + self.completion

    def to_dict(self) -> dict[str, int]:
        """As JSON values."""
        return {"prompt_tokens": self.prompt, "completion_tokens": self.completion, "unstated": self.unstated}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Tokens:
        """What ``to_dict`` gave.

        Raises:
            KeyError, OverflowError, TypeError, ValueError: the value is something else.
        """
        return cls(*(int(value[name]) for name in ("prompt_tokens", "completion_tokens", "unstated")))


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Parameters:
    """How a reply is drawn; what is None is left to the model.

    Args:
        max_tokens: at most so many tokens a reply.
        temperature: 0 takes the likeliest token each time.
        top_p: draws from the likeliest tokens that hold this share of the probability (Holtzman et al. 2020).
        seed: two runs with one seed ask for the same draws; which text comes of it depends on model and machine.

    Raises:
        UsageError: a temperature or top_p that is not finite, which no request and no bundle can hold.
    """

    max_tokens: int = 60
    temperature: float | None = 0.8
    top_p: float | None = 0.95
    seed: int | None = 0

    def __post_init__(self) -> None:
        for name, value in (("temperature", self.temperature), ("top_p", self.top_p)):
            if value is not None and not math.isfinite(value):
                raise UsageError(f"the {name} {value} is not finite", remedy="Give a finite number")

    def key(self) -> dict[str, Any]:
        """The parameters as JSON values."""
        return {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
        }


def _always(_: Tokens) -> bool:
    return True


@dataclass(frozen=True)
class Request:
    """One completion that is wanted.

    Args:
        messages: the conversation so far, the last turn is the user's.
        parameters: how to draw.
        sample: counts the completions of one conversation, so that each can be told from the others.
        tag: a number of the caller's own that comes back with the outcome; no part of what is asked.
        answer: "list" where the model is to be held to a JSON list of texts (``structure.LIST_SCHEMA``). A backend that
            cannot hold a model to a schema leaves it at the conversation.
        may_repeat: asked in a thread of the backend's before it asks once more for what a server may bill already,
            with the tokens of the attempts so far. False fails the request. No part of what is asked.
    """

    messages: tuple[Message, ...]
    parameters: Parameters
    sample: int = 0
    tag: int = 0
    answer: AnswerForm = "text"
    may_repeat: Callable[[Tokens], bool] = field(default=_always, compare=False, repr=False)

    @cached_property
    def draw_seed(self) -> int | None:
        """The seed of this very sample, in [0, 2^31): from the seed, the conversation and the sample number alone."""
        if self.parameters.seed is None:
            return None
        content = [[turn.role, turn.content] for turn in self.messages]
        return int(digest([self.parameters.seed, content, self.sample])[-8:], 16) >> 1


@dataclass(frozen=True, slots=True)
class Reply:
    """A completion.

    Args:
        text: not empty.
        finish_reason: "stop" where the model ended it, "length" where ``max_tokens`` cut it.
        prompt_tokens, completion_tokens: as counted by the model's tokenizer; 0 where it is not known.
        lost: tokens of the attempts before this one that a server may bill for, though they gave no reply.
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int = 0
    completion_tokens: int = 0
    lost: Tokens = Tokens()


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that got no usable reply after everything that the backend tries.

    Args:
        reason: short, without any secret.
        lost: tokens of the attempts that a server may bill for.
    """

    reason: str
    lost: Tokens = Tokens()


Outcome = Reply | Failure


class Provider(Protocol):
    """A way to reach a language model."""

    @property
    def name(self) -> str:
        """The name in the registry."""

    @property
    def model(self) -> str:
        """What the user calls the model."""

    def key(self) -> Mapping[str, Any]:
        """Everything but the request that can change a reply, as JSON values and without secrets."""

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Outcome]]:
        """Each request with its outcome, in the order of arrival; closing the iterator stops the work.

        Raises:
            FatalBackendError: asking again cannot mend it.
        """


def request_digest(backend: Mapping[str, Any], request: Request) -> str:
    """``sha256:...`` of a backend's key and all that is asked of it: what a reply is filed under."""
    asked = {
        "backend": dict(backend),
        "messages": [[turn.role, turn.content] for turn in request.messages],
        "parameters": request.parameters.key(),
        "sample": request.sample,
    }
    return digest(asked if request.answer == "text" else {**asked, "answer": request.answer})


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
