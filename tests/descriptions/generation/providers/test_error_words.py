"""What a server says in an error, in the forms of real servers; a key is never part of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abs_descriptions.generation.providers.error_words import error_codes, parse_json, redact_words, server_words

KEY = "sk-test-0123456789-very-secret"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "no", "type": "t"}}, "no"),
        ({"error": "no"}, "no"),
        ([{"error": {"code": 400, "message": "no", "status": "INVALID"}}], "no"),
        ({"detail": "no"}, "no"),
        ({"detail": [{"loc": ["body", "seed"], "msg": "extra"}]}, "body.seed: extra"),
        ({"message": {"detail": [{"loc": ["body", "seed"], "msg": "extra"}]}, "object": "error"}, "body.seed: extra"),
        ({"message": "no"}, "no"),
        ({"type": "https://x/y", "title": "Out of credit", "status": 403, "detail": "0 left"}, "Out of credit: 0 left"),
        ({"title": "Bad gateway", "status": 502}, "Bad gateway"),
        ({"errors": [{"message": "one"}, {"message": "two"}]}, "one; two"),
        ({"error": {"message": '{"error": {"message": "inner"}}'}}, "inner"),
        ({"error": {"message": "outer", "metadata": {"raw": "upstream"}}}, "outer (upstream)"),
        ({"error": {"code": "E17", "message": ""}}, "E17"),
        ({"error": None, "message": "no"}, "no"),
        (b"<html><head><title>502 Bad &amp; Gateway</title></head><body>x</body></html>", "502 Bad & Gateway"),
        (b"<!DOCTYPE html><body><p>No <b>way</b></p></body>", "No way"),
        (b"upstream connect error\nreset", "upstream connect error reset"),
        (b'{"error": {"message": "no"}}', "no"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("\x1b[31mred\u202e", "\\x1b[31mred\\u202e"),
        ({}, ""),
        ([], ""),
        (None, ""),
        (b"", ""),
    ],
)  # fmt: skip
def test_the_words_are_found(body: Any, words: str) -> None:
    assert server_words(body) == words


def test_words_are_cut() -> None:
    assert len(server_words({"error": "a" * 10_000})) == 200


@pytest.mark.parametrize(
    "repeated", [KEY, KEY[:15], KEY[8:], f"Bearer {KEY}", f"({KEY[:-3]}***)", KEY.replace("-", "%2D"), f"x{KEY}y"]
)
def test_no_part_of_a_key_is_shown(repeated: str) -> None:
    said = server_words({"error": f"Incorrect key {repeated} for you"}, KEY)
    assert "Incorrect key" in said
    assert not any(KEY[start : start + 8] in said for start in range(len(KEY) - 7))
    assert KEY[8:18] not in said.replace("%2D", "-")


def test_a_key_of_a_few_letters_hides_nothing() -> None:
    assert redact_words("none of them", "none") == "none of them"


def test_codes_are_collected_at_every_depth() -> None:
    body = {"error": {"code": 429, "type": "Quota", "innererror": {"code": "X"}, "details": [{"reason": "API_KEY"}]}}
    assert error_codes(body) == {"429", "quota", "x", "api_key"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_is_read_in_every_encoding_of_it(encoding: str) -> None:
    assert parse_json(json.dumps({"a": "ä"}, ensure_ascii=False).encode(encoding)) == {"a": "ä"}


def test_a_charset_of_the_headers_counts_where_it_is_no_utf() -> None:
    assert parse_json('{"a": "façade"}'.encode("latin-1"), "latin-1") == {"a": "façade"}
    with pytest.raises(ValueError, match="utf-8"):
        parse_json(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match="unknown charset"):
        parse_json(b'{"a": "\xff"}', "klingon")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "detail", "title", "loc", "msg", "errors", "code", "metadata", "raw"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@pytest.mark.fuzz
@given(JSON | st.binary(max_size=200) | st.text("<>/!-hteadscriptbody &;x", max_size=200).map(str.encode))
def test_nothing_raises_and_every_text_is_one_short_line(body: Any) -> None:
    said = server_words(body, KEY)
    assert len(said) <= 200
    assert said.isprintable() or "\u200c" in said or "\u200d" in said
    error_codes(body)


@pytest.mark.fuzz
@pytest.mark.parametrize("text", ["<script>" * 3000, "<!--" + "-" * 20000, "<" * 20000, "<p " * 8000, "{" * 20000])
def test_hostile_pages_take_no_time(text: str) -> None:
    assert len(server_words(text.encode() * 5)) <= 200
