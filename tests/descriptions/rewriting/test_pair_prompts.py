"""Prompt sets about pairs of classes: the shipped ones, what is filled in, and broken files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from abs_core.errors import PromptError, UnknownNameError
from abs_core.files import prompts_folder
from abs_descriptions.rewriting.pair_prompts import (
    PairPromptSet,
    default_pair_prompts,
    read_pair_prompts,
    shipped_pair_sets,
)

CONTEXT = {
    "other": "heron (the bird)",
    "other_article": "a",
    "images": "photos of birds",
    "classes": "stork and 3 more",
    "differences": "- a straight neck",
    "examples": "- A crane has long legs.",
}


def steps(prompts: PairPromptSet) -> list[Any]:
    return [prompts.first_step, prompts.second_step("sentence"), prompts.second_step("phrase")]


@pytest.mark.parametrize("name", shipped_pair_sets())
def test_shipped_sets_ask_about_both_classes_and_leave_nothing_open(name: str) -> None:
    prompts = read_pair_prompts(name)
    assert prompts.id == name
    for number, step in enumerate(steps(prompts)):
        assert (step.id, step.version, step.digest) == (prompts.id, prompts.version, prompts.digest)
        for prompt in step.prompts:
            turns = step.messages(prompt, "crane", "the bird", CONTEXT)
            said = "\n".join(turn.content for turn in turns)
            assert "crane (the bird)" in turns[-1].content
            assert "heron (the bird)" in turns[-1].content
            assert ("- a straight neck" if number else "photos of birds") in said
            assert "{" not in said
    assert [step.kind for step in steps(prompts)] == ["phrase", "sentence", "phrase"]


def test_the_small_model_gets_the_set_with_examples() -> None:
    assert default_pair_prompts(is_small=False) == "pairs"
    small = read_pair_prompts(default_pair_prompts(is_small=True))
    turns = small.second_step("sentence").messages(small.sentences.prompts[0], "crane", None, CONTEXT)
    assert [turn.role for turn in turns] == ["user", "assistant"] * 2 + ["user"]
    assert "windmill" in turns[0].content


def test_a_change_of_any_step_changes_the_digest() -> None:
    prompts = read_pair_prompts("pairs")
    changed = prompts.model_copy(update={"phrases": prompts.sentences})
    assert changed.digest != prompts.digest


@pytest.mark.parametrize(
    ("step", "text", "words"),
    [
        ("differences", "What is {name}?", r"\{other\} is missing"),
        ("differences", "{name} or {other}: {differences}?", r"unknown placeholder '\{differences\}'"),
        ("sentences", "{name}, not {other}", r"\{differences\} is missing"),
        ("phrases", "{other} {differences}", r"\{name\} is missing"),
        ("sentences", "{name} {other} {differences} {domain}", "has no domain"),
        ("sentences", "{name} {other} {differences} {", r"brace"),
    ],
)
def test_a_prompt_that_cannot_be_asked_is_named(tmp_path: Path, step: str, text: str, words: str) -> None:
    content = yaml.safe_load((prompts_folder() / "pairs" / "pairs.yaml").read_text(encoding="utf-8"))
    content[step]["prompts"] = [{"id": "mine", "text": text}]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(PromptError, match=f"(?s)mine.*{words}"):
        read_pair_prompts(path)


def test_other_files_and_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "set.yaml").write_text("id: a\nversion: 1\n", encoding="utf-8")
    with pytest.raises(PromptError, match=r"differences, sentences and phrases"):
        read_pair_prompts(tmp_path / "set.yaml")
    with pytest.raises(PromptError, match="does not exist"):
        read_pair_prompts(tmp_path / "none.yaml")
    with pytest.raises(UnknownNameError, match="pairs-small"):
        read_pair_prompts("objects")
