"""What format a file has: by its ending and by its texts, never by a guess."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from abs_core.errors import BundleError, UsageError
from abs_descriptions.bundles.importing import recognized_format

PHRASES = {"cat": ["whiskers", "pointed ears", "a long tail"], "cup": ["a handle", "ceramic body"]}
SENTENCES = {"cat": ["A cat has whiskers.", "It purrs…"], "寿司": ["寿司は四角い。"], "käse": ["Er ist “süß”."]}


def file_of(folder: Path, content: object, name: str = "a.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_descriptors_are_read_as_phrases_and_sentences_as_sentences(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "abs_descriptions")
    chosen, texts = recognized_format(file_of(tmp_path, PHRASES))
    assert (chosen, {text.kind for text in texts}) == ("clip-d", {"phrase"})
    assert caplog.messages == [
        "read as clip-d: 5 of 5 texts look like phrases, 0 like sentences; --format cupl reads them as sentences"
    ]
    chosen, texts = recognized_format(file_of(tmp_path, SENTENCES))
    assert (chosen, {text.kind for text in texts}) == ("cupl", {"sentence"})


@pytest.mark.parametrize(
    "content",
    [
        {"cat": ["A cat has whiskers.", "pointed ears"]},
        {"แมว": ["มีหนวด", "หางยาว"]},
        {"cat": ["Whiskers", "Pointed ears"]},
    ],
)
def test_what_could_be_either_is_asked_about(tmp_path: Path, content: object) -> None:
    with pytest.raises(UsageError, match="could hold sentences or phrases") as caught:
        recognized_format(file_of(tmp_path, content))
    assert caught.value.remedy == "Give --format cupl (sentences) or --format clip-d (phrases)"


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.txt", "cat\twhiskers\ncat\tpointed ears\n"), ("a.csv", "class,text\ncat,whiskers\ncat,pointed ears\n")],
)
def test_phrases_in_a_format_of_sentences_are_asked_about(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(UsageError, match="holds phrases where"):
        recognized_format(file_of(tmp_path, content, name))


def test_a_table_that_states_the_kind_is_not_questioned(tmp_path: Path) -> None:
    content = "class,kind,text\ncat,phrase,whiskers\ncat,phrase,ears\n"
    assert recognized_format(file_of(tmp_path, content, "a.csv"))[0] == "csv"


def test_templates_are_recognized(tmp_path: Path) -> None:
    chosen, texts = recognized_format(file_of(tmp_path, {"pets": {"cat": ["A cat."]}}))
    assert (chosen, [text.label for text in texts]) == ("clip-benchmark", ["cat"])
    with pytest.raises(BundleError, match="2 data sets, one is needed: 'a', 'b'"):
        recognized_format(file_of(tmp_path, {"a": {"cat": ["A cat."]}, "b": {"cat": ["A cat."]}}))


@pytest.mark.parametrize("content", ["version https://git-lfs.github.com/spec/v1\noid", "<!DOCTYPE html>", "[[[", "{}"])
def test_what_is_no_file_of_descriptions_is_one_error(tmp_path: Path, content: str) -> None:
    try:
        chosen, texts = recognized_format(file_of(tmp_path, content))
    except BundleError as error:
        shown = str(error)
    else:
        assert (chosen, texts) == ("cupl", [])
        return
    assert "a.json" in shown
    assert "\n" not in shown
