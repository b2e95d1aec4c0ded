"""Prompt sets: the shipped ones, the placeholders, and every kind of bad file."""

from __future__ import annotations

from pathlib import Path

import pytest

from abs_core.errors import PromptError, UnknownNameError
from abs_descriptions.generation.cleaning import CleaningRules, clean
from abs_descriptions.generation.naming import NameMatcher
from abs_descriptions.generation.prompts import PromptSet, article, read_prompts, shipped_prompt_sets
from abs_descriptions.generation.providers.base import Message

GOOD = """
id: birds
version: 3
description: for a test
domain: bird
system: Be brief.
examples:
  - {name: hoopoe, text: A hoopoe has a crest.}
prompts:
  - {id: look, text: "Say {{really}} what {article} {name}, a {domain}, is."}
"""


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "my prompts.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_conversation_is_system_examples_and_question(tmp_path: Path) -> None:
    prompts = read_prompts(write(tmp_path, GOOD))
    assert prompts.messages(prompts.prompts[0], "{name} of {0}") == (
        Message("system", "Be brief."),
        Message("user", "Say {really} what a hoopoe, a bird, is."),
        Message("assistant", "A hoopoe has a crest."),
        Message("user", "Say {really} what a {name} of {0}, a bird, is."),
    )


def test_the_system_message_is_filled_as_the_question_is(tmp_path: Path) -> None:
    content = GOOD.replace("Be brief.", "'Of {article} {name}, a {domain}, say {{briefly}}.'")
    prompts = read_prompts(write(tmp_path, content))
    for name, note, asked in (
        ("owl", None, "an owl"),
        ("crane", "the bird", "a crane (the bird)"),
        ("{x}", "", "a {x}"),
    ):
        system, *_ = prompts.messages(prompts.prompts[0], name, note)
        assert system == Message("system", f"Of {asked}, a bird, say {{briefly}}.")


@pytest.mark.parametrize(
    ("note", "asked"),
    [
        ("the bird", "a crane (the bird), a bird"),
        ("the bird.", "a crane (the bird), a bird"),
        ("{name}", "a crane ({name}), a bird"),
        (None, "a crane, a bird"),
        ("", "a crane, a bird"),
    ],
)
def test_a_note_follows_the_name_in_the_question_alone(tmp_path: Path, note: str | None, asked: str) -> None:
    prompts = read_prompts(write(tmp_path, GOOD))
    *before, question = prompts.messages(prompts.prompts[0], "crane", note)
    assert question.content == f"Say {{really}} what {asked}, is."
    assert tuple(before) == prompts.messages(prompts.prompts[0], "crane")[:-1]


def test_the_digest_knows_every_word(tmp_path: Path) -> None:
    first = read_prompts(write(tmp_path, GOOD)).digest
    assert read_prompts(write(tmp_path, GOOD + "\n# a remark\n")).digest == first
    for old, new in (("really", "truly"), ("version: 3", "version: 4"), ("a crest", "crests"), ("brief", "short")):
        assert read_prompts(write(tmp_path, GOOD.replace(old, new))).digest != first


@pytest.mark.parametrize("name", shipped_prompt_sets())
def test_every_shipped_set_can_be_read_and_its_examples_would_be_accepted(name: str) -> None:
    prompts = read_prompts(name)
    assert prompts.id == name
    for example in prompts.examples:
        cleaned = clean(
            example.text,
            finish_reason="stop",
            matcher=NameMatcher(example.name),
            name=example.name,
            rules=CleaningRules(kind=prompts.kind, language=prompts.language),
        )
        assert not cleaned.rejected


def test_the_small_and_the_large_set_are_there() -> None:
    assert {"objects", "objects-small"} <= set(shipped_prompt_sets())


BAD: dict[str, tuple[str | bytes, str]] = {
    "unknown placeholder": (GOOD.replace("{name}", "{nmae} {name}"), "prompt 'look': unknown placeholder '{nmae}'"),
    "attribute": (GOOD.replace("{name}", "{name.__class__}"), "unknown placeholder '{name.__class__}'"),
    "index": (GOOD.replace("{name}", "{name[0]}"), "unknown placeholder"),
    "position": (GOOD.replace("{name}", "{}"), "unknown placeholder '{}'"),
    "conversion": (GOOD.replace("{name}", "{name!r}"), "unknown placeholder '{name!r}'"),
    "format": (GOOD.replace("{name}", "{name:>90}"), "unknown placeholder '{name:>90}'"),
    "open brace": (GOOD.replace("{name}", "{name"), "prompt 'look'"),
    "closing brace": (GOOD.replace("{name}", "name}"), "prompt 'look'"),
    "unknown placeholder in system": (GOOD.replace("brief", "{brief}"), "system: unknown placeholder '{brief}'"),
    "open brace in system": (GOOD.replace("brief", "{brief"), "system: "),
    "no domain in system": (
        GOOD.replace("brief", "a '{domain}'").replace("domain: bird\n", ""),
        "system: {domain} is used",
    ),
    "no name": (GOOD.replace("{name}", "it"), "prompt 'look': {name} is missing"),
    "no domain": (GOOD.replace("domain: bird\n", ""), "prompt 'look': {domain} is used"),
    "unknown key": (GOOD + "temperature: 1\n", "temperature"),
    "unknown key in a prompt": (GOOD.replace("{id: look", "{weight: 2, id: look"), "prompts.0.weight"),
    "no prompts": (GOOD.partition("prompts:")[0], "prompts"),
    "empty prompts": (GOOD.partition("prompts:")[0] + "prompts: []", "prompts"),
    "prompt twice": (GOOD + '  - {id: look, text: "{name}?"}\n', "the prompt id 'look' appears twice"),
    "unknown kind": (GOOD + "kind: poem\n", "kind"),
    "unknown language": (GOOD + "language: klingon\n", "language"),
    "bad id": (GOOD.replace("id: birds", "id: ../birds"), "id"),
    "empty": ("", "the whole"),
    "list": ("- a\n", "the whole"),
    "no YAML": ("id: [1\nb: c", "line 2: this is not YAML"),
    "Python object": ("id: !!python/object/apply:os.system [ls]\n", "line 1 uses the YAML tag"),
    "alias bomb": ("a: &a [x, x]\nb: [*a, *a]\n", "aliases"),
    "no UTF-8": (b"id: x\nversion: \xff\n", "line 2: this is not UTF-8"),
    "control character": ("id: \x07\n", "not YAML"),
    "too large": ("# " + "x" * 1_100_000, "bytes"),
    "two documents": (GOOD + "---\na: 1\n", "not YAML"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_error_that_names_it(tmp_path: Path, case: str) -> None:
    content, words = BAD[case]
    path = write(tmp_path, content)
    with pytest.raises(PromptError) as caught:
        read_prompts(path)
    assert words in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_a_missing_prompt_set_is_an_error_that_lists_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="does not exist"):
        read_prompts(tmp_path / "none.yaml")
    with pytest.raises(UnknownNameError, match="objects-small"):
        read_prompts("poems")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("apple", "an"), ("cat", "a"), ("hourglass", "an"), ("unicorn", "a"), ("umbrella", "an"), ("one-eyed cat", "a"),
        ("European robin", "a"), ("user", "a"), ("urn", "an"), ("uninhabited island", "an"), ("猫", "a"),
    ],
)  # fmt: skip
def test_the_article_fits_the_sound(name: str, word: str) -> None:
    assert article(name) == word


def test_a_set_can_be_made_in_memory() -> None:
    prompts = PromptSet(id="p", version=1, description="d", prompts=({"id": "a", "text": "{name}?"},))
    assert prompts.messages(prompts.prompts[0], "cat") == (Message("user", "cat?"),)
