"""The page: self-contained, and nothing from outside can break it."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

import numpy as np
import PIL.Image
import pytest
from report_pages import HOSTILE, Page, make_image, make_page
from result_records import make_records

from abs_classify.evaluation.metrics import evaluate_ranks
from abs_classify.report import explanation_image, render_report, write_report
from abs_classify.report.layout import ReportImage, ReportPage, ViewPlaces
from abs_core.errors import StorageError


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_report(make_page(make_image(), make_image("b.png", winner="dog", seed=1))))


def test_the_page_loads_nothing_and_runs_nothing(page):
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "audio", "video", "img"}
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in {"style", "src", "srcset", "background", "xlink:href"}, (tag, name)
            if name == "href":
                assert value.startswith(("#", "data:image/jpeg;base64,", "data:image/png;base64,")), (tag, value[:60])


def test_the_policy_allows_exactly_the_style_of_the_page():
    text = render_report(make_page(make_image()))
    [policy] = [a for a in Page(text).all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    assert text.count("<style") == 1
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy["content"] == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_hostile_text_is_shown_and_does_nothing(page):
    image = make_image(name=HOSTILE, truth=HOSTILE, winner=HOSTILE)
    hostile = make_page(
        image,
        make_image(name=HOSTILE, truth=None),
        title=HOSTILE,
        subtitle=HOSTILE,
        facts=((HOSTILE, HOSTILE),),
        notes=(HOSTILE,),
        warnings=(HOSTILE,),
        footer=((HOSTILE, HOSTILE),),
        results=tuple(make_records([evaluate_ranks(HOSTILE, np.array([1, 2]), np.array([0, 1]), 8)])),
    )
    text = render_report(hostile)
    shown = Page(text)
    assert {tag for tag, _ in shown.tags} <= {tag for tag, _ in page.tags}
    allowed = {name for _, attributes in page.tags for name in attributes}
    assert {name for _, attributes in shown.tags for name in attributes} <= allowed
    assert not set(text) & set("\u202e\u2066\x1b\x00")
    assert "\\u202eevil\\u2066\\x1b[31m\\x00\\n" in shown.text
    assert "<script>alert(1)</script>" in shown.text  # as text
    assert len(shown.all("style")) == 1


def test_ids_are_unique_and_every_reference_has_its_target(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for t, a in page.tags if t in {"use", "a"}} <= set(ids)
    assert {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a} <= set(ids)


def test_every_drawing_has_words_or_is_decoration(page):
    for svg in page.all("svg"):
        assert svg.get("aria-hidden") == "true" or (svg["role"] == "img" and svg["aria-label"])
    labels = [svg["aria-label"] for svg in page.all("svg") if "aria-label" in svg]
    assert "Attention over cat.png: highest in the upper right" in labels
    assert "Attention-guided crops outlined on cat.png: 50 views, 2 numbered by how much they decided" in labels
    assert all(th.get("scope") in {"row", "col"} for th in page.all("th"))


def test_boxes_are_drawn_in_pixels_of_the_original():
    image = make_image()
    shown = Page(render_report(make_page(image)))
    drawn = {tuple(float(r[k]) for k in ("x", "y", "width", "height")) for r in shown.all("rect", "faint")}
    drawn |= {tuple(float(r[k]) for k in ("x", "y", "width", "height")) for r in shown.all("rect", "line")}
    boxes = image.views[0].boxes
    expected = {(float(a), float(b), float(c - a), float(d - b)) for a, b, c, d in boxes}
    assert expected <= drawn
    strongest = shown.all("rect", "n1")[0]
    assert (float(strongest["x"]), float(strongest["y"])) == tuple(boxes[7, :2])
    assert {svg["viewbox"] for svg in shown.all("svg") if svg.get("role") == "img"} == {"0 0 640 427"}


def test_the_page_says_what_decided_and_who_was_right(page):
    for words in (
        "The tabby cat has a striped coat.",
        "97 other sentences",
        "all views together",
        "abs is wrong",
        "true label tabby cat: place 17",
        "1 that abs gets wrong",
        "no difference that this many images can show",
        "better",
    ):
        assert words in page.text
    assert "⚠" not in page.text


def test_a_warning_stands_out():
    shown = Page(render_report(make_page(warnings=("5 of 1000 images are right: at the level of chance.",))))
    assert len(shown.all("p", "warning")) == 1
    assert "at the level of chance" in shown.text


@pytest.mark.parametrize("size", [(1, 1), (20000, 30), (30, 2000)])
def test_extreme_sizes_work(size):
    pixels = PIL.Image.new("RGB", size, "red")
    places = (ViewPlaces("box", np.array([[0, 0, size[0], size[1]], [0, 0, 0, 0]])),)
    image = ReportImage("x.png", pixels, size, attention=np.ones((1, 1)), views=places)
    assert "nan" not in re.sub(r"data:[^\"]*", "", render_report(ReportPage("t", images=(image,)))).lower()
    assert explanation_image(image).width == 1240


def test_an_empty_page_and_a_bare_image_work():
    assert "Nothing" in Page(render_report(ReportPage("Nothing"))).text
    bare = ReportImage("a.png", PIL.Image.new("RGB", (8, 8)), (8, 8))
    shown = Page(render_report(ReportPage("One", images=(bare,))))
    assert len(shown.all("figure")) == 1
    assert not shown.all("fieldset")


def test_twenty_images_stay_under_two_and_a_half_megabytes(tmp_path):
    path = tmp_path / "deep" / "report.html"
    write_report(make_page(*(make_image(f"{n}.png", seed=n) for n in range(20))), path)
    assert path.stat().st_size < 2_500_000
    # each image is stored once, however often it is shown
    assert path.read_text(encoding="utf-8").count("data:image/jpeg") == 20


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("x")
    with pytest.raises(StorageError, match="file"):
        write_report(make_page(), blocker / "report.html")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def _luminance(colour: str) -> float:
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("scheme", [0, 1])
def test_texts_have_contrast_in_light_and_dark(scheme):
    style = files("abs_classify.report").joinpath("page.css").read_text(encoding="utf-8")
    block = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    pairs = [("ink", "ground"), ("quiet", "ground"), ("ink", "card"), ("quiet", "card"), ("good", "card")]
    pairs += [("bad", "card"), ("bad", "ground"), ("good", "ground"), ("good", "good-ground"), ("bad", "bad-ground")]
    pairs += [("ink", "warn-ground")]
    for front, back in pairs:
        high, low = sorted((_luminance(colours[front]), _luminance(colours[back])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (front, back)  # WCAG 2.2, AA
    for front in ("pro", "contra", "fill"):  # bars: graphics need 3
        high, low = sorted((_luminance(colours[front]), _luminance(colours["card"])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 3, front
