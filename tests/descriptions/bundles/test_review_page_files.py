"""Decisions of the review page outlive it: in the browser, and in files that are saved and loaded again."""

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
    open_page,
    reload_page,
    saved_file,
    type_text,
    write_classes,
)

from abs_descriptions.bundles import Bundle
from abs_descriptions.bundles.review import read_review_file, write_review_file

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")

HOSTILE = [
    "=1+1", "'=1+1", '<img src=x onerror="document.title=1">', 'a "quote", a comma; a\ttab', "\x1b[2Jx a\u202eb",
    "</script><script>document.title=2</script>", "<!--", "-2", "été 東京 🐕", "A cat;=1+1", "\\x1b",
    "a \ufe01 cat", "＝1+1",
    "x\u2028y", "${document.title=3}", "Z" + "\u0310" * 40,
]  # fmt: skip
ALERT = "document.getElementById('alerts').textContent"
SAVED = "document.getElementById('saved').textContent"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def load(page: Page, path: Path) -> None:
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    field = page.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    page.run("document.querySelector('#toast span').textContent = document.getElementById('alerts').textContent = ''")
    page.call("DOM.setFileInputFiles", nodeId=field, files=[str(path)])
    page.wait_for(f"{TOAST} || {ALERT}")


def forget(page: Page) -> None:
    page.run("localStorage.clear()")
    reload_page(page)


def test_hostile_texts_do_nothing_and_come_back_exactly(page: Page, tmp_path: Path) -> None:
    bundle = write_classes(tmp_path / "hostile.jsonl", {"cat": HOSTILE, '"d<b>': ["It barks."]})
    open_page(page, bundle)
    assert "\\u202e" in page.run("document.body.innerText")
    page.press("Shift+A", "r")
    path = saved_file(page, bundle)
    assert page.said == []
    assert page.run("document.title") == "Review of hostile 1.0.0"
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    review = read_review_file(path, bundle)
    assert {row.text for row in review.rows.values() if row.decision == "accept"} == set(HOSTILE)
    assert review.count("reject") == 1
    forget(page)
    load(page, path)
    assert page.run(COUNT) == "17 of 17, no class left"


def test_a_file_is_loaded_again(page: Page, tmp_path: Path) -> None:
    bundle = write_classes(tmp_path / "loaded.jsonl", {"cat": ["A cat.", "It purrs.", "It barks."], "dog": ["A dog."]})
    open_page(page, bundle)
    page.run("document.getElementById('name').focus()")
    type_text(page, "Anna B.")
    page.press("Escape", "a", "e", "End")
    type_text(page, "; =x")
    page.press("Enter", "Shift+R")
    type_text(page, "no")
    page.press("Enter", "+")
    type_text(page, "-2 tails")
    page.press("Enter")
    path = saved_file(page, bundle, "Anna-B.")
    rows = decided_rows(path)
    assert ("dog", "", "add", "'-2 tails", "") in rows
    text = path.read_text(encoding="utf-8-sig")
    assert text.count('"Anna B."') == len(rows) == 4
    review = read_review_file(path, bundle)
    assert {class_id: [row.new_text for row in added] for class_id, added in review.added.items()} == {
        "dog": ["-2 tails"]
    }
    assert sorted((row.text, row.decision, row.new_text, row.reason) for row in review.rows.values()) == [
        ("A cat.", "accept", "", ""),
        ("It barks.", "reject", "", "no"),
        ("It purrs.", "edit", "It purrs.; =x", ""),
    ]
    forget(page)
    page.press("r")  # is what the file does not say
    # as spreadsheets write it
    path.write_text(text.replace('","', '";"').replace(",", ";", 9), encoding="utf-16")
    load(page, path)
    assert page.run(TOAST) == "Loaded 4 decisions; 1 replaced yours · u takes it back"
    assert page.run(COUNT) == "3 of 4, 1 class left, 1 added"
    assert page.run("document.getElementById('name').value") == "Anna B."
    assert decided_rows(saved_file(page, bundle, "Anna-B.")) == rows
    load(page, path)  # twice is once
    assert page.run(COUNT) == "3 of 4, 1 class left, 1 added"
    page.press("u")
    assert page.run(COUNT) == "1 of 4, 2 classes left"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("bundle,", "bundel,", "It is no review file: it has no column “bundle”"),
        ("@1.0.0", "@1.1.0", "Line 2: it is of other@1.1.0#sha256:"),
        ("A cat.,,", "A cat.,maybe,", "Line 2: unknown decision “maybe”"),
        ("A cat.,,", "A cat!,accept,", "Line 2: the text is not that of the bundle"),
        ("A cat.,,,", "A cat.,edit,A cat.,", "Line 2: the decision is edit, and new_text is empty or the old text"),
        ("A cat.,,,", "A cat.,add,It purrs.,", "Line 2: The class has this text already"),
        (",r", ",q", "Line 2: the bundle has no row “q"),
        ("A cat.,,,", 'A cat.,accept,,"', "Line 2: a quotation mark is not closed"),
    ],
)
def test_files_that_cannot_be_loaded(page: Page, bundle: Bundle, old: str, new: str, problem: str) -> None:
    path = bundle.path.with_name("review.csv")
    write_review_file(bundle, path)
    text = path.read_text(encoding="utf-8-sig")
    if old == ",r":
        text = text.replace("A cat.,,", "A cat.,accept,")
        old = ",r" + text.splitlines()[1].split(",r")[1][:3]
        new = ",q" + old[2:]
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    load(page, path)
    assert problem in page.run(ALERT)
    assert page.run(COUNT) == "0 of 2, 1 class left"


@pytest.fixture(scope="module")
def bundle(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    written = write_classes(tmp_path_factory.mktemp("other") / "other.jsonl", {"cat": ["A cat.", "It purrs."]})
    open_page(page, written)
    return written


def test_decisions_outlive_the_page(page: Page, tmp_path: Path) -> None:
    bundle = write_classes(tmp_path / "kept.jsonl", {"cat": ["A cat.", "It purrs."], "dog": ["A dog."]})
    open_page(page, bundle)
    page.press("r", "e", "End")
    type_text(page, "!")
    reload_page(page)  # with a box open, as after a crash between two keys
    assert page.run(COUNT) == "2 of 3, 1 class left"
    assert page.run(CURRENT) == "A dog."
    assert page.run(SAVED) == "Kept in this browser"
    page.press("Home")
    assert page.run("document.activeElement.dataset.state") == "reject"
    # another tab with the page decides
    page.run("""{
        const key = Object.keys(localStorage).find((name) => name.endsWith(':class:dog')) ?? Object.keys(localStorage)
            .find((name) => name.endsWith(':class:cat')).replace(/cat$/, 'dog');
        const id = document.querySelectorAll('article')[2].dataset.id;
        localStorage.setItem(key, JSON.stringify([[id, 'accept', '', '']]));
        dispatchEvent(new StorageEvent('storage', {key, storageArea: localStorage}));
    }""")
    assert page.run(COUNT) == "3 of 3, no class left"
    # another bundle has none of it
    other = write_classes(tmp_path / "kept-2.jsonl", {"cat": ["A cat.", "It purrs."], "dog": ["A dog."]})
    open_page(page, other)
    assert page.run(COUNT) == "0 of 3, 2 classes left"


def test_a_browser_that_keeps_nothing_says_so(page: Page, tmp_path: Path) -> None:
    bundle = write_classes(tmp_path / "lost.jsonl", {"cat": ["A cat.", "It purrs."]})
    open_page(page, bundle)
    script = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }})"
    page.call("Page.addScriptToEvaluateOnNewDocument", source=script)
    reload_page(page)
    page.press("a")
    assert page.run(SAVED) == "Not kept: save before you close"
    assert page.run("!dispatchEvent(new Event('beforeunload', {cancelable: true}))")
    assert len(decided_rows(saved_file(page, bundle))) == 1
    assert page.run("dispatchEvent(new Event('beforeunload', {cancelable: true}))")
    assert page.said == []
