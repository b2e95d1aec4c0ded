"""What requests cost: prices per million tokens, estimates before they are asked, and a limit that holds.

Prices are the user's; none are built in, because they change and differ from contract to contract.

Before a request is asked, only its text is known. Two numbers are made of it (``likely_prompt_tokens``,
``most_prompt_tokens``): one near to what models of today count in English text, one that no byte-level tokenizer
exceeds. A reply has at most ``max_tokens`` tokens.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from abs_core.errors import UnknownNameError, UsageError
from abs_core.printable import printable
from abs_descriptions.backends.base import Message, Outcome, Reply, Request
from abs_descriptions.yaml_files import read_yaml

__all__ = [
    "Budget",
    "Prices",
    "Tokens",
    "likely_prompt_tokens",
    "most_prompt_tokens",
    "read_prices",
]

_MILLION = 1_000_000
# The marks of a chat template around a message, and those around the conversation.
_LIKELY_MARKS, _MOST_MARKS, _MOST_AROUND = 4, 16, 256


@dataclass(frozen=True, slots=True)
class Tokens:
    """Numbers of tokens: of what was asked and of what was answered."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)

    @property
    def total(self) -> int:
        """Both together."""
        return self.prompt + self.completion


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a model, in any one currency, per million tokens.

    Raises:
        UsageError: a price that is negative or no number.
    """

    prompt: float
    completion: float

    def __post_init__(self) -> None:
        for price in (self.prompt, self.completion):
            if not (math.isfinite(price) and price >= 0):
                raise UsageError(
                    f"the price {price!r} is none", remedy="Give a number of at least 0 per million tokens"
                )

    def cost(self, tokens: Tokens) -> float:
        """What the tokens cost, in the currency of the prices."""
        return (tokens.prompt * self.prompt + tokens.completion * self.completion) / _MILLION


class _Price(BaseModel):
    # Not strict: YAML takes 1e-1 for a string.
    model_config = ConfigDict(extra="forbid")
    prompt: Annotated[float, Field(alias="in", ge=0, allow_inf_nan=False)]
    completion: Annotated[float, Field(alias="out", ge=0, allow_inf_nan=False)]


_FILE = TypeAdapter(dict[str, _Price])


def read_prices(path: Path, model: str) -> Prices:
    """The prices of a model from a YAML or JSON file: ``{MODEL: {in: PRICE, out: PRICE}}``, per million tokens.

    Raises:
        UsageError: a file that holds something else.
        UnknownNameError: the model is not in it; lists those that are.
        StorageError: the file cannot be read.
    """
    shown = f"the price file {printable(str(path), 200)!r}"
    try:
        found = _FILE.validate_python(read_yaml(path, shown, UsageError))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = printable(".".join(str(part) for part in first["loc"]) or "the whole", 100)
        raise UsageError(
            f"{shown}: {place}: {printable(first['msg'], 150)}",
            remedy="Write MODEL: {in: PRICE, out: PRICE} on each line, per million tokens",
        ) from None
    if model not in found:
        known = [printable(name, 60) for name in sorted(found)[:20]]
        raise UnknownNameError("model in the price file", printable(model, 100), known, remedy="Add it to the file")
    return Prices(found[model].prompt, found[model].completion)


def likely_prompt_tokens(messages: Sequence[Message]) -> int:
    """About how many tokens a conversation has: one for 4 bytes of UTF-8, and 4 a message. For an estimate."""
    return sum(_LIKELY_MARKS + math.ceil(_bytes(one.content) / 4) for one in messages)


def most_prompt_tokens(messages: Sequence[Message]) -> int:
    """More tokens than a conversation can have where a token is at least one byte: one a byte, 16 a message, and 256
    for what a chat template writes by itself. For a limit."""
    return _MOST_AROUND + sum(_MOST_MARKS + _bytes(one.content) for one in messages)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


class Budget:
    """A limit of cost that requests under way count for with the most that they can cost. Safe between threads.

    A reply then counts with the tokens that the server reports, or with the most where it reports none. A failed
    request counts with the most: a server may bill for what it answered although it cannot be used.

    Args:
        prices: of the model.
        limit: of the cost, in the currency of the prices.

    Raises:
        UsageError: a limit that is no positive number.
    """

    def __init__(self, prices: Prices, limit: float) -> None:
        if not (math.isfinite(limit) and limit > 0):
            raise UsageError(f"the cost limit {limit!r} is none", remedy="Give a number above 0")
        self.prices, self.limit = prices, limit
        self._lock = threading.Lock()
        self._spent = self._reserved = 0.0

    @property
    def spent(self) -> float:
        """What came back so far has cost at most."""
        return self._spent

    def most(self, request: Request) -> float:
        """The most that a request can cost."""
        return self.prices.cost(Tokens(most_prompt_tokens(request.messages), request.parameters.max_tokens))

    def fits(self, request: Request) -> bool:
        """Whether a request could be paid now."""
        return self._spent + self._reserved + self.most(request) <= self.limit

    def reserve(self, request: Request) -> bool:
        """Set aside the most that a request can cost; False where that could exceed the limit."""
        with self._lock:
            if not self.fits(request):
                return False
            self._reserved += self.most(request)
            return True

    def settle(self, request: Request, outcome: Outcome) -> None:
        """Put what a request has cost in place of what was reserved for it."""
        most = self.most(request)
        paid = most
        if isinstance(outcome, Reply) and outcome.prompt_tokens and outcome.completion_tokens:
            paid = self.prices.cost(Tokens(outcome.prompt_tokens, outcome.completion_tokens))
        with self._lock:
            # Sums of floats leave dust behind, which must not count as a request under way.
            self._reserved = max(0.0, self._reserved - most)
            self._spent += paid
