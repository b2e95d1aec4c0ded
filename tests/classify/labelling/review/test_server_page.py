"""The review page in a real browser, over the real server: what reviewers press, and what is on disk then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import CHROMIUM, Page, browser
from labelled_folders import folder_of_confidences

from abs_classify.labelling.decisions import DecisionLog, ReviewDecision, parse_decision, read_decisions
from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.review.server import review_server

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")

SHOWN = "document.querySelector('.cell.loaded.focused') !== null"
HOSTILE = '"><img src=x onerror="document.title=1">\u202egpj.\x1b[2J' + "W" * 300
CLASSES = ("cat", "</script><b>dog" + "o" * 200, "eel", "Émeu", "tree frog")
CONFIDENCES = [0.9, 0.2, 0.3, -1.0, 0.7, 0.4, 0.8, 0.6, 0.65, 0.95]
# the images by doubt: 1, 2, 5, 7, 8, 4, 6, 0, 9, and 3, which cannot be read


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> LabelFolder:
    return folder_of_confidences(tmp_path / "labelled", CONFIDENCES, classes=CLASSES, names=["a.png", HOSTILE])


@pytest.fixture
def address(folder: LabelFolder) -> Iterator[str]:
    with review_server(folder, "anna", random_share=0) as url:
        yield url


@pytest.fixture
def opened(page: Page, address: str, tmp_path: Path) -> Iterator[Page]:
    page.said.clear()
    page.open(address, tmp_path)
    page.resize(1200, 800)
    page.wait_for(SHOWN)
    yield page
    page.close()
    assert page.said == []


def saved(page: Page) -> None:
    page.wait_for("document.getElementById('saved').textContent === 'Saved'")


def decided(folder: LabelFolder) -> dict[int, tuple[str, str]]:
    """What is decided on disk: action and class id, by the number in the name of the image."""
    images = {row.image_id: row.number - 1 for row in folder.rows()}
    current = read_decisions(folder.path).current
    return {images[image]: (decision.action, decision.label) for image, decision in sorted(current.items())}


def focused(page: Page) -> str:
    return str(page.run("document.querySelector('.cell.focused .path').textContent"))


def test_images_are_reviewed_by_keyboard_alone(opened: Page, folder: LabelFolder) -> None:
    opened.press("a", "2", "x")  # images 1, 2, 5
    opened.press("Enter", "u", "r")  # 7 is accepted, taken back, and is none of the classes
    opened.press("c")
    opened.wait_for("document.getElementById('chooser').open")
    opened.press("f", "r", "Enter")  # 8 is a tree frog
    opened.press("/")
    opened.wait_for("document.getElementById('chooser').open")
    opened.press("e", "m", "u", "Enter")  # 4 is an Émeu, found without its accent
    opened.press("l", "h", "3")  # 6 is the third best class
    saved(opened)
    assert decided(folder) == {
        1: ("accept", "c1"),
        2: ("label", "c3"),
        5: ("reject", ""),
        7: ("reject", ""),
        8: ("label", "c4"),
        4: ("label", "c3"),
        6: ("label", "c3"),
    }
    assert opened.run("document.getElementById('reviewed').textContent") == "7 of 10 reviewed"
    assert focused(opened) == "a.png"
    assert opened.run("document.activeElement.id") == "grid"
    active = opened.run("document.getElementById('grid').getAttribute('aria-activedescendant')")
    assert opened.run(f"document.getElementById({active!r}).getAttribute('aria-label')") == (
        "cat, 90 %, or </script><b>dog" + "o" * 200 + ", Labelled, Not decided, a.png"
    )
    opened.press("u")  # the last decision, wherever it was
    opened.wait_for("document.getElementById('reviewed').textContent === '6 of 10 reviewed'")
    assert focused(opened) == "images/0006.png"
    saved(opened)
    assert 6 not in decided(folder)


def test_a_review_goes_on_where_it_stopped_and_ends(opened: Page, folder: LabelFolder, address: str) -> None:
    opened.press("a", "a", "a")
    opened.wait_for("document.getElementById('finished').textContent.startsWith('Nothing doubtful is left. 7 images')")
    saved(opened)
    opened.close()
    opened.open(address, folder.path)
    opened.wait_for(SHOWN)
    assert focused(opened) == "images/0007.png"
    opened.press(*"aaaaaa")
    saved(opened)
    assert len(decided(folder)) == 9
    assert opened.run("document.getElementById('toast').textContent.trim()") == (
        "Every image of this list has a decision."
    )


def test_several_images_are_decided_at_once(opened: Page, folder: LabelFolder) -> None:
    opened.press("l", "Shift+ArrowRight", "Shift+ArrowRight")
    assert opened.run("document.querySelectorAll('.cell[aria-selected=true]').length") == 3
    assert opened.run("document.getElementById('selected').textContent") == "3 selected"
    opened.run("document.querySelector('#batch [data-do=accept]').click()")
    saved(opened)
    assert decided(folder) == {2: ("accept", "c2"), 5: ("accept", "c0"), 7: ("accept", "c2")}
    opened.press("u")
    opened.wait_for("document.getElementById('reviewed').textContent === '0 of 10 reviewed'")
    saved(opened)
    assert decided(folder) == {}
    opened.press("Control+a", "x")
    opened.wait_for("document.getElementById('reviewed').textContent === '9 of 10 reviewed'")
    saved(opened)
    assert set(decided(folder).values()) == {("reject", "")}


def test_a_conflict_is_shown_and_resolved(opened: Page, folder: LabelFolder) -> None:
    opened.press("a")
    saved(opened)
    row = folder.row(2)
    assert row is not None
    with DecisionLog(folder.path, "bob <b>") as log:
        log.append([ReviewDecision(row.image_id, "label", "c2")])
    opened.wait_for("document.querySelector('.cell[data-state=conflict]') !== null")  # without a reload
    opened.run(
        "document.getElementById('decided').value = 'conflict';"
        "document.getElementById('decided').dispatchEvent(new Event('change'))"
    )
    opened.wait_for("document.getElementById('count').textContent === '1 image'")
    opened.wait_for(f"{SHOWN} && document.getElementById('decision').textContent === 'Reviewers disagree'")
    opinions = "[...document.querySelectorAll('#opinions button')].map((button) => button.textContent)"
    assert opened.run(opinions) == ["eelbob <b>", CLASSES[1] + "you"]
    opened.run("document.querySelector('#opinions button').click()")
    saved(opened)
    opened.wait_for("document.querySelector('#notice h2').textContent === 'No conflicts'")
    (decision,) = read_decisions(folder.path).current.values()
    assert (decision.label, decision.conflict) == ("c2", False)


def test_what_is_listed_follows_the_filters(opened: Page) -> None:
    opened.press("a")
    saved(opened)
    choose = "document.getElementById('%s').value = %r; document.getElementById('%s').dispatchEvent(new Event(%r))"
    opened.run(choose % ("decided", "open", "decided", "change"))
    opened.wait_for("document.getElementById('count').textContent === '8 images'")
    opened.wait_for(SHOWN)
    opened.press("x")  # it leaves the list, and the next one takes its place
    opened.wait_for("document.getElementById('count').textContent === '7 images'")
    opened.wait_for(SHOWN)
    assert focused(opened) == "images/0005.png"
    opened.run("document.querySelector('[data-view=classes]').click()")
    opened.run(choose % ("decided", "any", "decided", "change"))
    opened.run(choose % ("narrow", "FROG", "narrow", "input"))
    opened.run("document.querySelector('#groups button').click()")
    opened.wait_for("document.getElementById('count').textContent === '2 images'")
    opened.run("document.querySelector('[data-view=confusions]').click()")
    opened.wait_for("document.querySelectorAll('#groups button').length === 5")
    opened.run("document.querySelector('[data-view=all]').click()")
    opened.press("s", *"0004")
    opened.wait_for("document.getElementById('count').textContent === '1 image'")
    opened.press("Escape")
    opened.wait_for(SHOWN)
    assert focused(opened) == "images/0004.png"
    opened.run(choose % ("search", "nowhere", "search", "input"))
    opened.wait_for("document.querySelector('#notice h2').textContent === 'No images match'")


def test_decisions_wait_for_a_server_that_is_away(opened: Page, folder: LabelFolder, tmp_path: Path) -> None:
    opened.set_offline(True)
    opened.press("a", "x")
    opened.wait_for("document.getElementById('saved').textContent === '2 not saved'")
    assert "kept here and sent again" in opened.run("document.getElementById('alerts').textContent")
    assert ".." not in opened.run("document.getElementById('alerts').textContent")
    assert opened.run("{const event = new Event('beforeunload', {cancelable: true}); !dispatchEvent(event)}")
    opened.run("document.getElementById('download').click()")
    opened.wait_for_download()
    lines = (tmp_path / "anna.jsonl").read_bytes().splitlines()
    assert [parse_decision(line).action for line in lines] == ["accept", "reject"]
    assert decided(folder) == {}
    opened.set_offline(False)
    opened.run("document.getElementById('retry').click()")
    saved(opened)
    assert decided(folder) == {1: ("accept", "c1"), 2: ("reject", "")}
    assert opened.run("document.getElementById('alerts').textContent") == ""
    assert opened.run("{const event = new Event('beforeunload', {cancelable: true}); dispatchEvent(event)}")
    opened.said.clear()  # the requests that failed


@pytest.mark.parametrize("width", [360, 800, 1440])
def test_it_fits_any_width_whatever_the_names(opened: Page, width: int) -> None:
    opened.resize(width)
    opened.wait_for(SHOWN)
    assert opened.run("document.title") == "Review of labelled"
    for press in ([], ["Space"], ["c"]):
        opened.press(*press)
        assert opened.run(
            "document.documentElement.scrollWidth === innerWidth &&"
            "[...document.querySelectorAll('#grid, #focus, #facts, #chooser')]"
            ".every((box) => box.scrollWidth <= box.clientWidth)"
        ), press
        images = "[...document.querySelectorAll('img[src]')].map((image) => image.getBoundingClientRect().width)"
        assert 0 < max(opened.run(images)) <= width
    opened.press("Escape")
    assert "\\u202egpj.\\x1b[2JW" in opened.run("document.getElementById('details').textContent")
    opened.press("Space")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(opened: Page, scheme: str) -> None:
    opened.prefer(scheme)
    opened.press("a", "2", "x", "Shift+ArrowRight")
    opened.press("?")
    texts, faint = opened.run(CONTRAST)
    assert texts > 100
    assert faint == []
    ground = opened.run("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)")
    assert (sum(ground) < 150) == (scheme == "dark")


#: how many texts there are, and those whose contrast with what is behind them is below 4.5
CONTRAST = """
(() => {
  const channels = (text) => text.match(/[0-9.]+/g).map(Number);
  const luminance = (colour) => {
    const linear = (value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const [red, green, blue] = colour.slice(0, 3).map((value) => linear(value / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = channels(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  let texts = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const parent = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !parent.checkVisibility({ visibilityProperty: true })) continue;
    if (parent.closest("[inert], :disabled, option")) continue;
    texts++;
    const both = [channels(getComputedStyle(parent).color), ground(parent)].map(luminance);
    const contrast = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    if (contrast < 4.5) faint.push([parent.outerHTML.slice(0, 200), contrast]);
  }
  return [texts, faint];
})()
"""


@pytest.mark.slow
def test_a_hundred_thousand_images(page: Page, tmp_path: Path) -> None:
    folder = folder_of_confidences(tmp_path / "labelled", [0.5 + 0.4 * (i % 10) / 10 for i in range(60)])
    clone_rows(folder, 100_000)
    with review_server(folder, "anna") as url:
        page.open(url, tmp_path)
        page.resize(1440, 900)
        page.wait_for("document.querySelector('.cell.focused[data-state=open]') !== null")
        assert page.run("document.getElementById('count').textContent") == "100,000 images"
        assert page.run("document.querySelectorAll('*').length") < 1600
        started = time.monotonic()
        for share in range(1, 11):  # somebody drags the scroll bar
            page.run(f"grid.scrollTop = grid.scrollHeight * {share / 10}")
        page.wait_for("document.querySelector('.cell[data-index=\"99999\"][data-state=open]') !== null")
        assert time.monotonic() - started < 240
        assert page.run("document.querySelectorAll('*').length") < 1600
        page.press("Home", "End")
        page.wait_for("document.querySelector('.cell.focused[data-state=open]')?.dataset.index === '99999'")
        page.press("a")
        saved(page)
        assert len(decided(folder)) == 1
        page.close()


def clone_rows(folder: LabelFolder, count: int) -> None:
    """Rows of the same images under other names, until there are ``count``."""
    rows = list(folder.rows())
    entries = [
        (f"copy {number}".encode(), "", replace(rows[number % len(rows)], image_id=f"sha256:{number:064}"))
        for number in range(count - len(rows))
    ]
    folder.store(entries)
