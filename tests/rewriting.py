"""What tests of rewriting share: a bundle of three classes, a judge by a rule, and a model that answers about pairs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripted_provider import Script

from abs_core.bundle_scores import Interval, NetGain
from abs_core.confusions import Confusion
from abs_core.descriptions import Description, Descriptions, Provenance
from abs_core.labels import from_names
from abs_descriptions.bundles import Bundle, Generator, write_bundle
from abs_descriptions.generation.providers.base import Outcome, Reply, Request

NAMES = ["crane", "heron", "stork"]


def small_bundle(path: Path, names: Sequence[str] = NAMES, **header: Any) -> Bundle:
    """A bundle of two sentences a class."""
    labels = from_names(list(names), name="birds")
    records = [
        Description(f"A {label.name} has {what}.", class_id=label.id, provenance=Provenance("hand"))
        for label in labels.classes
        for what in ("long grey legs", "a pointed bill")
    ]
    return write_bundle(
        path,
        **{
            "name": "birds",
            "version": "1.0.0",
            "created": "2025-01-31T12:00:00Z",
            "label_set": labels,
            "generators": [Generator(id="hand", backend="hand", model="none", parameters={})],
            "license": "CC0-1.0",
            "records": records,
            **header,
        },
    )


def gain_of(won: int, lost: int, low: float, images: int = 20) -> NetGain:
    return NetGain(won=won, lost=lost, images=images, interval=Interval(low=low, high=100.0))


def added(old: Descriptions, new: Descriptions) -> list[str]:
    """The texts that ``new`` has besides."""
    return [item.text for class_id in new for item in new[class_id][len(old[class_id]) :]]


@dataclass
class ScriptedJudge:
    """A judge whose gains are a rule of the test; remembers what it was asked."""

    pairs: Sequence[Confusion] = (Confusion("crane", "heron", 5, 2), Confusion("stork", "crane", 1, 0))
    rule: Callable[[list[str], str], NetGain] = lambda texts, half: gain_of(len(texts), 0, 1.0)
    has_truth: bool = True
    ids: Mapping[str, Sequence[str]] = field(default_factory=lambda: {"choice": ["a", "b"], "test": ["c", "d"]})
    asked: list[tuple[str, list[list[str]]]] = field(default_factory=list)

    def confusions(self) -> Sequence[Confusion]:
        return self.pairs

    def gains(self, old: Descriptions, new: Sequence[Descriptions], half: Any) -> Sequence[NetGain]:
        texts = [added(old, entry) for entry in new]
        self.asked.append((half, texts))
        return [self.rule(entry, half) for entry in texts]

    def image_ids(self, half: Any) -> Sequence[str]:
        return self.ids[half]

    def facts(self) -> Mapping[str, Any]:
        return {"model": "rule", "method": {"matcher": "rule"}, "seed": 0}


class PairScript(Script):
    """Answers the questions of prompts/pairs/pairs.yaml by a rule of question and sample."""

    def __init__(self, rule: Callable[[str, int], Outcome] | None = None) -> None:
        super().__init__(rule or pair_answer)
        self.requests: list[Request] = []

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Outcome]]:
        for request in requests:
            self.requests.append(request)
            yield request, self.rule(request.messages[-1].content, request.sample)


def pair_text(question: str, sample: int) -> str:
    """A good answer to a question of the set ``pairs``, first or second step."""
    if "What tells" not in question:
        return f"a neck that is drawn in, seen {sample} times\na black crest behind the eye, seen {sample} times"
    first, second = re.findall(r"What tells (.+) from (.+) in a photo", question)[0]
    return f"A {first} has {100 * ord(second[0]) + sample} white spots on its folded wings."


def pair_answer(question: str, sample: int) -> Outcome:
    return Reply(pair_text(question, sample), "stop", 20, 10)
