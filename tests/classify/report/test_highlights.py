"""What a page opens with, and by which rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from report_pages import HOSTILE, Page, make_image, make_page, page_text, table_of

from abs_classify.explanation import SentenceShare
from abs_classify.report.highlights import choose_highlights, draw_highlights, highlights_markup
from abs_classify.report.image_rows import ImageRows, MethodColumns


def _table(clip: list[bool], main: list[bool]) -> ImageRows:
    def columns(name: str, right: list[bool]) -> MethodColumns:
        top = np.array([0 if is_right else 1 for is_right in right])
        return MethodColumns(name, top, top[:0], np.empty(0), np.empty(0), top + 1)

    names = [f"{place}.png" for place in range(len(main))]
    return ImageRows(names, ["cat", "dog"], [columns("clip", clip), columns("abs", main)], "abs", [0] * len(main))


YES, NO = True, False


REVERSE = "of 4 images, clip right and abs wrong on 1"


@pytest.mark.parametrize(
    ("clip", "main", "expected"),
    [
        ([NO, YES, NO, YES], [NO, YES, YES, NO], {1: "The first of 2 images", 2: f"clip wrong on 1 {REVERSE}"}),
        ([NO, YES], [YES, YES], {0: "clip wrong on 1 of 2 images, clip right and abs wrong on 0"}),
        (
            [YES, YES],
            [NO, YES],
            {1: "The first of 1 image that abs gets right, of 2; abs is right and clip wrong on 0"},
        ),
        ([YES, NO], [NO, NO], {0: "abs gets no image right; this is the first"}),
    ],
)
def test_the_first_image_for_which_a_rule_holds_is_shown_with_the_rule(
    clip: list[bool], main: list[bool], expected: dict[int, str]
) -> None:
    chosen = choose_highlights(_table(clip, main), "clip")
    assert [position for position, _ in chosen] == list(expected)
    for position, rule in chosen:
        assert expected[position] in rule


@pytest.mark.parametrize("base", ["", "abs", "gone"])
def test_without_another_method_nothing_is_compared(base: str) -> None:
    chosen = choose_highlights(_table([NO, NO], [NO, YES]), base)
    assert chosen == [(1, "The first of 1 image that abs gets right, of 2")]


def test_without_labels_there_is_none() -> None:
    assert choose_highlights(replace(_table([YES], [YES]), truth=()), "clip") == []


def test_the_image_is_shown_with_its_label_where_the_method_looked_and_the_sentence() -> None:
    image = make_image()
    drawn = draw_highlights(table_of([image]), "clip", lambda positions: [image for _ in positions])
    page = Page(page_text(make_page(image, highlights=drawn)))
    assert page.text.index("tabby cat") < page.text.index("Results")
    assert "✓ abs : tabby cat" in page.text
    assert "The tabby cat has a striped coat. The sentence that spoke most for abs ’s answer, against lynx" in page.text
    assert "#image-0" in [link["href"] for link in page.all("a")]
    pictures = [entry["href"][:15] for entry in page.all("image")]
    assert pictures == ["data:image/jpeg", "data:image/png;"]
    outline = page.all("rect", "line")[0]
    places = image.views[0].boxes[7]
    assert [float(outline[name]) for name in ("x", "y")] == places[:2].tolist()


def test_what_spoke_against_the_answer_is_not_what_decided() -> None:
    image = make_image()
    assert image.explanation is not None
    against = SentenceShare("It barks.", "tabby cat", -900.0, -900.0)
    sentences, views = image.explanation.sentences, image.explanation.views
    opposed = replace(image.explanation, sentences=(against, *sentences), views=(views[2], *views[:2]))
    (entry,) = draw_highlights(table_of([image]), "", lambda _: [replace(image, explanation=opposed)])
    assert entry.sentence == "The tabby cat has a striped coat."
    assert entry.outline is not None
    assert [entry.outline.x, entry.outline.y] == image.views[0].boxes[7][:2].tolist()
    none = replace(image.explanation, sentences=(against,), views=views[2:])
    (entry,) = draw_highlights(table_of([image]), "", lambda _: [replace(image, explanation=none)])
    assert (entry.sentence, entry.outline) == ("", None)


def test_a_view_as_wide_as_the_image_is_outlined_and_the_full_image_is_not() -> None:
    image = make_image(size=(320, 640))
    for box, is_outlined in (([0, 100, 320, 420], True), ([0, 0, 320, 640], False)):
        boxes = image.views[0].boxes.copy()
        boxes[7] = box
        shown = replace(image, views=(replace(image.views[0], boxes=boxes), *image.views[1:]))
        (entry,) = draw_highlights(table_of([image]), "", lambda _, shown=shown: [shown])
        assert (entry.outline is not None) is is_outlined


def test_an_image_without_a_picture_below_has_no_link() -> None:
    image = make_image()
    drawn = draw_highlights(table_of([image]), "clip", lambda _: [image])
    page = Page(page_text(make_page(image, highlights=drawn, pictured=[])))
    assert "#image-0" not in [link.get("href") for link in page.all("a")]


def test_what_comes_from_outside_is_no_markup() -> None:
    image = make_image(name=HOSTILE, truth=HOSTILE, winner=HOSTILE)
    bare = replace(image, attention=None, explanation=None, views=())
    for shown in (image, bare):
        (entry,) = draw_highlights(table_of([shown]), "clip", lambda _, shown=shown: [shown])
        text = str(highlights_markup([(entry, "#image-0")]))
        assert "<script" not in text
        assert "<img" not in text
        assert not set(text) & set("\u202e\u2066\x1b\x00")
        assert ("Attention" in text, "blockquote" in text) == (shown is image, shown is image)
