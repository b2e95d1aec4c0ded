"""The answer in a completion of a model that thinks aloud. Pure.

Servers without a reasoning parser send the reasoning in front of the answer, in the marks of the model: ``<think>`` of
DeepSeek, Qwen, GLM and others, ``[THINK]`` of Magistral, the channels of gpt-oss, or plain words. Chat templates often
end with the opening mark, so a completion may have the closing one alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["FinalAnswer", "final_answer"]

_LEFT, _RIGHT = r"(?:<|&lt;|\\<)\s?", r"\s?(?:>|&gt;|\\>)"
_THINKING = (
    r"(?:seed:|antml:|ant_?)?(?:think|thinking|thoughts?|reasoning|reason|reflection|analysis|scratch_?pad|"
    r"(?:inner|internal)_monologue|cot|rationale|planning|plan|thought_process|chain_of_thought|reasoning_content)"
)
_TOKEN = r"(?:begin_of_thought|START_THINKING|inner_prefix|thinking|think|reasoning|start_of_thought)"  # noqa: S105
_END_TOKEN = r"(?:end_of_thought|END_THINKING|inner_suffix|/thinking|/think|/reasoning)"  # noqa: S105

# One of the groups "open" and "close" matches.
_MARK = re.compile(
    rf"(?P<open>{_LEFT}{_THINKING}(?:\s[^<>\n]{{0,100}})?{_RIGHT}|\[THINK(?:ING)?\]|<[|｜]{_TOKEN}[|｜]>|◁think▷|"
    rf"<\|channel>\s?\w*|<details[^<>\n]{{0,60}}reasoning[^<>\n]{{0,100}}>)|"
    rf"(?P<close>{_LEFT}/\s?{_THINKING}{_RIGHT}|\[/THINK(?:ING)?\]|<[|｜]{_END_TOKEN}[|｜]>|◁/think▷|"
    r"<channel\|>|(?:\.\.\.|…)\s?done thinking\.)",
    re.IGNORECASE,
)
_DETAILS_END = re.compile(r"</details\s?>", re.IGNORECASE)

_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<\n]{0,100}(?:<\|constrain\|>[^<\n]{0,50})?<\|message\|>")
_CHANNEL_END = re.compile(r"<\|(?:start|channel|end|return|call)\|>")
# What remains of the channels where a server drops special tokens.
_BARE_ANALYSIS = re.compile(r"(?:assistant\s?)?analysis")
_BARE_START = re.compile(r"(?:assistant\s?)?analysis(?=[A-Z\n])")
_BARE_FINAL = re.compile(r"assistant\s?final")

_ANSWER = re.compile(
    r"<(?P<tag>final[_-]?answer|final|answer|solution|output|response|result)(?:\s[^<>\n]{0,100})?>"
    r"(?P<text>[^<]*(?:<(?!/?(?P=tag)\b)[^<]*)*)(?:</(?P=tag)\s?>|$)|"
    r"<\|(?:begin_of_solution|START_RESPONSE|begin_of_answer)\|>(?P<tokens>[^<]*(?:<(?!\|)[^<]*)*)",
    re.IGNORECASE,
)

# How reasoning without any mark begins.
_ALOUD = re.compile(
    r"[\W_]*(?:(?:okay|ok|alright|hmm+|so|well|right|now|first|got it)\b[,.:!]?\s+){0,3}"
    r"(?:the user\b|user (?:wants|asks|requests)|(?:we|i)(?:['’](?:m|re|ve|ll))? (?:need|must|should|have to|"
    r"want to|are asked|am asked|asked|going to|are given|were asked|being asked|will (?:think|start|need))\b|"
    r"let(?:['’]s| me| us) (?:think|see\b|craft|analy[sz]e|break|start|consider|figure|try|work|produce|recall|go)|"
    r"(?:my )?(?:thinking|thought|reasoning) process|chain[- ]of[- ]thought|"
    r"(?:the|this) (?:question|task|prompt|instruction|request)s? (?:is|asks|says|wants|requires)|"
    r"here(?:['’]s| is) my (?:thought|thinking|reasoning)|"
    r"step (?:1|one)\b|(?:initial |first |rough )?draft\b|"
    r"(?:thinking|reasoning|thoughts?|analysis)(?:\.\.\.|…|[*_]{0,2}\s?:|[*_]{0,2}\n|\s+for (?:a |\d)))",
    re.IGNORECASE,
)
_FINAL_LABEL = re.compile(
    r"^[^\w\n]{0,12}(?:(?:my |the |so,? (?:the |my )?)?(?:final|finished|polished|revised)"
    r"(?: (?:answer|response|output|sentences?|descriptions?|captions?|version|text|list|json|decision|result)s?)?|"
    r"answer|response|output|here(?:['’]s| is) (?:my|the) (?:final )?(?:answer|response|sentence|description))"
    r"[^\w\n:]{0,6}(?::|\n|$)[^\w\n\"“'\[{]{0,6}",
    re.IGNORECASE | re.MULTILINE,
)

# A text without paragraphs that is longer consists of reasoning.
_SHORT = 300


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """A completion without its reasoning.

    Args:
        text: the answer; empty if there is none.
        has_reasoning: the completion contains reasoning. Those who pay for it may want to turn it off.
        is_cut: the reasoning never ends, so the completion has no answer.
    """

    text: str
    has_reasoning: bool = False
    is_cut: bool = False


def final_answer(completion: str, finish_reason: Literal["stop", "length"] = "stop") -> FinalAnswer:
    """Separate the answer of a completion from the reasoning in front of it.

    Args:
        completion: the text of the model.
        finish_reason: "length" if it was cut off.
    """
    answer = _from_channels(completion)
    if answer is None:
        text, has_reasoning, is_open = _outside_of_marks(completion)
        answer = FinalAnswer("" if is_open and not text.strip() else text, has_reasoning, is_open)
        if not has_reasoning:
            answer = _after_thinking_aloud(text, finish_reason) or answer
    wrapped = [match["text"] or match["tokens"] or "" for match in _ANSWER.finditer(answer.text)]
    if any(part.strip() for part in wrapped):
        return FinalAnswer("\n".join(wrapped).strip(), answer.has_reasoning, answer.is_cut)
    return answer


def _from_channels(text: str) -> FinalAnswer | None:
    """The final channel of gpt-oss; None if the text has no channels."""
    channels = list(_CHANNEL.finditer(text))
    if not channels:
        bare = _BARE_ANALYSIS.match(text.lstrip())
        finals = list(_BARE_FINAL.finditer(text))
        if bare is None or not (finals or _BARE_START.match(text.lstrip())):
            return None
        return FinalAnswer(text[finals[-1].end() :].strip() if finals else "", True, not finals)
    final = [channel for channel in channels if channel[1] == "final"]
    if not final:
        return FinalAnswer("", True, True)
    end = _CHANNEL_END.search(text, final[-1].end())
    answer = text[final[-1].end() : end.start() if end else len(text)]
    return FinalAnswer(answer.strip(), len(channels) > len(final), False)


def _outside_of_marks(text: str) -> tuple[str, bool, bool]:
    """The text outside of reasoning, whether there is any, and whether it never ends."""
    kept, start, inside, has_reasoning = list[str](), 0, False, False
    position = 0
    while (mark := _MARK.search(text, position)) is not None:
        position = mark.end()
        if mark["open"] is not None:
            if not inside:
                kept.append(text[start : mark.start()])
                start, inside = mark.end(), True
            if mark["open"].lower().startswith("<details"):
                end = _DETAILS_END.search(text, position)
                position = start = end.end() if end else len(text)
                has_reasoning, inside = True, end is None
            continue
        # Reasoning may mention its own closing mark, and its opening one may be in the chat template.
        if not inside:
            kept.clear()
        # Models that were told not to think leave the marks with nothing in between.
        has_reasoning = has_reasoning or bool(text[start : mark.start()].strip())
        start, inside = mark.end(), False
    if position == 0:
        return text, False, False
    kept.append("" if inside else text[start:])
    return "\n".join(part.strip() for part in kept if part.strip()), has_reasoning or inside, inside


def _after_thinking_aloud(text: str, finish_reason: str) -> FinalAnswer | None:
    """The answer after reasoning that has no marks; None if the text does not begin with reasoning."""
    if _ALOUD.match(text) is None:
        return None
    # The label may be the opening words themselves, and something must follow it.
    end = len(text.rstrip())
    labels = [label.end() for label in _FINAL_LABEL.finditer(text) if label.start() > 0 and label.end() < end]
    if labels:
        return FinalAnswer(text[labels[-1] :].strip(), True)
    paragraphs = [part for part in re.split(r"\n[^\S\n]*\n", text) if part.strip()]
    if len(paragraphs) > 1 and finish_reason == "stop":
        return FinalAnswer(paragraphs[-1].strip(), True)
    if finish_reason == "stop" and len(text) < _SHORT:
        return None  # one remark in front of the answer
    return FinalAnswer("", True, finish_reason == "length")
