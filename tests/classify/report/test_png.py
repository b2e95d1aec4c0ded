"""The picture of one explanation."""

from __future__ import annotations

import numpy as np
import PIL.Image
from report_pages import HOSTILE, make_image, ranked

from abs_classify.explanation import Explanation, RankedClass, SentenceShare
from abs_classify.report import explanation_image, explanation_png
from abs_classify.report.layout import ReportImage


def test_the_picture_of_an_explanation(tmp_path):
    path = tmp_path / "cat.png"
    explanation_png(make_image(), path)
    picture = PIL.Image.open(path)
    picture.load()
    assert (picture.format, picture.mode, picture.width) == ("PNG", "RGB", 1240)
    colours = {colour for _, colour in picture.getcolors(maxcolors=1 << 20)}
    # bars for and against, the bar of the true class, and the outline of the strongest view
    assert {(0x1F, 0x6F, 0xD1), (0xC6, 0x5A, 0x00), (0x0B, 0x6E, 0x46), (0xFF, 0xB0, 0x00)} <= colours
    # views under the ranking, sentences beside them
    bars = (np.asarray(picture) == (0x1F, 0x6F, 0xD1)).all(axis=2)
    assert bars[:, :620].any()
    assert bars[:, 620:].any()


def test_the_picture_grows_with_its_texts():
    long = SentenceShare("word " * 100 + "x" * 400, "tabby cat", 1.0, 1.0)
    best = RankedClass("tabby cat", HOSTILE, 3.0)
    explanation = Explanation("abs", best, ranked("b", 1.0), (), (long,) * 30, 0, 30)
    image = ReportImage("a.png", PIL.Image.new("RGB", (8, 8)), (8, 8), explanation=explanation)
    picture = explanation_image(image)
    assert picture.height > 3000
    # what is drawn ends above the lower margin and left of the right one
    ink = np.asarray(picture.convert("L")) < 200
    assert ink[-60:-28].any()
    assert not ink[-20:].any()
    assert not ink[:, -20:].any()
