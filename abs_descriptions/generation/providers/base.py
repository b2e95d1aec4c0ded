"""The protocol of a provider of language models: requests go in, replies come out as they arrive.

A provider decides how many requests run at once and which are retried. It knows nothing of classes, files or journals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol

from abs_core.canonical import digest
from abs_core.errors import UsageError

__all__ = [
    "NO_ADAPTATION",
    "Adaptation",
    "AnswerForm",
    "Failure",
    "FailureScope",
    "FinishReason",
    "Message",
    "Outcome",
    "Parameters",
    "Provider",
    "Reply",
    "Request",
    "Tokens",
    "estimate_prompt_tokens",
    "max_prompt_tokens",
    "max_tokens_per_attempt",
    "request_digest",
    "used_tokens",
]

AnswerForm = Literal["text", "list"]
FinishReason = Literal["stop", "length"]
#: What a failure concerns: this prompt alone, the whole run, or there is no telling.
FailureScope = Literal["prompt", "run", "unknown"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts of prompts and completions, as they are billed.

    Args:
        prompt, completion: the counts. Completions include the reasoning, also where a server counts it in the total
            alone.
        unstated: attempts whose tokens no answer states; each is counted with the maximum it can have taken.
    """

    prompt: int = 0
    completion: int = 0
    unstated: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt + other.prompt, self.completion + other.completion, self.unstated + other.unstated)

    @property
    def total(self) -> int:
        """Tokens of prompts and completions together."""
        return self.prompt + self.completion

    def to_dict(self) -> dict[str, int]:
        """As JSON values."""
        return {"prompt_tokens": self.prompt, "completion_tokens": self.completion, "unstated": self.unstated}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Tokens:
        """The inverse of ``to_dict``.

        Raises:
            KeyError, OverflowError, TypeError, ValueError: the value has another form.
        """
        return cls(*(int(value[name]) for name in ("prompt_tokens", "completion_tokens", "unstated")))


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Parameters:
    """Sampling parameters; None leaves one to the model.

    Args:
        max_tokens: the maximum length of a reply.
        temperature: 0 always takes the most likely token.
        top_p: samples from the most likely tokens that together have this probability (Holtzman et al. 2020).
        seed: two runs with the same seed send the same requests; the text also depends on model and machine.

    Raises:
        UsageError: a temperature or top_p that is not finite, which neither a request nor a bundle can hold.
    """

    max_tokens: int = 60
    temperature: float | None = 0.8
    top_p: float | None = 0.95
    seed: int | None = 0

    def __post_init__(self) -> None:
        for name, value in (("temperature", self.temperature), ("top_p", self.top_p)):
            if value is not None and not math.isfinite(value):
                raise UsageError(f"the {name} must be a finite number, got '{value}'", remedy="Give another number")

    def key(self) -> dict[str, Any]:
        """The parameters as JSON values."""
        return {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True)
class Adaptation:
    """How requests are changed for a model that does not accept them as they are.

    Args:
        unsent: parameters that the model refuses and that are left out, in alphabetical order: of "response_format",
            "seed", "system", "temperature" and "top_p". A system message goes into that of the user.
        renamed: parameters that it takes under another name: ``(("max_tokens", "max_completion_tokens"),)``.
        min_tokens: the fewest tokens that a reply is allowed, because reasoning used up fewer; 0 for any number.
    """

    unsent: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    min_tokens: int = 0

    def applied_to(self, parameters: Parameters) -> Parameters:
        """The parameters that such a model is really asked with."""
        left_out = {name: None for name in ("temperature", "top_p", "seed") if name in self.unsent}
        return replace(parameters, max_tokens=max(parameters.max_tokens, self.min_tokens), **left_out)

    def merged_with(self, other: Adaptation) -> Adaptation:
        """What both change; where they rename alike, as the other one has it."""
        unsent = tuple(sorted({*self.unsent, *other.unsent}))
        return Adaptation(unsent, other.renamed or self.renamed, max(self.min_tokens, other.min_tokens))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; without what is not changed."""
        value: dict[str, Any] = {}
        if self.unsent:
            value["unsent"] = list(self.unsent)
        if self.renamed:
            value["renamed"] = dict(self.renamed)
        if self.min_tokens:
            value["min_tokens"] = self.min_tokens
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Adaptation:
        """The inverse of ``to_dict``.

        Raises:
            AttributeError, OverflowError, TypeError, ValueError: the value has another form.
        """
        renamed = tuple((str(old), str(new)) for old, new in value.get("renamed", {}).items())
        return cls(tuple(sorted(map(str, value.get("unsent", ())))), renamed, int(value.get("min_tokens", 0)))


#: Of requests that are sent as they are.
NO_ADAPTATION = Adaptation()


def _always(*_: object) -> bool:
    return True


@dataclass(frozen=True)
class Request:
    """A request for one completion.

    Args:
        messages: the conversation so far; the last turn is the user's.
        parameters: sampling parameters.
        sample: number of the completion among those of the same conversation.
        tag: a number of the caller's that comes back with the outcome; not sent.
        answer: "list" to constrain the model to a JSON list of texts (``response_validation.LIST_SCHEMA``). A provider
            that cannot constrain a model sends the conversation alone.
        may_repeat: called in a thread of the provider before another attempt at a request that a server may already
            bill, and before an attempt that may take more than ``max_tokens_per_attempt``; with the tokens of the
            attempts so far and the maximum of the next one. False fails the request. Not sent.
        may_retry: called in a thread of the provider before another attempt at a request after a problem, billed or
            not. False fails the request. Not sent.
    """

    messages: tuple[Message, ...]
    parameters: Parameters
    sample: int = 0
    tag: int = 0
    answer: AnswerForm = "text"
    may_repeat: Callable[[Tokens, Tokens], bool] = field(default=_always, compare=False, repr=False)
    may_retry: Callable[[], bool] = field(default=_always, compare=False, repr=False)

    @cached_property
    def draw_seed(self) -> int | None:
        """The seed of this sample, in [0, 2^31): a function of the seed, the conversation and the sample number."""
        if self.parameters.seed is None:
            return None
        content = [[turn.role, turn.content] for turn in self.messages]
        return int(digest([self.parameters.seed, content, self.sample])[-8:], 16) >> 1


@dataclass(frozen=True, slots=True)
class Reply:
    """A completion.

    Args:
        text: not empty.
        finish_reason: "stop" if the model ended it, "length" if ``max_tokens`` cut it off.
        prompt_tokens, completion_tokens: as billed, see ``Tokens``; 0 if unknown.
        lost: tokens of earlier attempts that a server may bill for although they gave no reply.
        adaptation: how the request was changed for the model.
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int = 0
    completion_tokens: int = 0
    lost: Tokens = Tokens()
    adaptation: Adaptation = NO_ADAPTATION


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that got no usable reply after all attempts.

    Args:
        reason: short, without secrets.
        lost: tokens of the attempts that a server may bill for.
        kind: what went wrong, without the server's words and numbers, such as "status 500" or "empty": requests with
            the same kind fail alike. Empty where it is the reason itself.
        scope: what it concerns. A moderated prompt fails alone, and says nothing about the model or the server.
        text: what the model wrote all the same, such as a list that is not the JSON that was requested.
        adaptation: how the request was changed for the model.
    """

    reason: str
    lost: Tokens = Tokens()
    kind: str = ""
    scope: FailureScope = "unknown"
    text: str = ""
    adaptation: Adaptation = NO_ADAPTATION

    @property
    def signature(self) -> str:
        """What failures that are alike have in common."""
        return self.kind or self.reason


Outcome = Reply | Failure


class Provider(Protocol):
    """A way to reach a language model.

    Attributes:
        adaptation: how requests are changed for the model, as far as is known by now. It may be set to what an earlier
            run learned about the same model. What an outcome has is what its request was sent with.
    """

    adaptation: Adaptation

    @property
    def name(self) -> str:
        """The name in the registry."""

    @property
    def model(self) -> str:
        """The name by which the user calls the model."""

    def key(self) -> Mapping[str, Any]:
        """Everything except the request that can change a reply, as JSON values and without secrets."""

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Outcome]]:
        """Each request with its outcome, in the order of arrival; closing the iterator stops the work.

        Raises:
            FatalProviderError: an error for which a retry is no remedy.
        """


def request_digest(provider: Mapping[str, Any], request: Request) -> str:
    """``sha256:...`` of a provider's key and everything sent to it: what identifies a reply in the journal."""
    asked = {
        "backend": dict(provider),
        "messages": [[turn.role, turn.content] for turn in request.messages],
        "parameters": request.parameters.key(),
        "sample": request.sample,
    }
    return digest(asked if request.answer == "text" else {**asked, "answer": request.answer})


# Tokens that a chat template adds to a message (likely and at most), and to the conversation.
_LIKELY_MARKS, _MAX_MARKS, _MAX_AROUND = 4, 16, 256


def estimate_prompt_tokens(messages: Sequence[Message]) -> int:
    """The likely number of tokens of a conversation: one for 4 bytes of UTF-8, and 4 per message."""
    return sum(_LIKELY_MARKS + math.ceil(_bytes(message.content) / 4) for message in messages)


def max_prompt_tokens(messages: Sequence[Message]) -> int:
    """An upper bound for the tokens of a conversation, as a token has at least one byte: one per byte, 16 per message,
    and 256 for what a chat template adds."""
    return _MAX_AROUND + sum(_MAX_MARKS + _bytes(message.content) for message in messages)


def max_tokens_per_attempt(request: Request, adaptation: Adaptation = NO_ADAPTATION) -> Tokens:
    """The maximum number of tokens of one attempt at a request."""
    completion = max(request.parameters.max_tokens, adaptation.min_tokens)
    return Tokens(max_prompt_tokens(request.messages), completion, unstated=1)


def used_tokens(request: Request, outcome: Outcome) -> Tokens:
    """The tokens of all attempts at a request; a reply without token counts is counted with the maximum."""
    if isinstance(outcome, Failure):
        return outcome.lost
    if outcome.prompt_tokens and outcome.completion_tokens:
        return outcome.lost + Tokens(outcome.prompt_tokens, outcome.completion_tokens)
    return outcome.lost + max_tokens_per_attempt(request, outcome.adaptation)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
