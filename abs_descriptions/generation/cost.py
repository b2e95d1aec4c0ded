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
from abs_descriptions.generation.providers.base import Outcome, Request, Tokens, max_tokens_per_attempt, used_tokens

__all__ = ["Budget", "Prices", "read_prices"]

_MILLION = 1_000_000


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


class Budget:
    """A cost limit. Requests in flight count with the maximum that they can cost. Thread-safe.

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
        self._lock = threading.Lock()
        self._spent = self._reserved = 0.0
        # The part of ``_spent`` that belongs to requests in flight: what their failed attempts cost.
        self._lost: dict[Request, float] = {}
        # What is reserved for requests in flight whose next attempt has another maximum than their first.
        self._raised: dict[Request, float] = {}

    @property
    def spent(self) -> float:
        """The most that the answered requests have cost so far."""
        return self._spent

    def max_cost(self, request: Request) -> float:
        """The maximum cost of one attempt at a request."""
        return self.prices.cost(max_tokens_per_attempt(request))

    def fits(self, request: Request) -> bool:
        """Whether the budget could pay for a request now."""
        return self._spent + self._reserved + self.max_cost(request) <= self.limit

    def reserve(self, request: Request) -> bool:
        """Reserve the maximum cost of one attempt at a request; False if that could exceed the limit."""
        with self._lock:
            if not self.fits(request):
                return False
            self._reserved += self.max_cost(request)
            return True

    def repeat(self, request: Request, lost: Tokens, maximum: Tokens) -> bool:
        """Make the reservation that for one more attempt; False if that could exceed the limit.

        Args:
            request: a request with a reservation.
            lost: tokens of the attempts at it so far.
            maximum: tokens of the next attempt.
        """
        with self._lock:
            self._spend(request, self.prices.cost(lost))
            raised = self.prices.cost(maximum) - self._reservation(request)
            if self._spent + self._reserved + raised > self.limit:
                return False
            self._reserved += raised
            self._raised[request] = self.prices.cost(maximum)
            return True

    def settle(self, request: Request, outcome: Outcome) -> None:
        """Replace the reservation of a request by what it has cost."""
        used = used_tokens(request, outcome)
        with self._lock:
            # Rounding errors of the sums must not count as a request in flight.
            self._reserved = max(0.0, self._reserved - self._reservation(request))
            self._spend(request, self.prices.cost(used) if used.total else self.max_cost(request))
            self._lost.pop(request, None)
            self._raised.pop(request, None)

    def _reservation(self, request: Request) -> float:
        return self._raised.get(request, self.max_cost(request))

    def _spend(self, request: Request, cost: float) -> None:
        self._spent += cost - self._lost.get(request, 0.0)
        self._lost[request] = cost
