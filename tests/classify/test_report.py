"""The report: one self-contained page that nothing from outside can break, and the picture of one explanation."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import PIL.Image
import pytest
from result_records import make_records

from abs_classify.evaluation.metrics import evaluate_ranks
from abs_classify.explanation import Explanation, RankedClass, SentenceShare, ViewShare
from abs_classify.report import explanation_image, explanation_png, render_report, write_report
from abs_classify.report.data import (
    MethodPrediction,
    ReportImage,
    ReportPage,
    ViewPlaces,
)
from abs_classify.report.drawing import heat_colours, heat_overlay, levels, peak_words, photo_uri, thumbnail
from abs_classify.report.layout import TAG, Outline, panels, ranking, reasons, tag_places
from abs_core.errors import StorageError, UsageError

HOSTILE = (
    "<script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(1)>"
    "\u202eevil\u2066\x1b[31m\x00\n</style>"
)


class Page(HTMLParser):
    """Every start tag with its attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag: str, css_class: str | None = None) -> list[dict[str, str]]:
        return [a for t, a in self.tags if t == tag and (css_class is None or css_class in a.get("class", "").split())]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def ranked(name: str, score: float) -> RankedClass:
    return RankedClass(name, name, score)


def make_photo(name="cat.png", truth="tabby cat", winner="tabby cat", seed=0, size=(640, 427)) -> ReportImage:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 255, (size[1] // 8 + 1, size[0] // 8 + 1, 3), dtype=np.uint8)
    image = PIL.Image.fromarray(pixels).resize(size, PIL.Image.Resampling.BICUBIC)
    attention = np.zeros((14, 14))
    attention[2, 11] = 1.0
    left, upper = rng.integers(0, size[0] // 3, 50), rng.integers(0, size[1] // 3, 50)
    boxes = np.stack([left, upper, left + size[0] // 2, upper + size[1] // 2], axis=1)
    windows = np.array([[0, 4, 1, 6], [2, 7, 2, 7], [2, 7, 2, 7], [0, 7, 0, 7]])
    runner_up = "lynx"
    top = (ranked(winner, 700.0), ranked(runner_up, 200.0))
    rank = 1 if truth == winner else 17
    explanation = Explanation(
        method="abs",
        winner=top[0],
        runner_up=top[1],
        sentences=(
            SentenceShare("The tabby cat has a striped coat.", winner, 300.0, 300.0),
            SentenceShare("The lynx has tufted ears.", runner_up, 100.5, -100.5),
            SentenceShare("Tabby cats have an M on the forehead.", winner, 250.0, 250.0),
        ),
        views=(
            ViewShare("box", 7, 310.0, 100.0, "The tabby cat has a striped coat."),
            ViewShare("window", 0, 90.0, 0.0, "The tabby cat has a striped coat."),
            ViewShare("box", 3, 10.0, 50.0, "The tabby cat has a striped coat."),
        ),
        sentence_count=100,
        view_count=54,
    )
    return ReportImage(
        name=name,
        image=image,
        size=size,
        truth=truth,
        attention=attention,
        views=(ViewPlaces("box", boxes), ViewPlaces("window", windows, grid=7, area=(106.5, 0.0, 533.5, 427.0))),
        predictions=(
            MethodPrediction("clip", (ranked(truth, 0.25), ranked(runner_up, 0.2)), 1),
            MethodPrediction("abs", top, rank),
        ),
        explanation=explanation,
    )


def make_page(*photos: ReportImage, **fields) -> ReportPage:
    labels = np.arange(40) % 20
    clip = evaluate_ranks("clip", np.where(np.arange(40) < 20, 1, 9), labels, 20)
    better = evaluate_ranks("abs", np.where(np.arange(40) < 33, 1, 3), labels, 20)
    same = evaluate_ranks("cupl", np.where(np.arange(40) < 21, 1, 3), labels, 20)
    records = make_records([clip, same, better], {"abs": "50 crops, 50 windows"}, {"clip": "a photo of a {}."})
    return ReportPage(
        **{
            "title": "Forty photos",
            "subtitle": "Without training.",
            "facts": (("Seed", "0"), ("Descriptions", "demo@0.1.0#sha256:" + "a" * 64)),
            "results": tuple(records),
            "photos": photos,
            "notes": ("It knows what ImageNet knows.",),
            "footer": (("torch", "2.6.0"),),
            **fields,
        }
    )


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_report(make_page(make_photo(), make_photo("b.png", winner="dog", seed=1))))


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
    text = render_report(make_page(make_photo()))
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
    photo = make_photo(name=HOSTILE, truth=HOSTILE, winner=HOSTILE)
    hostile = make_page(
        photo,
        make_photo(name=HOSTILE, truth=None),
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
    photo = make_photo()
    shown = Page(render_report(make_page(photo)))
    drawn = {tuple(float(r[k]) for k in ("x", "y", "width", "height")) for r in shown.all("rect", "faint")}
    drawn |= {tuple(float(r[k]) for k in ("x", "y", "width", "height")) for r in shown.all("rect", "line")}
    boxes = photo.views[0].boxes
    expected = {(float(a), float(b), float(c - a), float(d - b)) for a, b, c, d in boxes}
    assert expected <= drawn
    strongest = shown.all("rect", "n1")[0]
    assert (float(strongest["x"]), float(strongest["y"])) == tuple(boxes[7, :2])
    assert {svg["viewbox"] for svg in shown.all("svg") if svg.get("role") == "img"} == {"0 0 640 427"}


def test_windows_lie_on_the_area_that_the_grid_covers():
    places = make_photo().views[1]
    pixels = places.pixels((640, 427))
    assert pixels[3] == pytest.approx(places.area)
    # rows 0 to 4 and columns 1 to 6 of 7 on a square of 427 that starts at x = 106.5
    assert pixels[0] == pytest.approx([106.5 + 61.0, 0.0, 106.5 + 366.0, 244.0])
    whole = ViewPlaces("window", np.array([[0, 7, 0, 7]]), grid=7).pixels((640, 427))
    assert whole[0] == pytest.approx([0, 0, 640, 427])


def test_equal_windows_are_outlined_once_and_all_are_counted():
    panel = panels(make_photo())[3]
    assert panel.note == "4 views, 1 numbered"
    assert len(panel.faint) == 2
    assert [outline.number for outline in panel.marked] == [2]


def test_views_are_numbered_by_strength_and_those_against_are_marked():
    crops = panels(make_photo())[2]
    assert [(o.number, o.against) for o in crops.marked] == [(3, True), (1, False)]
    why = reasons(make_photo())
    assert [(bar.number, bar.text) for bar in why.views] == [(1, "crop 8"), (2, "window 1"), (3, "crop 4")]


def test_numbers_do_not_hide_each_other_where_there_is_room():
    same = [Outline(10, 10, 300, 200, number) for number in (3, 1, 2)]
    beside = [Outline(30, 14, 300, 200, 4), Outline(0, 0, 40, 120, 5)]
    unit = 2.0
    placed = tag_places([*same, *beside], unit)
    assert sorted(outline.number for outline, _, _ in placed) == [1, 2, 3, 4, 5]
    for index, (outline, x, y) in enumerate(placed):
        assert outline.x <= x <= outline.x + outline.width
        assert outline.y <= y <= outline.y + outline.height
        for _, other_x, other_y in placed[:index]:
            assert abs(x - other_x) >= TAG * unit or abs(y - other_y) >= TAG * unit
    assert placed[0][1:] == (14.0, 10.0)


def test_the_parts_add_up_to_the_margin():
    why = reasons(make_photo())
    shown = [bar.value for group in why.groups for bar in group.bars]
    values = [float(value.replace("\u2212", "-")) for value in [*shown, why.other_sentences[1]]]
    assert sum(values) == pytest.approx(500)
    assert why.margin == "+500.0"
    assert why.other_sentences[0] == 97
    views = [float(bar.value.replace("\u2212", "-")) for bar in why.views]
    assert sum(views) + float(why.other_views[1]) == pytest.approx(500)
    assert [group.label for group in why.groups] == ["tabby cat", "lynx"]
    assert [bar.length for bar in why.groups[0].bars] == pytest.approx([100.0, 250 / 3])


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


def test_bars_are_in_proportion_to_scores():
    low = ranking(MethodPrediction("clip", (ranked("a", 0.25), ranked("b", 0.2), ranked("c", -0.1))), None)
    assert [bar.length for bar in low.bars] == pytest.approx([100, 80, 0])
    assert [bar.value for bar in low.bars] == ["0.250", "0.200", "-0.100"]
    assert low.right is None


@pytest.mark.parametrize("size", [(1, 1), (20000, 30), (30, 2000)])
def test_extreme_sizes_work(size):
    image = PIL.Image.new("RGB", size, "red")
    places = (ViewPlaces("box", np.array([[0, 0, size[0], size[1]], [0, 0, 0, 0]])),)
    photo = ReportImage("x.png", image, size, attention=np.ones((1, 1)), views=places)
    assert "nan" not in re.sub(r"data:[^\"]*", "", render_report(ReportPage("t", photos=(photo,)))).lower()
    assert explanation_image(photo).width == 1240


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "CMYK", "1"])
def test_every_image_mode_becomes_a_jpeg(mode):
    uri = photo_uri(PIL.Image.new(mode, (40, 20)), 360)
    picture = PIL.Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (40, 20))


def test_transparent_pixels_are_white_and_thumbnails_keep_their_aspect():
    assert thumbnail(PIL.Image.new("RGBA", (800, 400), (0, 0, 0, 0)), 360).getpixel((5, 5)) == (255, 255, 255)
    assert thumbnail(PIL.Image.new("RGB", (800, 400)), 360).size == (360, 180)


def test_an_empty_page_and_a_bare_photo_work():
    assert "Nothing" in Page(render_report(ReportPage("Nothing"))).text
    bare = ReportImage("a.png", PIL.Image.new("RGB", (8, 8)), (8, 8))
    shown = Page(render_report(ReportPage("One", photos=(bare,))))
    assert len(shown.all("figure")) == 1
    assert not shown.all("fieldset")


def test_twenty_photos_stay_under_two_and_a_half_megabytes(tmp_path):
    path = tmp_path / "deep" / "report.html"
    write_report(make_page(*(make_photo(f"{n}.png", seed=n) for n in range(20))), path)
    assert path.stat().st_size < 2_500_000
    # each photo is stored once, however often it is shown
    assert path.read_text(encoding="utf-8").count("data:image/jpeg") == 20


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("x")
    with pytest.raises(StorageError, match="file"):
        write_report(make_page(), blocker / "report.html")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_picture_of_an_explanation(tmp_path):
    path = tmp_path / "cat.png"
    explanation_png(make_photo(), path)
    picture = PIL.Image.open(path)
    picture.load()
    assert (picture.format, picture.mode, picture.width) == ("PNG", "RGB", 1240)
    colours = {colour for _, colour in picture.getcolors(maxcolors=1 << 20)}
    # bars for and against, the bar of the true class, and the outline of the strongest view
    assert {(0x1F, 0x6F, 0xD1), (0xC6, 0x5A, 0x00), (0x0B, 0x6E, 0x46), (0xFF, 0xB0, 0x00)} <= colours


def test_the_picture_grows_with_its_texts():
    long = SentenceShare("word " * 100 + "x" * 400, "tabby cat", 1.0, 1.0)
    best = RankedClass("tabby cat", HOSTILE, 3.0)
    explanation = Explanation("abs", best, ranked("b", 1.0), (), (long,) * 30, 0, 30)
    photo = ReportImage("a.png", PIL.Image.new("RGB", (8, 8)), (8, 8), explanation=explanation)
    picture = explanation_image(photo)
    assert picture.height > 3000
    # what is drawn ends above the lower margin and left of the right one
    ink = np.asarray(picture.convert("L")) < 200
    assert ink[-60:-28].any()
    assert not ink[-20:].any()
    assert not ink[:, -20:].any()


def test_the_colour_map_gets_lighter_all_the_way():
    rgb = heat_colours() / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lightness = np.cbrt(linear @ np.array([0.2126, 0.7152, 0.0722]))
    assert (np.diff(lightness) > -0.002).all()
    # even steps: no quarter of the map holds less than a seventh of the range
    quarters = np.diff(lightness[[0, 64, 128, 192, 255]])
    assert quarters.min() > (lightness[-1] - lightness[0]) / 7
    assert heat_colours().shape == (256, 3)


def test_the_overlay_is_strongest_where_the_attention_is():
    attention = np.zeros((14, 14))
    attention[2, 11] = 5.0
    overlay = np.asarray(heat_overlay(attention).convert("RGBA"))
    row, column = np.unravel_index(overlay[..., 3].argmax(), overlay.shape[:2])
    assert (row * 14 // 64, column * 14 // 64) == (2, 11)
    assert overlay[0, 0, 3] < overlay[row, column, 3] < 255
    assert levels(np.full((3, 3), 7.0)).max() == 0


@pytest.mark.parametrize(
    ("cell", "words"),
    [((0, 0), "the upper left"), ((7, 7), "the centre"), ((13, 7), "the lower middle"), ((7, 13), "the right middle")],
)
def test_the_peak_in_words(cell, words):
    attention = np.zeros((14, 14))
    attention[cell] = 1
    assert peak_words(attention) == words


@pytest.mark.parametrize(
    "make",
    [
        lambda: ViewPlaces("box", np.zeros((3, 3), dtype=np.int64)),
        lambda: ViewPlaces("window", np.zeros((3, 4), dtype=np.int64)),
        lambda: ReportImage("a", PIL.Image.new("RGB", (1, 1)), (1, 1), attention=np.full((2, 2), np.nan)),
        lambda: ReportImage("a", PIL.Image.new("RGB", (1, 1)), (1, 1), attention=np.zeros(3)),
    ],
)
def test_data_that_cannot_be_drawn_is_refused(make):
    with pytest.raises(UsageError):
        make()


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
