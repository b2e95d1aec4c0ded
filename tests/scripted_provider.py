"""Providers that answer by a rule of the test, for the tests of generation."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from abs_descriptions.generation.prompts import PromptSet
from abs_descriptions.generation.providers.base import Adaptation, Outcome, Reply, Request
from abs_descriptions.generation.runner import GenerationResult

PROMPTS = PromptSet(
    id="p",
    version=2,
    description="d",
    prompts=({"id": "one", "text": "One {name}"}, {"id": "two", "text": "Two {name}"}),
)
NAMES = ["cat", "dog", "cow"]


class Script:
    """A provider that answers by a rule of the test, in any order."""

    name = "script"
    model = "rule"
    adaptation = Adaptation()

    def __init__(self, rule: Callable[[str, int], Outcome], order: int = 0) -> None:
        self.rule, self.order, self.asked = rule, order, list[tuple[str, int]]()

    def key(self) -> Mapping[str, Any]:
        return {"backend": "script"}

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Outcome]]:
        shuffled = list(requests)
        random.Random(self.order).shuffle(shuffled)
        for request in shuffled:
            name = request.messages[-1].content.partition(" ")[2]
            self.asked.append((name, request.sample))
            yield request, self.rule(name, request.sample)


def good(name: str, sample: int) -> Outcome:
    return Reply(f"This {name} number {sample} has soft ears and a tail.", "stop", 10, 5)


def fetch(result: GenerationResult) -> dict[str, list[int]]:
    """Class id to the samples of its accepted descriptions."""
    found: dict[str, list[int]] = {line.class_id: [] for line in result.report}
    for one in result.descriptions:
        found[one.class_id].append(one.provenance.sample)
    return found


class Lazy(Script):
    """Takes a request only when so many before it have been answered, as a server's backend does."""

    under_way = 3

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Outcome]]:
        source, waiting = iter(requests), list[Request]()
        while True:
            waiting += list(islice(source, self.under_way - len(waiting)))
            if not waiting:
                return
            request = waiting.pop(0)
            name = request.messages[-1].content.partition(" ")[2]
            self.asked.append((name, request.sample))
            yield request, self.rule(name, request.sample)
