"""Class names in texts: singular and plural."""

from __future__ import annotations

import pytest

from abs_descriptions.generation.naming import NameMatcher


@pytest.mark.parametrize(
    ("singular", "plural"),
    [
        ("brush", "brushes"),
        ("toothbrush", "toothbrushes"),
        ("starfish", "starfishes"),
        ("goldfish", "goldfish"),
        ("church", "churches"),
        ("fox", "foxes"),
        ("bus", "buses"),
        ("glass", "glasses"),
        ("pony", "ponies"),
        ("wolf", "wolves"),
        ("knife", "knives"),
        ("tomato", "tomatoes"),
        ("ox", "oxen"),
        ("cat", "cats"),
    ],
)
def test_a_name_is_found_in_singular_and_plural_whichever_it_is_in(singular: str, plural: str) -> None:
    for name in (singular, plural):
        matcher = NameMatcher(name)
        for word in (singular, plural):
            assert matcher(f"Two old {word} lie here."), (name, word)
            assert matcher.mask(f"two {word} here") == ["two", "{}", "here"]


@pytest.mark.parametrize(("name", "word"), [("brush", "bru"), ("glass", "glas"), ("gas", "ga"), ("cat", "catsup")])
def test_what_is_no_plural_is_not_found(name: str, word: str) -> None:
    assert not NameMatcher(name)(f"Two old {word} lie here.")
