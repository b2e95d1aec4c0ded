"""What requests cost: prices per million tokens, and a budget that is not exceeded.

Prices are given by the user; none are built in, because they change and differ from contract to contract.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from abs_core.errors import UnknownNameError, UsageError
from abs_core.files import read_yaml
from abs_core.text import printable, validation_message
from abs_descriptions.generation.providers.base import (
    Adaptation,
    Outcome,
    Request,
    Tokens,
    max_prompt_tokens,
    max_tokens_per_attempt,
    used_tokens,
)

__all__ = ["Budget", "Prices", "read_prices"]

_MILLION = 1_000_000
_UNCHANGED = Adaptation()
_NOTHING = Tokens()


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a model, in any one currency, per million tokens.

    Raises:
        UsageError: a price that is negative or not a finite number.
    """

    prompt: float
    completion: float

    def __post_init__(self) -> None:
        for price in (self.prompt, self.completion):
            if not (math.isfinite(price) and price >= 0):
                raise UsageError(
                    f"the price must be a number of at least 0, got '{price:g}'",
                    remedy="Give the price per million tokens",
                )

    def cost(self, tokens: Tokens) -> float:
        """The cost of the tokens, in the currency of the prices."""
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
        UsageError: the file holds something else.
        UnknownNameError: the model is not in the file; lists those that are.
        StorageError: the file cannot be read.
    """
    shown = f"the price file {printable(str(path), 200)!r}"
    try:
        prices = _FILE.validate_python(read_yaml(path, shown, UsageError))
    except ValidationError as error:
        raise UsageError(
            f"{shown}: {validation_message(error)}",
            remedy="Write MODEL: {in: PRICE, out: PRICE} on each line, per million tokens",
        ) from None
    if model not in prices:
        known = [printable(name, 60) for name in sorted(prices)]
        raise UnknownNameError("model in the price file", printable(model, 100), known, remedy="Add it to the file")
    return Prices(prices[model].prompt, prices[model].completion)


@dataclass(slots=True)
class _InFlight:
    """A request in flight: the tokens that its next answer may take, and those of its failed attempts."""

    most: Tokens
    lost: Tokens = _NOTHING


class Budget:
    """A cost limit. Requests in flight count with the maximum that they can cost. Thread-safe.

    The maximum follows from the length of the prompt and the tokens that a reply is allowed. A server may bill more,
    such as reasoning that no limit applies to. So the first request goes alone (``has_bill``), what was billed for it
    sets the maximum of the next ones, and each larger bill raises it. Beyond the tokens that a reply is allowed there
    is no certain maximum: then twice the largest bill counts, and no more requests are in flight than were answered.

    Once it is answered, a request counts with the tokens of all its attempts (``used_tokens``). A request that failed
    although no attempt can have been billed counts with the maximum of one attempt.

    Args:
        prices: of the model.
        limit: the highest cost, in the currency of the prices.

    Raises:
        UsageError: a limit that is not a positive finite number.
    """

    def __init__(self, prices: Prices, limit: float) -> None:
        if not (math.isfinite(limit) and limit > 0):
            raise UsageError(
                f"the cost limit must be a number above 0, got '{limit:g}'", remedy="Give a positive number"
            )
        self.prices, self.limit = prices, limit
        self.has_bill = False
        """Whether it is known what a server bills for an attempt."""
        self._lock = threading.Lock()
        self._spent = 0.0
        self._answered = 0
        # By how much bills exceeded the maximum of a prompt, and the largest one for a reply that exceeded its own.
        self._prompt_excess = self._largest_reply = 0
        self._in_flight: dict[Request, list[_InFlight]] = {}
        self._count, self._reserved = 0, 0.0

    @property
    def spent(self) -> float:
        """The most that the answered requests, and the failed attempts at others, have cost so far."""
        return self._spent

    def max_cost(self, request: Request, adaptation: Adaptation = _UNCHANGED) -> float:
        """The maximum cost of one attempt at a request, by what is known of the server's bills."""
        return self._cost(max_tokens_per_attempt(request, adaptation))

    def fits(self, request: Request, adaptation: Adaptation = _UNCHANGED) -> bool:
        """Whether the budget could pay for a request now."""
        return self._spent + self._reserved + self.max_cost(request, adaptation) <= self.limit

    def reserve(self, request: Request, adaptation: Adaptation = _UNCHANGED) -> bool:
        """Reserve the maximum cost of one attempt at a request; False if that could exceed the limit.

        Args:
            request: what is to be sent.
            adaptation: how requests are changed for the model by now.
        """
        with self._lock:
            if self._largest_reply and self._count >= max(1, self._answered):
                return False
            if not self.fits(request, adaptation):
                return False
            entry = _InFlight(max_tokens_per_attempt(request, adaptation))
            self._in_flight.setdefault(request, []).append(entry)
            self._count += 1
            self._reserved += self._cost(entry.most)
            return True

    def repeat(self, request: Request, lost: Tokens, maximum: Tokens) -> bool:
        """Make the reservation that for one more attempt; False if that could exceed the limit.

        Args:
            request: a request with a reservation.
            lost: tokens of the attempts at it so far.
            maximum: tokens of the next attempt.
        """
        with self._lock:
            entry = self._in_flight[request][-1]
            self._spend(request, entry, lost)
            raised = self._cost(maximum) - self._cost(entry.most)
            if self._spent + self._reserved + raised > self.limit:
                return False
            entry.most = maximum
            self._reserved += raised
            return True

    def settle(self, request: Request, outcome: Outcome) -> None:
        """Replace the reservation of a request by what it has cost."""
        used = used_tokens(request, outcome)
        with self._lock:
            entry = self._in_flight[request].pop()
            if not self._in_flight[request]:
                del self._in_flight[request]
            self._answered += 1
            self._count -= 1
            # Rounding errors of the sums must not count as a request in flight.
            self._reserved = max(0.0, self._reserved - self._cost(entry.most)) if self._count else 0.0
            if used.total:
                self._spend(request, entry, used)
            else:
                self._spent += self._cost(entry.most)

    def _spend(self, request: Request, entry: _InFlight, used: Tokens) -> None:
        """Pay what the attempts at a request have taken since the last time, and learn from it."""
        bill = Tokens(used.prompt - entry.lost.prompt, used.completion - entry.lost.completion)
        entry.lost = used
        self._spent += self.prices.cost(bill)
        if not bill.total:
            return
        self.has_bill = True
        known = self._prompt_excess, self._largest_reply
        self._prompt_excess = max(self._prompt_excess, bill.prompt - max_prompt_tokens(request.messages))
        if bill.completion > entry.most.completion:
            self._largest_reply = max(self._largest_reply, bill.completion)
        if (self._prompt_excess, self._largest_reply) != known:
            entries = (entry for entries in self._in_flight.values() for entry in entries)
            self._reserved = sum(self._cost(entry.most) for entry in entries)

    def _cost(self, most: Tokens) -> float:
        completion = max(most.completion, 2 * self._largest_reply)
        return self.prices.cost(Tokens(most.prompt + self._prompt_excess, completion))
