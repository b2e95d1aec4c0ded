"""The page in a real browser: the list, filters, keys, confusions, widths, paper, hostile texts, many rows."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, browser
from browser import Page as OpenPage
from report_pages import HOSTILE, make_columns, make_image, make_page
from result_records import make_records

from abs_classify.evaluation.metrics import evaluate_ranks
from abs_classify.report import write_report
from abs_classify.report.image_rows import ImageRows
from abs_classify.report.layout import ReportPage

LABELS = "[...document.querySelectorAll('#grid .cell:not([hidden])')].map((cell) => cell.innerText.split(/\\n+/))"
MATCHES = "document.getElementById('matches').textContent"
NAMES = "[...document.querySelectorAll('#grid .cell:not([hidden]) .source')].map((line) => line.title)"
VIEW = "[...document.querySelectorAll('main > section:not([hidden])')].map((part) => part.id).join()"
FITS = "document.documentElement.scrollWidth <= innerWidth && document.body.scrollWidth <= innerWidth"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenPage]:
    if CHROMIUM is None:
        pytest.skip("no chromium")
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def show(page: OpenPage, folder: Path, report: ReportPage, fragment: str = "") -> None:
    write_report(report, folder / "page.html")
    page.said.clear()
    page.close()
    page.open((folder / "page.html").as_uri() + fragment, folder)
    page.resize(1280, 900)
    page.wait_for(f"{VIEW} !== ''")


def choose(page: OpenPage, field: str, value: str) -> None:
    """Choose an order or a filter, or type into a field."""
    page.run(
        f"{{ const field = document.getElementById('{field}'); field.value = '{value}';"
        " for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind)); }"
    )


def wait_for_names(page: OpenPage, names: list[str]) -> None:
    """The names of the images in the list are these, as soon as it is drawn: that comes with the next frame."""
    page.wait_for(f"JSON.stringify({NAMES}) === {json.dumps(json.dumps(names, separators=(',', ':')))}")


def four() -> ReportPage:
    """Four images: two that both get right, one that abs gets wrong with a lynx, one with a dog."""
    return make_page(
        make_image("a.png"),
        make_image("b.png", winner="lynx", seed=1),
        make_image("c.png", winner="dog", seed=2),
        make_image("d.png", truth="dog", winner="dog", seed=3),
        index="index.html",
    )


def rows(count: int, pictures: int = 0, classes: int = 50) -> ReportPage:
    truth = np.random.default_rng(0).integers(0, classes, count)
    methods = [make_columns(name, truth, classes, seed) for seed, name in enumerate(("clip", "abs"))]
    names = [f"val/{label:03d}/{image:06d}.jpg" for image, label in enumerate(truth)]
    table = ImageRows(names, [f"class {label}" for label in range(classes)], methods, "abs", truth.tolist())
    pictured = table.pictured(pictures)
    images = [replace(make_image(names[position], size=(64, 48)), position=position) for position in pictured]
    return ReportPage("Many", table=table, pictured=pictured, images=images)


@pytest.mark.slow
def test_every_image_has_its_label_and_says_in_words_whether_it_is_right(page: OpenPage, tmp_path: Path) -> None:
    show(page, tmp_path, four(), "#images")
    page.wait_for("document.querySelectorAll('#grid .cell:not([hidden]) img:not([hidden])').length === 4")
    lines = page.run(LABELS)
    assert [line[:2] for line in lines] == [
        ["lynx", "✗ true: tabby cat"],
        ["dog", "✗ true: tabby cat"],
        ["tabby cat", "✓ right"],
        ["dog", "✓ right"],
    ]
    assert lines[0][2:] == ["clip ✓", "confidence 0.633", "margin 500", "b.png"]
    choose(page, "order", "sure")
    wait_for_names(page, ["a.png", "b.png", "c.png", "d.png"])
    choose(page, "order", "unsure")
    wait_for_names(page, ["d.png", "c.png", "b.png", "a.png"])
    choose(page, "method", "0")  # the labels of clip
    assert page.run(LABELS)[1][:3] == ["tabby cat", "✓ right", "abs ✗"]
    assert page.run("document.getElementById('back').href").endswith("/index.html")
    assert page.said == []


@pytest.mark.slow
def test_images_are_found_by_name_class_method_and_confusion(page: OpenPage, tmp_path: Path) -> None:
    show(page, tmp_path, four())
    assert page.run(VIEW) == "summary-view"
    pairs = "[...document.querySelectorAll('#pair-table td')].map((cell) => cell.textContent)"
    assert page.run(pairs) == ["", "2", "·", ""]
    page.run("document.querySelector('#pair-table button').click()")
    page.wait_for(f"{VIEW} === 'images-view'")
    wait_for_names(page, ["b.png", "c.png"])
    assert page.run("document.getElementById('active').innerText").split("\n") == ["clip right", "abs wrong"]
    choose(page, "search", "LYNX")  # on top of the others
    wait_for_names(page, ["b.png"])
    page.run("document.getElementById('clear').click()")
    page.wait_for(f"{MATCHES} === '4 images'")
    choose(page, "search", "c.p")
    wait_for_names(page, ["c.png"])
    choose(page, "search", "nothing")
    assert page.run("document.getElementById('none').hidden") is False
    choose(page, "search", "")
    choose(page, "truth", "dog")
    wait_for_names(page, ["d.png"])
    choose(page, "truth", "")
    choose(page, "label", "dog")
    wait_for_names(page, ["c.png", "d.png"])
    page.run("location.hash = '#summary'")
    page.wait_for(f"{VIEW} === 'summary-view'")
    assert page.run("document.getElementById('confusion-list').innerText.split('\\n')") == [
        "tabby cat taken for lynx 1",
        "tabby cat taken for dog 1",
    ]
    page.run(
        "document.querySelector('#confusion-table button[aria-label=\"1: true tabby cat, predicted dog\"]').click()"
    )
    page.wait_for(f"{VIEW} === 'images-view'")
    wait_for_names(page, ["c.png"])
    page.run("history.back()")
    page.wait_for(f"{VIEW} === 'summary-view'")
    assert page.said == []


@pytest.mark.slow
def test_everything_works_by_keyboard(page: OpenPage, tmp_path: Path) -> None:
    show(page, tmp_path, four())
    cell = "document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))"
    active = f"{cell}?.querySelector('.source').title"
    page.press("i")
    page.wait_for(f"{active} === 'b.png'")
    page.press("ArrowRight", "ArrowRight", "ArrowLeft")
    assert page.run(active) == "c.png"
    page.press("End", "Home", "End")
    assert page.run(active) == "d.png"
    page.press("ArrowLeft", "Enter")
    page.wait_for(f"{VIEW} === 'image-view'")
    title = "document.activeElement.innerText"
    assert page.run(title).split("\n")[0].startswith("tabby cat")
    assert page.run("document.getElementById('place').textContent") == "3 of 4"
    page.press("ArrowRight")
    page.wait_for("document.getElementById('place').textContent === '4 of 4'")
    page.press("ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowLeft")
    assert page.run("document.getElementById('place').textContent") == "1 of 4"
    page.press("Escape")
    page.wait_for(f"{active} === 'b.png'")
    page.press("/", *"is")  # letters in a field are letters
    assert page.run("document.getElementById('search').value") == "is"
    page.press("Escape")
    page.wait_for(f"{MATCHES} === '4 images' && document.activeElement.id === 'grid'")
    page.press("/", *"lynx", "Enter")
    wait_for_names(page, ["b.png"])
    assert page.run("document.activeElement.id") == "grid"
    page.press("Escape")
    page.wait_for(f"{MATCHES} === '4 images'")
    page.press("?")
    assert page.run("document.getElementById('keys').open") is True
    page.press("Escape", "s")
    page.wait_for(f"{VIEW} === 'summary-view'")
    assert page.run("getComputedStyle(document.documentElement).outlineStyle") == "none"
    assert page.said == []


@pytest.mark.slow
def test_an_image_shows_where_the_model_looked_and_both_classes_side_by_side(page: OpenPage, tmp_path: Path) -> None:
    image = make_image("cat.png", winner="lynx")
    why = image.explanation
    assert why is not None
    truth = replace(why.winner, name="tabby cat", class_id="tabby cat")
    show(page, tmp_path, make_page(replace(image, explanation=replace(why, runner_up=truth))), "#image-0")
    page.wait_for(f"{VIEW} === 'image-view'")
    text = page.run("document.getElementById('image').innerText")
    for words in ("Why abs puts lynx before tabby cat, the true class", "97 other sentences", "✗ abs is wrong"):
        assert words in text
    drawn = page.run(
        "[...document.querySelectorAll('#image .panel')].map((panel) => panel.querySelectorAll('rect').length)"
    )
    assert drawn[2] > 50
    assert page.run("document.querySelectorAll('#image .panel svg[aria-label]').length") == 4
    loaded = (
        "(async () => { const image = new Image(); image.src = document.getElementById('pixels').getAttribute('href');"
        " await image.decode(); return image.naturalWidth; })()"
    )
    answer = page.call("Runtime.evaluate", expression=loaded, awaitPromise=True, returnByValue=True)
    assert answer["result"]["value"] == 360
    heads = page.run("[...document.querySelectorAll('.views thead th')].map((head) => head.textContent)")
    assert heads == ["view", "lynx", "tabby cat", "difference", ""]
    cells = page.run("[...document.querySelectorAll('.views tbody tr')].map((row) => row.innerText)")
    assert "+310.0\t+100.0\t+210.0" in cells[0]
    assert page.said == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_a_desk(page: OpenPage, tmp_path: Path, scheme: str) -> None:
    hostile = "W" * 300
    many = [make_image(f"{n}{hostile}.png", truth=f"{hostile} {n}", winner=f"{hostile} {n % 2}") for n in range(3)]
    show(page, tmp_path, make_page(*many, title=hostile, notes=(hostile,)))
    page.prefer(scheme)
    for width in (1280, 760, 360):
        page.resize(width)
        for fragment in ("summary", "images", "image-1"):
            page.run(f"location.hash = '#{fragment}'")
            page.wait_for(f"{VIEW} === '{fragment.partition('-')[0]}-view'")
            assert page.run(FITS), (width, fragment)
            assert page.run(f"document.getElementById('{fragment.partition('-')[0]}-view').scrollWidth <= innerWidth")
        page.run("location.hash = '#images'")
        page.wait_for(f"{VIEW} === 'images-view'")
        # no line of a cell is cut
        assert page.run(
            "[...document.querySelectorAll('#grid .cell:not([hidden])')].every((cell) =>"
            " cell.querySelector('.source').getBoundingClientRect().bottom <= cell.getBoundingClientRect().bottom)"
        ), width
    heights = page.run(
        "[...document.querySelectorAll('button, select, input, nav a')].map((field) => field.offsetHeight)"
    )
    assert min(height for height in heights if height) >= 24
    colours = page.run("getComputedStyle(document.body).backgroundColor")
    assert colours == ("rgb(247, 247, 245)" if scheme == "light" else "rgb(20, 22, 26)")
    page.prefer("light")


@pytest.mark.slow
def test_paper_has_all_images_of_the_list(page: OpenPage, tmp_path: Path) -> None:
    show(page, tmp_path, rows(450), "#images")
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run("document.querySelectorAll('#print .cell').length") == 400
    assert page.run("document.getElementById('print').textContent").startswith("The first 400 of 450 images.")
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.run("getComputedStyle(document.getElementById('grid')).display") == "none"
    assert page.run("document.getElementById('print').offsetHeight") > 5000
    page.call("Emulation.setEmulatedMedia", media="")
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run("document.querySelectorAll('#print *').length") == 0
    assert base64.b64decode(page.call("Page.printToPDF")["data"]).startswith(b"%PDF")


def _hostile() -> ReportPage:
    image = make_image(name=HOSTILE, truth=HOSTILE, winner=HOSTILE)
    wrong = make_image(name=HOSTILE, truth="cat", winner=HOSTILE)
    records = make_records([evaluate_ranks(HOSTILE, np.array([1, 2]), np.array([0, 1]), 8)])
    facts: dict[str, Any] = {"title": HOSTILE, "notes": (HOSTILE,), "warnings": (HOSTILE,), "results": tuple(records)}
    return make_page(image, wrong, **facts)


@pytest.mark.slow
def test_what_comes_from_outside_is_shown_as_text(page: OpenPage, tmp_path: Path) -> None:
    show(page, tmp_path, _hostile())
    for fragment in ("images", "image-0", "summary"):
        page.run(f"location.hash = '#{fragment}'")
        page.wait_for(f"{VIEW} === '{fragment.partition('-')[0]}-view'")
        shown = page.run("document.body.innerText")
        assert "\u202e" not in shown
        assert "<script>alert(1)</script>" in shown
    page.run("document.querySelector('#confusion-list button').click()")
    page.wait_for(f"{MATCHES} === '1 of 2 images'")
    images = page.run("[...document.querySelectorAll('img')].map((image) => image.getAttribute('src') ?? '')")
    assert all(source in ("",) or source.startswith("data:image/jpeg;base64,") for source in images)
    page.run("location.hash = '#image-99999'")  # no such image: the summary
    page.wait_for(f"{VIEW} === 'summary-view'")
    assert page.said == []


@pytest.mark.slow
def test_fifty_thousand_images_are_listed_by_those_in_sight(page: OpenPage, tmp_path: Path) -> None:
    show(page, tmp_path, rows(50_000, pictures=20), "#images")
    page.wait_for(f"{MATCHES} === '50,000 images'")
    assert page.run("document.getElementById('cap').textContent").startswith("20 of 50,000 images have a picture")
    # those with a picture come first, and 20 of 12,500 wrong ones have one
    page.wait_for("document.querySelectorAll('#grid .cell:not([hidden]) img:not([hidden])').length >= 20")
    assert page.run("document.querySelectorAll('*').length") < 4000
    assert len({line[1] for line in page.run(LABELS)[:20]}) > 15  # of many classes
    page.press("End")
    page.wait_for("document.getElementById('grid').getAttribute('aria-activedescendant') === 'cell-49999'")
    assert page.run("document.querySelectorAll('*').length") < 4000
    page.press("Enter")
    page.wait_for(f"{VIEW} === 'image-view'")
    text = page.run("document.getElementById('image').innerText")
    assert "only a row" in text
    assert "place of the true class" in text
    choose(page, "search", "val 049999")
    page.wait_for(f"{MATCHES} === '1 of 50,000 images'")
    assert page.said == []


@pytest.mark.slow
def test_a_page_of_one_image_shows_it_and_without_labels_nothing_is_right_or_wrong(
    page: OpenPage, tmp_path: Path
) -> None:
    show(page, tmp_path, make_page(make_image(truth=None, winner="dog"), results=()))
    assert page.run(VIEW) == "image-view"
    assert page.run("document.getElementById('image-title').innerText").startswith("dog")
    assert "✗" not in page.run("document.getElementById('image').innerText")
    page.press("Escape")
    page.wait_for(f"{VIEW} === 'images-view'")
    assert page.run("document.getElementById('truth')") is None
    assert "right" not in page.run("document.getElementById('grid').innerText")
    assert page.said == []
