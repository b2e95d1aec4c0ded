"""Canonical JSON has one spelling for every value."""

from __future__ import annotations

import pytest

from abs_core.canonical import canonical_json, digest, sha256_bytes


def test_one_spelling() -> None:
    assert canonical_json({"b": [1, 2.5, None, True], "a": "ä"}) == '{"a":"ä","b":[1,2.5,null,true]}'
    assert canonical_json({"e\u0301": "e\u0301"}) == canonical_json({"\u00e9": "\u00e9"})
    assert canonical_json((1, 2)) == canonical_json([1, 2])


def test_digest_is_the_sha256_of_the_text() -> None:
    assert digest({}) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert digest({"a": 1}) == sha256_bytes(b'{"a":1}')
    assert digest({"a": 1}) != digest({"a": 1.0})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"e\u0301": 1, "\u00e9": 2}])
def test_what_has_no_spelling(value: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        canonical_json(value)


@pytest.mark.parametrize("value", [{1: "a"}, {"a": {2}}, b"bytes"])
def test_what_is_no_json(value: object) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)
