"""Which parameters of a request a model refuses, in the words of its server, and how requests change for it. Pure.

Reasoning models of OpenAI take no temperature, no top_p and another name for the length of a reply; Claude takes
temperature or top_p; Mistral and others take no seed; some models take no system message. What is refused once is left
out of every further request. A value that is out of range is not a refusal: the user must give another one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from abs_core.text import printable
from abs_descriptions.generation.providers.base import Adaptation, Provider
from abs_descriptions.generation.providers.error_responses import ResponseProblem

__all__ = ["MIN_REASONING_TOKENS", "adapt_to_reasoning", "adapt_to_refusal", "apply_change", "out_of_range"]

#: What a reply may have at least once reasoning has used up fewer tokens.
MIN_REASONING_TOKENS = 1024

_logger = logging.getLogger(__name__)

_STATUSES = frozenset((400, 404, 422, 500, 501))
# The order in which parameters are given up where a server takes one of several.
_OPTIONAL = ("seed", "top_p", "temperature")
_LENGTHS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}

_REFUSAL = re.compile(
    r"unsupported|(?:not|n't|no longer) (?:be )?(?:support|permit|allow|accept|available|recogni[sz]|compatible|work|"
    r"specified)|unknown|unrecogni[sz]ed|unexpected|extra (?:inputs?|fields?)|extra_forbidden|cannot (?:find|both|be)|"
    r"deprecated|does not (?:support|accept|allow|take|have)|only (?:the )?(?:default|1(?:\.0)?\b|\d*\.?\d+ is )|"
    r"\bonly one\b|invalid (?:parameter|argument|field|property|input)|no such (?:parameter|field)|additional propert|"
    r"forbidden|is fixed|must be (?:unset|omitted|removed|1(?:\.0)?\b(?! and| or))|mutually exclusive|remove\b",
    re.IGNORECASE,
)
_RANGE = re.compile(
    r"\bbetween\b|\brange\b|at (?:most|least)|(?:greater|less|larger|smaller|lower|higher) than|too (?:large|high|"
    r"small|low|big|long)|exceed|maximum|minimum|[<>]=?\s*-?\d|[≤≥]|context (?:length|window)|less_than|greater_than",
    re.IGNORECASE,
)
_PROMPT = re.compile(r"\b(?:context|input|prompt|messages?)\b", re.IGNORECASE)
_ALTERNATIVES = re.compile(
    r"\bboth\b|only one|either|same time|together|combin|exclusive|simultaneous|one of", re.IGNORECASE
)
_SYSTEM = re.compile(
    r"system['\"`]? (?:role|message|prompt|instruction)s?\b.{0,60}\b(?:not|unsupported|n't)|(?:not|n't|unsupported)"
    r"\b.{0,40}['\"`]?\bsystem\b|developer instruction is not enabled|roles? must alternate",
    re.IGNORECASE,
)


def adapt_to_refusal(
    adaptation: Adaptation, problem: ResponseProblem, body: Mapping[str, Any], model: str
) -> Adaptation | None:
    """The adaptation with which a model may take the requests; None if the problem is no refusal of a parameter.

    Args:
        adaptation: that of the refused request.
        problem: what the server answered.
        body: what was sent.
        model: its name, which may contain that of a parameter.
    """
    if problem.status not in _STATUSES or problem.scope == "prompt":
        return None
    words = re.sub(rf"(?<![\w-]){re.escape(model)}(?![\w-])", "", problem.words)
    has_system = any(turn["role"] == "system" for turn in body["messages"])
    if has_system and _SYSTEM.search(words):
        return _without(adaptation, ["system"])
    if problem.status in (404, 500) or not _REFUSAL.search(words):
        return None
    named = [name for name in _OPTIONAL if name in body and _mentions(words, name)]
    if len(named) > 1 and _ALTERNATIVES.search(words):
        named = named[:1]
    if named:
        return _without(adaptation, named)
    for name, other in _LENGTHS.items():
        if name in body and (_mentions(words, name) or _mentions(words, other)):
            if _RANGE.search(words) and not _mentions(words, other):
                return None
            if any(other == old for old, _ in adaptation.renamed):
                return None  # it takes neither
            return replace(adaptation, renamed=((name, other),))
    if "response_format" in body and re.search(r"response_format|json_schema|structured[ _]output", words):
        return _without(adaptation, ["response_format"])
    return None


def adapt_to_reasoning(adaptation: Adaptation, max_tokens: int) -> Adaptation | None:
    """The adaptation after a reply whose tokens went to reasoning; None if there were enough of them.

    Args:
        adaptation: that of the request.
        max_tokens: that the reply was allowed.
    """
    if max_tokens >= MIN_REASONING_TOKENS:
        return None
    return replace(adaptation, min_tokens=MIN_REASONING_TOKENS)


def apply_change(provider: Provider, change: Adaptation) -> None:
    """Change all further requests of a provider, and say so."""
    old = provider.adaptation
    provider.adaptation = old.merged_with(change)
    text = _describe(old, provider.adaptation, printable(provider.model, 60))
    if text:
        _logger.info(text)


def out_of_range(problem: ResponseProblem, body: Mapping[str, Any]) -> str | None:
    """The parameter whose value a server does not take; None if the problem is another one."""
    if problem.status not in (400, 422) or problem.scope == "prompt" or not _RANGE.search(problem.words):
        return None
    # What is too long with its prompt fails alone.
    names = _OPTIONAL if _PROMPT.search(problem.words) else (*_OPTIONAL, *_LENGTHS)
    return next((name for name in names if name in body and _mentions(problem.words, name)), None)


def _describe(old: Adaptation, new: Adaptation, model: str) -> str:
    texts = list[str]()
    unsent = [name for name in new.unsent if name not in old.unsent]
    if "system" in unsent:
        unsent.remove("system")
        texts.append(f"{model} does not accept a system message; it goes into the user's message")
    if unsent:
        texts.append(f"{model} does not accept {' or '.join(unsent)}; requests are sent without")
    if new.renamed != old.renamed:
        texts += [f"{model} takes {new_name} instead of {old_name}" for old_name, new_name in new.renamed]
    if new.min_tokens != old.min_tokens:
        texts.append(
            f"the reasoning of {model} used up all tokens of a reply; from now on replies may have {new.min_tokens} "
            "tokens. Turning reasoning off costs less; see --extra-body"
        )
    return "; ".join(texts)


def _without(adaptation: Adaptation, names: list[str]) -> Adaptation | None:
    unsent = tuple(sorted({*adaptation.unsent, *names}))
    return None if unsent == adaptation.unsent else replace(adaptation, unsent=unsent)


def _mentions(words: str, name: str) -> bool:
    return re.search(rf"(?<![\w-]){name}(?![\w-])", words, re.IGNORECASE) is not None
