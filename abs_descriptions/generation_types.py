"""What a generation is told, and what it tells. Pure; ``generation`` is the door."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from abs_descriptions.backends.base import Parameters
from abs_descriptions.bundle import Description, Generator, Rejection
from abs_descriptions.cleaning import Rules
from abs_descriptions.costs import Tokens
from abs_descriptions.drafts import ClassReport

__all__ = ["GenerationResult", "Outlook", "Plan", "Progress", "Stop"]


class Stop(StrEnum):
    """Why a generation ended before every class had enough or had had its tries."""

    INTERRUPT = "interrupted"
    TOLD = "told to stop"
    COST = "cost limit"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is wanted and how it is drawn.

    Args:
        per_class: accepted descriptions that each class is to have.
        tries: a class is asked for at most ``tries * per_class`` samples.
        parameters: of each request.
        rules: of cleaning; kind and language come from the prompt set whatever they say here.
    """

    per_class: int = 20
    tries: int = 4
    parameters: Parameters = field(default_factory=Parameters)
    rules: Rules = field(default_factory=Rules)

    @property
    def limit(self) -> int:
        """Samples that a class may be asked for."""
        return self.per_class * self.tries


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a generation stands.

    Args:
        asked: requests so far, those included that the journal answered.
        done, failed: outcomes so far; ``done`` counts good replies.
        reused: good replies that came from the journal.
        paid: tokens of the requests that were asked, all their attempts together (``costs.taken_tokens``).
        saved: tokens that the journal knows of these and all other requests, as earlier runs paid for them.
        accepted, wanted: descriptions.
    """

    asked: int
    done: int
    failed: int
    reused: int
    paid: Tokens
    saved: Tokens
    accepted: int
    wanted: int


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """What a generation gave, in the order of the label set and of the samples.

    Args:
        generator: the header entry of a bundle that all provenance points to.
        descriptions, rejected: records of a bundle.
        report: one line a class.
        wanted: descriptions a class was to have.
        stop: why it ended early; None where it did not.
        failures: up to ten distinct reasons of failed requests.
    """

    generator: Generator
    descriptions: tuple[Description, ...]
    rejected: tuple[Rejection, ...]
    report: tuple[ClassReport, ...]
    wanted: int
    stop: Stop | None
    failures: tuple[str, ...]

    @property
    def short(self) -> tuple[ClassReport, ...]:
        """The classes that have fewer descriptions than were wanted."""
        return tuple(line for line in self.report if line.accepted < self.wanted)

    @property
    def complete(self) -> bool:
        """It was not stopped, and every class has at least one description."""
        return self.stop is None and all(line.accepted for line in self.report)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a generation would ask, and what the journal answers already.

    Args:
        requests: that are sure to be asked; rejected replies make them more.
        tokens: of these: ``likely_prompt_tokens`` of what is asked, and the most that can be answered.
        most_requests: of all rounds, should every class need all its tries.
        most_tokens: of these; the prompts as long as those of ``requests`` on average.
        reused, saved: good replies that the journal has, and the tokens that earlier runs paid.
        accepted, wanted: descriptions that these give, and descriptions in all.
    """

    requests: int
    tokens: Tokens
    most_requests: int
    most_tokens: Tokens
    reused: int
    saved: Tokens
    accepted: int
    wanted: int
