"""The page: self-contained, and nothing from outside can break it."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from importlib.resources import files

import numpy as np
import PIL.Image
import pytest
from report_pages import HOSTILE, Page, make_image, make_page, page_text
from result_records import make_records

from abs_classify.evaluation.metrics import evaluate_ranks
from abs_classify.report import explanation_image, render_report, write_report
from abs_classify.report.layout import ReportImage, ReportPage, ViewPlaces
from abs_core.errors import StorageError


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(page_text(make_page(make_image(), make_image("b.png", winner="dog", seed=1))))


def test_the_page_loads_nothing_and_runs_one_script(page):
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"iframe", "object", "embed", "base", "audio", "video"}
    assert [a["href"] for a in page.all("link")] == ["data:,"]
    assert [a for a in page.all("script") if a.get("type") not in ("application/json", "text/plain")] == [{}]
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in {"style", "src", "srcset", "background", "action", "xlink:href"}, (tag, name)
            if name == "href" and tag != "link":
                assert value.startswith("#"), (tag, value[:60])


def test_the_policy_allows_exactly_the_style_and_the_script_of_the_page():
    text = page_text(make_page(make_image()))
    [policy] = [a for a in Page(text).all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert style is not None
    assert script is not None
    assert (text.count("<style"), text.count("<script>")) == (1, 1)
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(part[1].encode()).digest()).decode() for part in (style, script)
    )
    assert policy["content"] == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    assert "@import" not in style[1]
    assert not re.search(r"innerHTML|eval\(|fetch\(|XMLHttpRequest|http:(?!//www.w3.org/2000/svg)", script[1])


def test_hostile_text_is_shown_and_does_nothing(page):
    image = make_image(name=HOSTILE, truth=HOSTILE, winner=HOSTILE)
    hostile = make_page(
        image,
        title=HOSTILE,
        subtitle=HOSTILE,
        facts=((HOSTILE, HOSTILE),),
        notes=(HOSTILE,),
        warnings=(HOSTILE,),
        footer=((HOSTILE, HOSTILE),),
        results=tuple(make_records([evaluate_ranks(HOSTILE, np.array([1, 2]), np.array([0, 1]), 8)])),
        index="index.html",
    )
    text = page_text(hostile)
    shown = Page(text)
    assert {tag for tag, _ in shown.tags} <= {tag for tag, _ in page.tags}
    allowed = {name for _, attributes in page.tags for name in attributes}
    assert {name for _, attributes in shown.tags for name in attributes} <= allowed
    assert not set(text) & set("\u202e\u2066\x1b\x00")
    assert "\\u202eevil\\u2066\\x1b[31m\\x00\\n" in shown.text
    assert "<script>alert(1)</script>" in shown.text  # as text
    assert "\\u202eevil" in shown.table["names"][0]
    assert "<script>alert(1)</script>" in shown.details(0)["why"]["winner"]
    assert len(shown.all("style")) == 1
    assert len(shown.all("script")) == 4  # rows, script, picture, details


def test_ids_are_unique_and_every_reference_has_its_target(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for name in ("aria-labelledby", "aria-controls", "list"):
        assert {a[name] for _, a in page.tags if name in a} <= set(ids)
    assert all(th.get("scope") in {"row", "col"} for th in page.all("th"))


def test_what_is_drawn_of_an_image_is_its_layout(page):
    details = page.details(0)
    image = make_image()
    kinds = {panel["kind"]: panel for panel in details["panels"]}
    assert kinds["attention"]["alt"] == "Attention over cat.png: highest in the upper right"
    boxes = image.views[0].boxes
    expected = {(float(a), float(b), float(c - a), float(d - b)) for a, b, c, d in boxes}
    drawn = {tuple(map(float, outline[:4])) for key in ("faint", "marked") for outline in kinds["box"][key]}
    assert expected == drawn
    strongest = next(outline for outline in kinds["box"]["marked"] if outline[4] == 1)
    assert tuple(strongest[:2]) == tuple(boxes[7, :2])
    assert details["size"] == [640, 427]
    why = details["why"]
    assert (why["winner"], why["other"], why["otherIsTrue"], why["otherSentences"][0]) == (
        "tabby cat",
        "lynx",
        False,
        97,
    )
    # a view adds to the scores of both classes, and the difference is its share
    assert why["views"][0]["sides"] == ["+310.0", "+100.0"]
    assert why["views"][0]["value"] == "+210.0"


def test_the_page_says_what_was_measured_and_explains_its_scales(page):
    for words in ("no difference that this many images can show", "better", "Margin", "Confidence", "Attention"):
        assert words in page.text
    for axis in ("0 50 100", "\u2212"):
        assert axis in page.text
    assert "rows only" not in page.text
    assert "⚠" not in page.text


def test_it_says_how_many_images_have_pictures_and_which():
    images = [make_image(f"{n}.png", seed=n) for n in range(3)]
    few = make_page(*images)
    text = page_text(replace(few, pictured=[1], images=few.images[1:2]))
    shown = Page(text)
    assert "1 of 3 images have a picture and an explanation here: first those that abs gets wrong" in shown.text
    assert set(shown.stored) == {"table", "", "picture-1", "details-1"}
    assert shown.table["pictured"] == [1]
    assert "No image of 3 has a picture" in Page(page_text(replace(few, pictured=[], images=[]))).text


def test_the_images_are_taken_one_by_one_while_the_page_is_written():
    images = [make_image(f"{n}.png", seed=n, position=n) for n in range(3)]
    taken: list[int] = []

    def one_by_one():
        for image in images:
            taken.append(image.position)
            yield image

    blocks = render_report(replace(make_page(*images), images=one_by_one()))
    until = [next(taken.copy() for block in blocks if f'id="details-{n}"' in block) for n in range(3)]
    assert until == [[0], [0, 1], [0, 1, 2]]


def test_a_page_of_several_leads_back_to_their_list():
    assert 'href="index.html"' in page_text(make_page(make_image(), index="index.html"))
    assert "index.html" not in page_text(make_page(make_image()))


def test_a_warning_stands_out():
    shown = Page(page_text(make_page(warnings=("5 of 1000 images are right: at the level of chance.",))))
    assert len(shown.all("p", "warning")) == 1
    assert "at the level of chance" in shown.text


@pytest.mark.parametrize("size", [(1, 1), (20000, 30), (30, 2000)])
def test_extreme_sizes_work(size):
    pixels = PIL.Image.new("RGB", size, "red")
    places = (ViewPlaces("box", np.array([[0, 0, size[0], size[1]], [0, 0, 0, 0]])),)
    image = replace(make_image(), pixels=pixels, size=size, attention=np.ones((1, 1)), views=places)
    details = Page(page_text(make_page(image))).stored["details-0"]
    assert "nan" not in details.lower()
    assert explanation_image(image).width == 1240


def test_an_empty_page_and_a_bare_image_work():
    empty = Page(page_text(ReportPage("Nothing")))
    assert "Nothing" in empty.text
    assert not empty.all("script")
    bare = ReportImage("a.png", PIL.Image.new("RGB", (8, 8)), (8, 8), predictions=make_image().predictions)
    shown = Page(page_text(make_page(bare, results=())))
    assert len(shown.details(0)["panels"]) == 1
    assert shown.details(0)["why"] is None


def test_twenty_images_stay_under_a_megabyte_and_a_half(tmp_path):
    path = tmp_path / "deep" / "report.html"
    write_report(make_page(*(make_image(f"{n}.png", seed=n) for n in range(20))), path)
    # 400 photos under 30 MB are 75 kB each; these are of noise
    assert path.stat().st_size < 1_500_000
    # each image is stored once, however often it is shown
    assert len([a for a in Page(path.read_text(encoding="utf-8")).all("script") if a.get("type") == "text/plain"]) == 20


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
