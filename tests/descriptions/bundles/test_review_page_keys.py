"""The review page of a bundle by keyboard alone: decisions, where the keyboard goes, undo, and what is saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Page, browser
from review_pages import (
    COUNT,
    CURRENT,
    TOAST,
    decided_rows,
    listed,
    open_page,
    reload_page,
    saved_file,
    type_text,
    write_classes,
)

from abs_descriptions.bundles.review import read_review_file

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")

PETS = {"cat": ["A cat has wiskers.", "It barks.", "It purrs."], "dog": ["a wet nose", "It barks."], "eel": []}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def test_a_whole_review_by_keyboard(page: Page, tmp_path: Path) -> None:
    bundle = write_classes(tmp_path / "whole.jsonl", PETS)
    open_page(page, bundle)
    assert page.run(COUNT) == "0 of 5, 2 classes left"
    page.press("e", "End")
    type_text(page, "!")
    page.press("Enter")
    assert page.run(CURRENT) == "It barks."
    page.press("Shift+R")
    type_text(page, "a dog does")
    page.press("Enter", "Shift+A")  # what is left of the class
    assert page.run(COUNT) == "3 of 5, 1 class left"
    assert page.run(CURRENT) == "a wet nose"
    page.press("a", "r")
    assert page.run(COUNT) == "5 of 5, no class left"
    assert "Every sentence is decided" in page.run(TOAST)
    path = saved_file(page, bundle)
    assert page.said == []
    review = read_review_file(path, bundle)
    assert {(row.text, row.decision, row.new_text, row.reason) for row in review.rows.values()} == {
        ("A cat has wiskers.", "edit", "A cat has wiskers.!", ""),
        ("It barks.", "reject", "", "a dog does"),
        ("It purrs.", "accept", "", ""),
        ("a wet nose", "accept", "", ""),
        ("It barks.", "reject", "", ""),
    }
    assert page.run("document.getElementById('saved').textContent") == "Saved to a file"


def test_a_sentence_is_added_edited_and_removed(page: Page, tmp_path: Path) -> None:
    bundle = write_classes(tmp_path / "added.jsonl", PETS)
    open_page(page, bundle)
    problem = "document.getElementById('adding-problem').textContent"
    page.press("+", "Enter")
    assert page.run(problem) == "The text is empty"
    type_text(page, "It purrs.")
    page.press("Enter")
    assert page.run(problem) == "The class has this text already"
    page.press("Control+a")
    page.call("Input.insertText", text="x" * 4001)
    page.press("Enter")
    assert page.run(problem) == "The text has 4,001 characters; at most 4,000 are allowed"
    page.press("Control+a")
    type_text(page, "  it  has claws ")
    page.press("Enter")
    assert page.run(CURRENT) == "it  has claws"
    assert page.run(COUNT) == "0 of 5, 2 classes left, 1 added"
    page.press("e", "Home")
    type_text(page, "=")
    page.press("Enter", "+", "Shift+Tab")
    type_text(page, "dogs")
    page.press("Enter")  # the class field is the first of the form, which Enter sends
    assert page.run(problem) == "Choose a class of the bundle"
    page.press("Control+a")
    type_text(page, "eel")
    page.press("Tab")
    type_text(page, "It swims.")
    page.press("Enter")
    assert page.run(CURRENT) == "It swims."
    assert decided_rows(saved_file(page, bundle)) == [
        ("cat", "", "add", "'=it  has claws", ""),
        ("eel", "", "add", "It swims.", ""),
    ]
    page.press("r")
    assert page.run(COUNT) == "0 of 5, 2 classes left, 1 added"
    page.press("u")
    assert page.run(CURRENT) == "It swims."
    reload_page(page)
    assert page.run(COUNT) == "0 of 5, 2 classes left, 2 added"


def test_a_text_that_cannot_be_stays_in_its_box(page: Page, tmp_path: Path) -> None:
    bundle = write_classes(tmp_path / "boxes.jsonl", PETS)
    open_page(page, bundle)
    problem = "document.querySelector('article .problem').textContent"
    page.press("e", "Control+a")
    type_text(page, "It barks.")
    assert page.run(problem) == "The class has this text already"
    page.press("Enter")
    page.run("document.getElementById('undo').disabled || document.getElementById('undo').click()")
    assert page.run("document.activeElement.tagName") == "TEXTAREA"
    page.press("Control+a", "a", "Escape")  # leaves, and decides nothing
    assert page.run(COUNT) == "0 of 5, 2 classes left"
    page.press("e")  # what was typed is there again
    assert page.run("document.activeElement.value") == "a"
    page.press("Control+a")
    type_text(page, "A cat has wiskers.")
    page.press("Enter")  # as it was: no decision
    assert page.run(COUNT) == "0 of 5, 2 classes left"
    # two sentences become equal by a way round: the file would be refused, so none is written
    page.press("j", "r", "Home", "e", "Control+a")
    type_text(page, "It barks.")
    page.press("Enter")
    page.run("document.querySelector('[data-show=reject]').click()")
    page.press("a", "Control+s")
    assert "would have the same text" in page.run("document.getElementById('alerts').textContent")
    assert page.run(CURRENT) == "A cat has wiskers."
    assert not list(tmp_path.glob("*.csv"))


def test_a_key_right_after_a_dialog_opens_its_field(page: Page, tmp_path: Path) -> None:
    """A dialog says that it was closed when the next key may have been pressed already."""
    open_page(page, write_classes(tmp_path / "quick.jsonl", PETS))
    page.press("?")
    page.run(
        "const dialog = document.getElementById('keys');"
        "dialog.addEventListener('close', () => (window.isClosed = true));"
        "dialog.close();"
        "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'e', bubbles: true, cancelable: true}))"
    )
    page.wait_for("window.isClosed")
    assert page.run("document.activeElement.tagName") == "TEXTAREA"


def test_undo_and_redo(page: Page, tmp_path: Path) -> None:
    bundle = write_classes(tmp_path / "undone.jsonl", PETS)
    open_page(page, bundle)
    page.press("a", "Shift+A", "r")
    assert page.run(COUNT) == "4 of 5, 1 class left"
    page.press("u", "u")
    assert page.run(COUNT) == "1 of 5, 2 classes left"
    page.press("Shift+U")
    assert page.run(COUNT) == "3 of 5, 1 class left"
    page.press("Control+z", "Control+z", "u")
    assert page.run(COUNT) == "0 of 5, 2 classes left"
    assert page.run(TOAST) == "There is nothing to undo"
    page.press("+")
    type_text(page, "More.")
    page.press("Enter", "Shift+J", "r", "?", "Shift+Tab", "Enter")  # clears all
    assert page.run(TOAST) == "Cleared 2 decisions · u takes it back"
    assert page.run(COUNT) == "0 of 5, 2 classes left"
    page.press("u")
    assert page.run(COUNT) == "1 of 5, 2 classes left, 1 added"
    page.press("u", "u", "Home")
    page.press("Shift+A", "u", "Control+y", "Home", "c")  # done again, then cleared
    assert page.run(COUNT) == "2 of 5, 2 classes left"
    page.press("Shift+U")
    assert page.run(TOAST) == "There is nothing to redo"


def test_keys_act_after_any_click_and_not_while_typing(page: Page, tmp_path: Path) -> None:
    bundle = write_classes(tmp_path / "clicks.jsonl", PETS)
    open_page(page, bundle)
    for selector in (
        "[data-show=open]", "[data-show=all]", "#classes [data-class='1']", "#classes [data-class='2']", "h2", "#count",
        "article [data-do=accept]", "article [data-do=accept]", "article [data-do=reject]", "#undo", ".counts", "h1",
    ):  # fmt: skip
        page.run(f"document.querySelector({selector!r}).click()")
        page.press("End")
        assert page.run(CURRENT) == "It barks.", selector
        page.press("Home")
        assert page.run(CURRENT) == "A cat has wiskers.", selector
    page.press("Tab", "Tab", "k", "j")  # on a button of its row
    assert page.run(CURRENT) == "It barks."
    page.press("Tab", "Tab", "Shift+Tab", "Space")
    assert page.run("document.activeElement.dataset.state") == "accept"
    page.press("u")
    before = page.run(COUNT)
    page.press("/")
    type_text(page, "aruce")
    page.press("Control+a")
    type_text(page, "bark dog")
    page.press("Enter")
    assert (listed(page), page.run(COUNT)) == (["It barks."], before)
    page.press("a", "Escape", "g")
    type_text(page, "ca")
    page.press("Enter", "j")
    assert page.run(CURRENT) == "It barks."
    page.run("document.getElementById('name').focus()")
    type_text(page, "ar")
    page.press("Escape", "?")
    page.wait_for("document.getElementById('keys').open")
    page.press("a", "Escape")
    page.wait_for("document.activeElement.tagName === 'ARTICLE'")
    assert page.run(COUNT) == "1 of 5, 2 classes left"
    assert decided_rows(saved_file(page, bundle, "ar")) == [("dog", "It barks.", "accept", "", "")]


def test_filters_follow_decisions(page: Page, tmp_path: Path) -> None:
    bundle = write_classes(tmp_path / "filters.jsonl", PETS)
    open_page(page, bundle)
    page.press("1", "a")
    assert listed(page) == ["It barks.", "It purrs.", "a wet nose", "It barks."]
    page.run("document.querySelector('article [data-do=reject]').click()")
    assert listed(page)[0] == "It barks."  # it stays until the keyboard leaves it, so that a reason can be given
    page.press("w")
    type_text(page, "why not")
    page.press("Enter")
    assert listed(page) == ["It purrs.", "a wet nose", "It barks."]
    page.press("4")
    assert listed(page) == ["It barks."]
    page.press("2")
    assert listed(page) == ["A cat has wiskers."]
    page.press("3")
    assert page.run("document.querySelector('#notice h2').textContent") == "No sentence matches"
    page.press("a", "e", "Shift+A", "n", "w", "End")  # on nothing
    page.press("Escape")
    assert len(listed(page)) == 5
    page.press("ArrowRight")
    assert page.run(CURRENT) == "a wet nose"
    page.press("Shift+K")
    assert page.run(CURRENT) == "A cat has wiskers."
    assert page.said == []


def test_thousands_of_sentences(page: Page, tmp_path: Path) -> None:
    classes = {f"c{place:03}": [f"Sentence {place} {number}." for number in range(20)] for place in range(100)}
    bundle = write_classes(tmp_path / "many.jsonl", classes)
    open_page(page, bundle)
    assert page.run(COUNT) == "0 of 2,000, 100 classes left"
    page.press("End")
    assert page.run(CURRENT) == "Sentence 99 19."
    assert page.run("document.activeElement.getAttribute('aria-posinset')") == "2000"
    page.press(*["PageUp"] * 5, "Shift+K", "Shift+A")
    place = page.run("document.querySelector('.entry[aria-current=true]').getBoundingClientRect().top")
    assert 0 < place < 800
    page.press(*"aarr", "k", "k", "Home", "Shift+J", *["ArrowDown"] * 19, "a")
    assert page.run(CURRENT) == "Sentence 2 0."
    assert page.run(COUNT) == "25 of 2,000, 99 classes left"
    # the current row is in sight, whole, and few rows exist
    assert page.run("""(() => {
        const box = (name) => document.querySelector(name).getBoundingClientRect();
        return box('article.current').top >= box('#list').top && box('article.current').bottom <= box('#list').bottom;
    })()""")
    assert page.run("document.activeElement.matches('article.current')")
    assert page.run("document.querySelectorAll('article').length") < 60
    assert page.said == []
