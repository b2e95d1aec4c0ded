"""The review page in a real browser, from a file, as a colleague opens it."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import CHROMIUM, browser

from abs_core.labels import ClassLabel, LabelSet
from abs_descriptions.bundles import Bundle, Description, Generator, Provenance, write_bundle
from abs_descriptions.bundles.review import Review, read_review_file, write_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")

TEXTS = ["=1+1", "'=1+1", '<img src=x onerror="document.title=1">', 'a "quote", a comma; a\ttab', "\x1b[2Jx a\u202eb",
         "A cat has wiskers.", "It barks.", "-2", "été 東京 🐕",
         "A cat;=1+1", "\\x1b", "a \ufe01 cat", "＝1+1"]  # fmt: skip


def make(path: Path) -> Bundle:
    return write_bundle(
        path,
        name="pets",
        version="1.0.0",
        created="2025-01-31T12:00:00Z",
        label_set=LabelSet("pets", (ClassLabel("cat", "cat"), ClassLabel("dog", '"dog" <b>'))),
        generators=[Generator(id="g", backend="local", model="m", parameters={})],
        license="CC0-1.0",
        records=[
            *(Description(text, class_id="cat", provenance=Provenance("g")) for text in TEXTS),
            Description("a wet nose", "phrase", class_id="dog", provenance=Provenance("g")),
        ],
    )


def in_the_browser(folder: Path, bundle: Bundle, *scripts: str) -> Review:
    write_page(bundle, folder / "page.html")
    with browser(folder / "profile") as page:
        page.open((folder / "page.html").as_uri(), folder)
        for script in scripts:
            page.run(script)
        page.run("document.getElementById('save').disabled = false")
        page.run("document.getElementById('save').click()")
        page.wait_for_download()
        assert page.said == []
        assert page.run("document.title") == "Review of pets 1.0.0"
    return read_review_file(folder / "pets-1.0.0-decisions.csv", bundle)


def press(number: int, choice: str) -> str:
    return f"document.querySelectorAll('li')[{number}].querySelector('[data-choice={choice}]').click()"


def enter(number: int, field: str, text: str) -> str:
    return (
        f"{{const field = document.querySelectorAll('li')[{number}].querySelector('{field}');"
        f"field.value = {text!r}; field.dispatchEvent(new Event('input'));}}"
    )


def test_nothing_marked_changes_nothing(tmp_path: Path) -> None:
    review = in_the_browser(tmp_path, make(tmp_path / "pets.jsonl"))
    assert (dict(review.rows), review.undecided) == ({}, len(TEXTS) + 1)


def test_decisions_come_back(tmp_path: Path) -> None:
    bundle = make(tmp_path / "pets.jsonl")
    review = in_the_browser(
        tmp_path,
        bundle,
        press(0, "accept"),
        press(4, "accept"),
        press(5, "edit"),
        enter(5, "textarea", "=A cat\n has whiskers."),
        enter(5, "input", "spelling"),
        press(6, "reject"),
        enter(6, "input", "dogs do"),
        press(7, "edit"),  # and nothing changed
        press(8, "accept"),
        press(8, "accept"),  # taken back
        f"document.querySelectorAll('li')[{len(TEXTS)}].focus()",
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'r', bubbles: true}))",
    )
    assert sorted((row.text, row.decision, row.new_text, row.reason) for row in review.rows.values()) == sorted(
        [
            ("=1+1", "accept", "", ""),
            ("\x1b[2Jx a\u202eb", "accept", "", ""),
            ("A cat has wiskers.", "edit", "=A cat has whiskers.", "spelling"),
            ("It barks.", "reject", "", "dogs do"),
            ("a wet nose", "reject", "", ""),
        ]
    )


def test_decisions_outlive_the_page(tmp_path: Path) -> None:
    bundle = make(tmp_path / "pets.jsonl")
    write_page(bundle, tmp_path / "page.html")
    with browser(tmp_path / "profile") as page:
        page.open((tmp_path / "page.html").as_uri(), tmp_path)
        page.run(press(6, "reject"))
        page.run("remember()")
        page.open((tmp_path / "page.html").as_uri(), tmp_path)
        assert page.run("document.getElementById('count').textContent") == f"1 of {len(TEXTS) + 1} decided"
        assert page.run("document.querySelectorAll('li')[6].dataset.decision") == "reject"
