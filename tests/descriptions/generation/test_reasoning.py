"""The answer of models that think aloud, in the marks of each family."""

from __future__ import annotations

import time

import pytest

from abs_descriptions.generation.cleaning import CleaningRules, RejectionReason, clean
from abs_descriptions.generation.naming import NameMatcher
from abs_descriptions.generation.reasoning import final_answer

ANSWER = "A rocket is a tall white cylinder with fins."
THOUGHT = "The user wants a rocket. A rocket may be a plant or a machine, so I will describe it.\n\nA rocket has fins."

MARKED = {
    "deepseek, qwen, glm": f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}",
    "opening mark in the template": f"{THOUGHT}\n</think>\n\n{ANSWER}",
    "upper case": f"<THINK>{THOUGHT}</THINK>{ANSWER}",
    "magistral": f"[THINK]{THOUGHT}[/THINK]{ANSWER}",
    "gpt-oss": (
        f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}<|return|>"
    ),
    "gpt-oss with commentary": (
        f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>commentary<|message|>{THOUGHT}<|end|>"
        f"<|start|>assistant<|channel|>final<|constrain|>text<|message|>{ANSWER}"
    ),
    "gpt-oss without its tokens": f"analysisWe need a rocket. {THOUGHT}assistantfinal{ANSWER}",
    "hunyuan": f"<think>\n{THOUGHT}\n</think>\n<answer>\n{ANSWER}\n</answer>",
    "seed-oss": (
        f"<seed:think>{THOUGHT}<seed:cot_budget_reflect>50 left</seed:cot_budget_reflect></seed:think>{ANSWER}"
    ),
    "granite 3.2": f"Here is my thought process:\n{THOUGHT}\n\nHere is my response:\n{ANSWER}",
    "granite 3.3": f"<think>{THOUGHT}</think><response>{ANSWER}</response>",
    "cohere": f"<|START_THINKING|>{THOUGHT}<|END_THINKING|><|START_RESPONSE|>{ANSWER}<|END_RESPONSE|>",
    "skywork": f"<|begin_of_thought|>{THOUGHT}<|end_of_thought|>\n<|begin_of_solution|>{ANSWER}<|end_of_solution|>",
    "exaone": f"<thought>\n{THOUGHT}\n</thought>\n\n{ANSWER}",
    "kimi": f"◁think▷{THOUGHT}◁/think▷{ANSWER}",
    "gemma": f"<|channel>thought\n{THOUGHT}<channel|>{ANSWER}",
    "reflection": f"<thinking>{THOUGHT}</thinking><reflection>{THOUGHT}</reflection><output>{ANSWER}</output>",
    "own words": f"<reasoning>{THOUGHT}</reasoning>\n{ANSWER}",
    "ollama's terminal": f"Thinking...\n{THOUGHT}\n...done thinking.\n\n{ANSWER}",
    "a web interface": (
        f'<details type="reasoning" done="true"><summary>Thought</summary>\n> {THOUGHT}\n</details>\n{ANSWER}'
    ),
    "escaped": f"&lt;think&gt;{THOUGHT}&lt;/think&gt;{ANSWER}",
    "the mark in the thought": f"<think>I must end with </think> and then write.</think>{ANSWER}",
    "twice": f"<think>{THOUGHT}</think><think>{THOUGHT}</think>{ANSWER}",
    "no mark, with a label": f"Okay, the user wants a rocket. {THOUGHT}\n\n**Final answer:** {ANSWER}",
    "no mark, with a heading": f"**Thinking Process:**\n\n1. {THOUGHT}\n\n## Final Answer\n{ANSWER}",
    "no mark, in paragraphs": f"We need one sentence about a rocket. {THOUGHT}\n\n{ANSWER}",
}

UNFINISHED = {
    "think": f"<think>\n{THOUGHT}",
    "magistral": f"[THINK]{THOUGHT}",
    "gpt-oss": f"<|channel|>analysis<|message|>{THOUGHT}",
    "gpt-oss without its tokens": f"analysisWe need a rocket. {THOUGHT}",
    "cohere": f"<|START_THINKING|>{THOUGHT}",
    "details": f'<details type="reasoning" done="false"><summary>Thinking</summary>\n> {THOUGHT}',
}


@pytest.mark.parametrize("form", MARKED)
def test_only_the_answer_is_kept(form: str) -> None:
    cleaned = clean(
        MARKED[form],
        finish_reason="stop",
        matcher=NameMatcher("rocket"),
        name="rocket",
        rules=CleaningRules(),
    )
    assert (cleaned.accepted, cleaned.rejected, cleaned.has_reasoning) == ((ANSWER,), (), True)


@pytest.mark.parametrize("form", MARKED)
def test_phrases_of_the_answer_are_kept(form: str) -> None:
    reply = MARKED[form].replace(ANSWER, "four white fins\na pointed nose")
    cleaned = clean(
        reply, finish_reason="stop", matcher=NameMatcher("rocket"), name="rocket", rules=CleaningRules(kind="phrase")
    )
    assert cleaned.accepted == ("four white fins", "a pointed nose")


@pytest.mark.parametrize("finish", ["stop", "length"])
@pytest.mark.parametrize("form", UNFINISHED)
@pytest.mark.parametrize("kind", ["sentence", "phrase"])
def test_reasoning_without_an_end_is_cut_off(form: str, finish: str, kind: str) -> None:
    cleaned = clean(
        UNFINISHED[form],
        finish_reason=finish,  # type: ignore[arg-type]
        matcher=NameMatcher("rocket"),
        name="rocket",
        rules=CleaningRules(kind=kind),  # type: ignore[arg-type]
    )
    assert cleaned.accepted == ()
    assert [(one.reason, one.detail) for one in cleaned.rejected] == [
        (RejectionReason.CUT_OFF, "reasoning without an answer")
    ]
    assert cleaned.has_reasoning


@pytest.mark.parametrize(
    "text", [ANSWER, f"Sure! {ANSWER}", f"<think>\n\n</think>\n\n{ANSWER}", f"<answer>{ANSWER}</answer>"]
)
def test_what_has_no_reasoning_is_not_said_to_have_any(text: str) -> None:
    answer = final_answer(text)
    assert answer.text.endswith(ANSWER)
    assert (answer.has_reasoning, answer.is_cut) == (False, False)


@pytest.mark.fuzz
@pytest.mark.parametrize(
    "unit",
    ["<think>", "</think>", "<think></think>", "<answer>", "<answer><final>", "</answer>", "[THINK]", "<|channel|>",
     "\n", "<|channel|>final<|message|>", "okay ", "> ", "final answer:\n", "<details reasoning>", "<think ", "*\n\n"],
)  # fmt: skip
def test_time_is_linear(unit: str) -> None:
    start = time.process_time()
    for opening in ("", "Okay, the user wants this.\n"):
        final_answer(opening + unit * (200_000 // len(unit)))
    assert time.process_time() - start < 2
