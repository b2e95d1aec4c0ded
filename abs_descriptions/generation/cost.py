"""What requests cost: prices per million tokens, estimates before they are asked, and a limit that holds.

Prices are the user's; none are built in, because they change and differ from contract to contract.
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
from abs_core.text import printable
from abs_descriptions.generation.providers.base import Outcome, Request, Tokens, most_tokens, taken_tokens

__all__ = ["Budget", "Prices", "read_prices"]


_MILLION = 1_000_000


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
        known = [printable(name, 60) for name in sorted(found)]
        raise UnknownNameError("model in the price file", printable(model, 100), known, remedy="Add it to the file")
    return Prices(found[model].prompt, found[model].completion)


class Budget:
    """A limit of cost that requests under way count for with the most that they can cost. Safe between threads.

    A request then counts with what all its attempts took (``taken_tokens``). One that failed although no attempt can
    have been billed counts with the most of one attempt.

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
        # What counts as spent already of requests under way.
        self._lost: dict[Request, float] = {}

    @property
    def spent(self) -> float:
        """What came back so far has cost at most."""
        return self._spent

    def most(self, request: Request) -> float:
        """The most that one attempt at a request can cost."""
        return self.prices.cost(most_tokens(request))

    def fits(self, request: Request) -> bool:
        """Whether a request could be paid now."""
        return self._spent + self._reserved + self.most(request) <= self.limit

    def reserve(self, request: Request) -> bool:
        """Set aside the most that one attempt at a request can cost; False where that could exceed the limit."""
        with self._lock:
            if not self.fits(request):
                return False
            self._reserved += self.most(request)
            return True

    def repeat(self, request: Request, lost: Tokens) -> bool:
        """Keep what was set aside for one more attempt; False where that could exceed the limit.

        Args:
            request: one that was reserved.
            lost: what the attempts at it took so far.
        """
        with self._lock:
            self._spend(request, self.prices.cost(lost))
            return self._spent + self._reserved <= self.limit

    def settle(self, request: Request, outcome: Outcome) -> None:
        """Put what a request has cost in place of what was reserved for it."""
        most, taken = self.most(request), taken_tokens(request, outcome)
        with self._lock:
            # Sums of floats leave dust behind, which must not count as a request under way.
            self._reserved = max(0.0, self._reserved - most)
            self._spend(request, self.prices.cost(taken) if taken.total else most)
            self._lost.pop(request, None)

    def _spend(self, request: Request, cost: float) -> None:
        self._spent += cost - self._lost.get(request, 0.0)
        self._lost[request] = cost
