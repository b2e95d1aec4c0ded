"""JSON as models write it: whatever is wrong with it, its texts are read."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abs_descriptions.generation.cleaning import CleaningRules, RejectionReason, clean
from abs_descriptions.generation.markup import split_structured
from abs_descriptions.generation.naming import NameMatcher
from abs_descriptions.generation.providers.base import FinishReason


def values(text: str) -> list[str]:
    return [part.text for part in split_structured(text) if part.is_value]


def phrases(text: str, finish: FinishReason = "stop") -> tuple[tuple[str, ...], list[RejectionReason]]:
    cleaned = clean(
        text, finish_reason=finish, matcher=NameMatcher("fox"), name="fox", rules=CleaningRules(kind="phrase")
    )
    return cleaned.accepted, [one.reason for one in cleaned.rejected]


@pytest.mark.parametrize(
    "text",
    [
        '["a bushy tail", "white chin"]',
        '{"descriptions": ["a bushy tail", "white chin"]}',
        '{"descriptions": ["a bushy tail", "white chin",]}',
        "{'descriptions': ['a bushy tail', 'white chin']}",
        '{descriptions: ["a bushy tail", "white chin"]}',
        "{“descriptions”: [“a bushy tail”, “white chin”]}",
        '```json\n{"descriptions": ["a bushy tail", "white chin"]}\n```',
        'Here it is:\n\n```\n["a bushy tail",\n "white chin"]\n```\nLet me know if you need more.',
        'Here it is: ["a bushy tail" "white chin"]',
        '[\n  // features\n  "a bushy tail", // long\n  "white chin"\n]',
        '{"text": "a bushy tail"}\n{"text": "white chin"}',
        '[{"id": 1, "feature": "a bushy tail"}, {"id": 2, "feature": "white chin"}]',
        '{"name": "fox", "body": {"tail": ["a bushy tail"]}, "head": {"chin": "white chin"}, "count": 2, "ok": true}',
        '{"descriptions": ["a bushy tail", "white chin"]',
        'features = [\n    "a bushy tail",\n    "white chin",\n]',
        '{"descriptions": "1. a bushy tail\\n2. white chin"}',
        "- a bushy tail\n- white chin",
        "descriptions:\n  - a bushy tail\n  - 'white chin'",
    ],
)
def test_the_phrases_of_a_list_are_read_in_any_form(text: str) -> None:
    assert phrases(text)[0] == ("a bushy tail", "white chin")


def test_a_text_that_is_cut_in_the_middle_is_cut_off_and_the_others_are_kept() -> None:
    accepted, rejected = phrases('{"descriptions": ["a bushy tail", "white chin", "a pointed', "length")
    assert accepted == ("a bushy tail", "white chin")
    assert rejected == [RejectionReason.CUT_OFF]


def test_what_keys_say_of_no_picture_is_no_phrase() -> None:
    assert phrases('{"class": "fox", "notes": "written by heart", "language": "English"}')[0] == ()
    assert phrases('{"tail": "bushy", "chin": "pointed and white"}')[0] == ("tail: bushy", "pointed and white")


def test_quotes_within_a_text_do_not_end_it() -> None:
    assert values('["a sign that reads "stop" in white", "b"]') == ['a sign that reads "stop" in white', "b"]
    assert values("['a fox's tail', 'b']") == ["a fox's tail", "b"]
    assert values(r'["caf\u00e9 \ud83d\ude00 \"x\""]') == ['café 😀 "x"']


@pytest.mark.fuzz
@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=6), st.booleans())
@settings(max_examples=200)
def test_valid_json_is_read_as_it_is(texts: list[str], is_ascii: bool) -> None:
    text = json.dumps({"descriptions": texts}, ensure_ascii=is_ascii)
    assert values(text) == [one.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for one in texts]


@pytest.mark.fuzz
@given(st.text(alphabet="[]{}\"',:\\ \nabu0/#“”`", max_size=200))
@settings(max_examples=300)
def test_anything_is_read_to_its_end(text: str) -> None:
    for part in split_structured(text):
        assert len(part.text) <= len(text)


@pytest.mark.fuzz
@pytest.mark.parametrize(
    "unit",
    [
        '["',
        "[",
        '{"a":',
        '"',
        "['a'",
        "{",
        "[ ",
        "[{",
        '["\\',
        '{a:"',
        '["a"    ',
        '["a"\n',
        "[x y z ",
        '["a" ,',
        "[//\n",
    ],
)
def test_time_is_linear(unit: str) -> None:
    start = time.process_time()
    for opening in ("", '["'):
        assert sum(1 for _ in split_structured(opening + unit * (200_000 // len(unit)))) > 0
    assert time.process_time() - start < 4
