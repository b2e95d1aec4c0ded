"""The review page beside what sentences win and cost, in every width, light and dark, and on paper."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Page, browser
from PIL import Image
from review_pages import CURRENT, listed, open_page, write_classes

from abs_core.bundle_scores import (
    BundleScores,
    ClassScore,
    ExampleImage,
    Interval,
    NetGain,
    PulledImages,
    SentenceScore,
)
from abs_core.errors import UsageError
from abs_descriptions.bundles import Bundle
from abs_descriptions.bundles.review import find_scores, write_page, write_review
from abs_descriptions.bundles.review_page import rendering

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
HOSTILE = '</script><img src=x onerror="document.title=1">\u202e'
TEXTS = {
    "cat": ["It helps.", "It costs.", "It costs more.", "It is even."],
    "dog": ["The only one."],
    "eel": ["Unscored."],
}


def gain(won: int, lost: int) -> NetGain:
    points = float(won - lost)
    return NetGain(won=won, lost=lost, images=100, interval=Interval(low=points - 2.5, high=points + 2.5))


def scores_of(bundle: Bundle, *, has_truth: bool = True) -> BundleScores:
    picture = io.BytesIO()
    Image.new("RGB", (64, 48), (180, 90, 40)).save(picture, "JPEG")
    thumbnail = base64.b64encode(picture.getvalue()).decode()
    gains = {"It helps.": (5, 0), "It costs.": (1, 2), "It costs more.": (1, 9), "It is even.": (3, 3)}
    sentences = [
        SentenceScore(
            class_id="cat",
            text=text,
            gain=gain(*counts) if has_truth else None,
            margin=(0.01234, 12.345, -123.45, 0.0)[place] if has_truth else None,
            changed=sum(counts),
            usage=0.1 * place,
            pulled=(PulledImages(class_id="dog", images=4),) if place == 2 else (),
            examples=(0, 1) if place == 2 else (),
        )
        for place, (text, counts) in enumerate(gains.items())
    ]
    return BundleScores(
        bundle=bundle.reference,
        source=HOSTILE,
        has_truth=has_truth,
        method="abs",
        model="ViT-B-32",
        images=100,
        right=71 if has_truth else None,
        classes=(ClassScore(class_id="cat", name="CAT", images=50, right=40, over_name=gain(9, 1)),),
        sentences=(*sentences, SentenceScore(class_id="dog", text="The only one.", is_only=True, usage=0.05)),
        examples=(
            ExampleImage(path=HOSTILE, true_class="dog", label="cat", thumbnail=thumbnail),
            ExampleImage(path="b.jpg", true_class=None, label="dog"),
        ),
        created="2025-02-01T00:00:00Z",
        remarks=(HOSTILE,),
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def score_lines(page: Page) -> list[str]:
    lines: list[str] = page.run("[...document.querySelectorAll('article .score')].map((line) => line.innerText)")
    return [" ".join(line.split()) for line in lines]


@needs_browser
def test_scores_stand_beside_sentences(page: Page, tmp_path: Path) -> None:
    bundle = write_classes(tmp_path / "scored.jsonl", TEXTS)
    open_page(page, bundle, scores_of(bundle))
    assert score_lines(page) == [
        "+5.0 points [+2.5, +7.5] 5 won, 0 lost margin +0.0123 usage 0.00 %",
        "−1.0 points [−3.5, +1.5] 1 won, 2 lost margin +12.3 usage 10.0 %",
        "−8.0 points [−10.5, −5.5] 1 won, 9 lost margin −123 usage 20.0 % pulls in 4 DOG",
        "0.0 points [−2.5, +2.5] 3 won, 3 lost margin 0.00 usage 30.0 %",
        "only sentence of its class usage 5.0 %",
    ]
    assert "40 of 50 images right" in page.run("document.querySelector('header.class .score').innerText")
    photo = "[...document.querySelectorAll('article img')].map(({alt, complete, naturalWidth}) => [alt, naturalWidth])"
    assert page.run(photo) == [[HOSTILE[:-1] + "\\u202e: DOG, gets CAT", 64]]
    page.press("6")
    assert listed(page) == ["It costs.", "It costs more."]
    page.press("0", "o")
    assert listed(page) == ["It costs more.", "It costs.", "It is even.", "It helps.", "The only one.", "Unscored."]
    assert page.run(CURRENT) == "It costs more."
    page.press("r", "o")
    assert listed(page)[0] == "It helps."
    page.run("document.getElementById('about').click()")
    assert "71 right (71.0 %)" in page.run("document.getElementById('scores').innerText")
    page.press("Escape")
    assert page.run("document.title") == "Review of scored 1.0.0"
    assert page.said == []


@needs_browser
def test_without_true_classes_there_are_no_costs(page: Page, tmp_path: Path) -> None:
    bundle = write_classes(tmp_path / "usage.jsonl", TEXTS)
    open_page(page, bundle, scores_of(bundle, has_truth=False))
    assert score_lines(page)[2] == "usage 20.0 % changes 10 labels pulls in 4 DOG"
    page.press("6")
    assert len(listed(page)) == 6
    page.press("o")
    assert listed(page)[:3] == ["It is even.", "It costs more.", "It costs."]


# WCAG 2.1, relative luminance and contrast ratio, of what is written in the page and what is behind it
CONTRASTS = """(() => {
    const light = (color) => {
        const [r, g, b] = color.match(/[\\d.]+/g).map(Number)
            .map((value) => (value /= 255, value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
        const color = getComputedStyle(element).backgroundColor;
        return /, 0\\)$|transparent/.test(color) && element.parentElement ? ground(element.parentElement) : color;
    };
    const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    return [...document.querySelectorAll('#app *')]
        .filter((element) => !element.disabled && element.checkVisibility() && hasText(element))
        .map((element) => [getComputedStyle(element).color, ground(element), element.outerHTML.slice(0, 80)])
        .map(([color, behind, html]) => [light(color), light(behind), html])
        .map(([one, other, html]) => [(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), html])
        .filter(([ratio]) => ratio < 4.5);
})()"""

BEYOND = """[...document.querySelectorAll('article *')]
    .filter((element) => element.getBoundingClientRect().right > innerWidth).length"""
UNNAMED = """[...document.querySelectorAll(':is(button, input, textarea, dialog, nav, main):not([hidden])')]
    .filter((element) => !element.ariaLabel && !element.getAttribute('aria-labelledby'))
    .filter((element) => !element.labels?.length && !element.textContent.trim()).map((element) => element.outerHTML)"""


@needs_browser
def test_every_width_light_and_dark(page: Page, tmp_path: Path) -> None:
    wide = {"cat": ["W" * 900, "\ufdfd" * 60, "Z" + "\u0310" * 4 + "a", "A cat." * 90], "dog" + "o" * 150: ["A dog."]}
    bundle = write_classes(tmp_path / "widths.jsonl", wide)
    open_page(page, bundle)
    page.press("a", "r", "e", "End")
    page.press("!", "Enter", "e")
    for scheme in ("dark", "light"):
        page.prefer(scheme)
        for width in (360, 768, 1280):
            page.resize(width, 800)
            page.run("new Promise(requestAnimationFrame)")
            assert page.run("document.documentElement.scrollWidth") == width
            assert page.run(BEYOND) == 0
            assert page.run(CONTRASTS) == [], (scheme, width)
    page.resize(360, 800)
    page.press("Escape", "g")
    assert page.run("document.getElementById('side').checkVisibility()")
    page.press("d", "Enter")
    assert page.run(CURRENT) == "A dog."
    assert not page.run("document.getElementById('side').checkVisibility()")
    assert page.run(UNNAMED) == []
    assert page.said == []


@needs_browser
def test_everything_listed_is_printed(page: Page, tmp_path: Path) -> None:
    bundle = write_classes(tmp_path / "printed.jsonl", {"cat": [f"Sentence {number}." for number in range(300)]})
    open_page(page, bundle)
    page.press("Shift+R", "n", "o", "Enter", "2")
    page.press("0")
    page.run("dispatchEvent(new Event('beforeprint'))")
    lines = page.run("[...document.querySelectorAll('#print p')].map((line) => line.textContent)")
    assert (len(lines), lines[0]) == (300, "Rejected Sentence 0. (no)")
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run("document.getElementById('print').childElementCount") == 0


def test_nothing_in_the_page_can_run(tmp_path: Path) -> None:
    bundle = write_classes(tmp_path / "inert.jsonl", {"cat": [HOSTILE, "x\u2028y", "$style"], HOSTILE[:60]: []})
    write_page(bundle, tmp_path / "page.html", scores_of(bundle))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    head, _, rest = text.partition('<script type="application/json" id="data">')
    data, _, tail = rest.partition("</script>")
    (policy,) = re.findall('Content-Security-Policy" content="([^"]*)"', head)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search("src=|href=|https?://", head + tail)
    assert "<" not in data
    assert text.count("<script>") == 1
    assert json.loads(data)["classes"][0]["rows"][0][1] == HOSTILE


def test_photos_of_the_costliest_sentences_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_classes(tmp_path / "photos.jsonl", TEXTS)
    scores = scores_of(bundle)
    photo = scores.examples[0]
    many = scores.model_copy(
        update={
            "examples": (photo, photo, photo, photo),
            "sentences": tuple(
                score.model_copy(update={"examples": (place,)}) for place, score in enumerate(scores.sentences[:3])
            ),
        }
    )
    monkeypatch.setattr(rendering, "_MAX_PHOTO_CHARACTERS", 2 * len(photo.thumbnail))
    write_page(bundle, tmp_path / "page.html", many)
    text = (tmp_path / "page.html").read_text(encoding="utf-8").partition('id="data">')[2].partition("</script>")[0]
    data = json.loads(text)
    # of the first three one would be too much; the last one no sentence names
    assert [example is not None for example in data["scores"]["examples"]] == [False, True, True, False]
    assert data["scores"]["remarks"][-1] == "1 photo is left out, so that the page stays small."


def test_scores_of_another_bundle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle = write_classes(tmp_path / "one.jsonl", TEXTS)
    other = write_classes(tmp_path / "two.jsonl", TEXTS)
    assert find_scores(bundle, tmp_path) is None
    scores_of(bundle).write(BundleScores.path_in(tmp_path, bundle.reference))
    assert find_scores(bundle, tmp_path) == scores_of(bundle)
    assert not caplog.messages
    with pytest.raises(UsageError, match=r"the scores must be of two@1\.0\.0#.*, got those of 'one@1\.0\.0#"):
        write_review(other, tmp_path / "out", scores_of(bundle))
    assert not (tmp_path / "out").exists()
    scores_of(other).write(BundleScores.path_in(tmp_path, bundle.reference))
    assert find_scores(bundle, tmp_path) is None
    assert "are of 'two@1.0.0#" in caplog.messages[-1]
    BundleScores.path_in(tmp_path, bundle.reference).write_text("{}")
    assert find_scores(bundle, tmp_path) is None
    assert "holds no scores" in caplog.messages[-1]
