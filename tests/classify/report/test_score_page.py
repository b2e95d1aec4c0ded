"""The page of a bundle's scores in a real browser: orders, filters, keys, photos, widths, hostile texts, many rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Page, browser
from score_samples import made_scores, net_gain

from abs_classify.report.score_page import page_text, write_score_page
from abs_core.bundle_scores import BundleScores, ClassScore, ExampleImage, PulledImages, SentenceScore
from abs_core.errors import StorageError

HOSTILE = "</script><img src=x onerror=\"document.title='run'\"><!--\u202egpj.\x1b[2J" + "W" * 300
TEXTS = "[...document.querySelectorAll('.sentence .text')].map((text) => text.textContent)"
COUNT = "document.getElementById('count').textContent"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no chromium")
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def show(page: Page, path: Path, scores: BundleScores) -> None:
    write_score_page(scores, path / "scores.html")
    page.said.clear()
    page.open((path / "scores.html").as_uri(), path)
    page.wait_for("document.getElementById('count').textContent !== ''")


def choose(page: Page, field: str, value: str) -> None:
    """Choose an order or filter, or type into a search field."""
    page.run(
        f"{{ const field = document.getElementById('{field}'); field.value = '{value}';"
        " for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind)); }"
    )


def marks(page: Page) -> list[str]:
    """Class and mark of the sentences that are shown: ``8.1``."""
    return [text.split()[1] + "." + text.split()[4].rstrip(",") for text in page.run(TEXTS)]


@pytest.mark.slow
def test_orders_and_filters_say_what_helps_and_what_hurts(page: Page, tmp_path: Path) -> None:
    show(page, tmp_path, made_scores())
    assert page.run("document.title") == "Scores of birds@1.1.0"
    assert marks(page)[:2] == ["8.1", "7.1"]  # what costs most comes first
    choose(page, "order", "wins")
    assert marks(page)[:2] == ["8.0", "7.0"]
    choose(page, "order", "used")
    assert marks(page)[0] == "0.0"
    choose(page, "show", "costs")
    assert (page.run(COUNT), {mark[-1] for mark in marks(page)}) == ("1 to 9 of 9 sentences", {"1"})
    choose(page, "show", "only")
    assert marks(page) == ["2.0"]
    assert "nothing without it" in page.run("document.querySelector('.sentence').textContent")
    choose(page, "show", "pulls")
    choose(page, "order", "pulls")
    assert marks(page)[0] == "8.1"
    choose(page, "search", "bird 11 ")
    assert marks(page) == ["11.1"]
    choose(page, "search", "nothing like it")
    assert page.run("document.getElementById('none').hidden") is False
    page.run("document.getElementById('clear').click()")
    assert page.run(COUNT) == "1 to 50 of 56 sentences"
    numbers = page.run("document.querySelector('.gain').textContent")
    assert numbers.startswith("+") or numbers.startswith("0.00") or numbers.startswith("\u2212")
    assert page.said == []


@pytest.mark.slow
def test_a_class_shows_its_gain_over_the_name_and_what_it_is_confused_with(page: Page, tmp_path: Path) -> None:
    show(page, tmp_path, made_scores())
    choose(page, "narrow", "bird 1")
    assert page.run("document.querySelectorAll('#classes button').length") == 3  # 1, 10, 11
    choose(page, "narrow", "c8")
    page.run("document.querySelector('#classes button').click()")
    text = page.run("document.getElementById('class').innerText")
    for part in ("bird 8", "13 (81.3 %)", "\u22121.00 points", "won 1, lost 3", "bird 9 3"):
        assert part in text
    assert page.run(COUNT) == "1 to 5 of 5 sentences"
    page.run("document.querySelector('#class .chips button').click()")
    assert "bird 9" in page.run("document.querySelector('#class h2').textContent")
    page.press("Escape")
    assert page.run("document.getElementById('class').hidden") is True


@pytest.mark.slow
def test_everything_works_by_keyboard(page: Page, tmp_path: Path) -> None:
    show(page, tmp_path, made_scores(30))
    focused = "document.activeElement.querySelector('.text')?.textContent"
    page.press("j")
    first, *_ = page.run(TEXTS)
    assert page.run(focused) == first
    page.press("j", "ArrowUp", "Enter")
    page.wait_for("document.querySelectorAll('.photos img').length === 2")
    assert page.run(focused) == first
    captions = page.run("document.querySelector('.photos').innerText")
    assert "bird 8" in captions
    assert "…/bird/008.jpg" in captions
    assert page.run("document.querySelector('.photos img').complete")
    page.press("Enter")
    assert page.run("document.querySelector('.photos')") is None
    page.press("ArrowRight")
    assert page.run(COUNT) == "51 to 100 of 146 sentences"
    page.press("k")  # from the first of a page to the last of the one before
    assert page.run(COUNT) == "1 to 50 of 146 sentences"
    assert page.run(focused) == page.run(TEXTS)[49]
    page.press("j")
    assert page.run(COUNT) == "51 to 100 of 146 sentences"
    page.press("ArrowLeft", "o")
    assert page.run("document.querySelector('#class h2').textContent").startswith("bird ")
    page.press("Escape", "/")
    assert page.run("document.activeElement.id") == "search"
    page.press("j", "c")  # letters in a field are letters
    assert page.run("document.getElementById('search').value") == "jc"
    page.press("Escape", "c")
    assert (page.run(COUNT), page.run("document.activeElement.id")) == ("1 to 50 of 146 sentences", "narrow")
    page.press(*"bird 8", "Enter")  # the first class of the list, and its first sentence
    assert page.run("document.querySelector('#class h2').textContent").startswith("bird 8")
    assert page.run(focused).startswith("Bird 8 has")
    page.press("Escape")
    assert page.run("document.getElementById('class').hidden") is True
    page.press("?")
    assert page.run("document.getElementById('keys').open") is True
    page.press("Escape")
    assert page.said == []


@pytest.mark.slow
def test_without_true_classes_usage_and_confusion_are_shown(page: Page, tmp_path: Path) -> None:
    show(page, tmp_path, made_scores(has_truth=False))
    assert marks(page)[0] in ("8.0", "8.1")  # without these most labels change
    options = page.run("[...document.querySelectorAll('#order option, #show option')].map((option) => option.value)")
    assert not {"costs", "wins", "low", "pulls"} & set(options)
    assert page.run("document.querySelectorAll('.gain').length") == 0
    page.press("j", "o")
    text = page.run("document.getElementById('class').innerText")
    assert "Comes second" in text
    assert "against its name" not in text
    assert "true classes are not known" in page.run("document.getElementById('remarks').textContent")


def hostile_scores() -> BundleScores:
    sentence = SentenceScore(
        class_id=HOSTILE,
        text=HOSTILE,
        gain=net_gain(0, 3),
        margin=-1e300,
        usage=1e-9,
        pulled=(PulledImages(class_id="unknown " + HOSTILE, images=3),),
        examples=(0,),
    )
    image = ExampleImage(path=HOSTILE, true_class="nowhere", label=HOSTILE)
    entry = ClassScore(class_id=HOSTILE, name=HOSTILE, images=0, right=0, over_name=net_gain(0, 0))
    return made_scores(
        3,
        bundle=HOSTILE,
        source=HOSTILE,
        method=HOSTILE,
        model=HOSTILE,
        remarks=(HOSTILE,),
        created=HOSTILE,
        classes=(entry,),
        sentences=(sentence, SentenceScore(class_id="gone", text="x", is_only=True)),
        examples=(image,),
    )


@pytest.mark.slow
def test_what_comes_from_outside_is_shown_as_text(page: Page, tmp_path: Path) -> None:
    show(page, tmp_path, hostile_scores())
    page.press("j", "Enter", "o")
    assert page.run("document.title").startswith("Scores of </script>")
    assert page.run("document.querySelectorAll('body img').length") == 0  # the photo cannot be drawn
    assert "cannot be drawn" in page.run("document.querySelector('.photos').textContent")
    shown = page.run("document.body.innerText")
    assert "\u202e" not in shown
    assert "\\u202e" in shown
    for width in (1280, 800, 380):
        page.resize(width)
        assert page.run("document.documentElement.scrollWidth <= innerWidth"), width
    page.press("Escape", "j", "j", "o")  # the class of the other sentence is not in the bundle
    assert page.run("document.getElementById('class').hidden") is True
    assert page.said == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_three_widths(page: Page, tmp_path: Path, scheme: str) -> None:
    show(page, tmp_path, made_scores())
    page.prefer(scheme)
    page.press("j", "Enter", "o")
    for width in (1280, 800, 380):
        page.resize(width)
        assert page.run("document.documentElement.scrollWidth <= innerWidth"), width
        heights = page.run("[...document.querySelectorAll('button, select, input')].map((field) => field.offsetHeight)")
        assert min(height for height in heights if height) >= 24, width
    # on a phone the classes fold away
    assert page.run("document.getElementById('chooser').offsetHeight") == 0
    page.run("document.getElementById('unfold').click()")
    assert page.run("document.getElementById('chooser').offsetHeight") > 0
    colours = page.run("(({ color, backgroundColor }) => [color, backgroundColor])(getComputedStyle(document.body))")
    assert colours == (
        ["rgb(25, 28, 33)", "rgb(245, 246, 247)"] if scheme == "light" else ["rgb(233, 235, 238)", "rgb(18, 20, 23)"]
    )
    page.prefer("light")


@pytest.mark.slow
def test_fifty_thousand_sentences_are_shown_page_by_page(page: Page, tmp_path: Path) -> None:
    few = made_scores(1000, 1)
    rows = [
        sentence.model_copy(update={"text": f"{sentence.text} {n}"}) for n in range(50) for sentence in few.sentences
    ]
    show(page, tmp_path, few.model_copy(update={"sentences": tuple(rows)}))
    page.resize(1280)
    assert page.run(COUNT) == "1 to 50 of 50,000 sentences"
    assert page.run("document.querySelectorAll('*').length") < 4000
    assert page.run("document.querySelectorAll('#classes li').length") == 200
    page.run("document.getElementById('more').click()")
    assert page.run("document.querySelectorAll('#classes li').length") == 400
    choose(page, "search", "bird 999 ")
    assert page.run(COUNT) == "1 to 50 of 50 sentences"
    choose(page, "search", "")
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run("document.querySelectorAll('.sentence').length") == 500
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run("document.querySelectorAll('.sentence').length") == 50


def test_the_page_loads_and_sends_nothing() -> None:
    text = page_text(made_scores())
    policy = text.partition('http-equiv="Content-Security-Policy" content="')[2].partition('"')[0]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    head = text.partition('<script type="application/json"')[0]
    assert "http" not in head.replace("http-equiv", "")
    # the data and two scripts end, and none of them by what is in the data
    assert page_text(hostile_scores()).count("</script>") == 3


def test_it_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "scores.html"
    write_score_page(made_scores(), path)
    assert path.read_text(encoding="utf-8") == page_text(made_scores())
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_score_page(made_scores(), tmp_path / "file" / "scores.html")


def test_the_page_of_no_sentence_says_so(page: Page, tmp_path: Path) -> None:
    nothing: dict[str, Any] = {"classes": (), "sentences": (), "examples": (), "images": 0, "right": 0}
    show(page, tmp_path, made_scores(1, **nothing))
    assert page.run(COUNT) == "No sentences"
    page.press("j", "k", "o", "Enter", "ArrowRight", "ArrowLeft")
    assert page.said == []
