"""The index of a folder of pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from report_pages import Page, make_image, table_of
from result_records import make_records

from abs_classify.evaluation.metrics import evaluate_ranks
from abs_classify.evaluation.records import ResultRecord
from abs_classify.evaluation.tables import p_value_text, proportion_text
from abs_classify.report.highlights import draw_highlights
from abs_classify.report.index_page import IndexEntry, write_index

LABELS = np.arange(40) % 8


def _records(*methods: str) -> list[ResultRecord]:
    return make_records(
        [evaluate_ranks(name, np.where(np.arange(40) % (2 + number), 1, 3), LABELS, 8)
         for number, name in enumerate(methods)]
    )  # fmt: skip


def test_each_page_is_linked_with_its_numbers(tmp_path: Path) -> None:
    records = _records("clip", "abs")
    details = records[0].details.model_copy(update={"notes": ["by A. Author"]})
    records[0] = records[0].model_copy(update={"details": details})
    path = write_index([IndexEntry("01-a b.html", records), IndexEntry("02.html", _records("wca"))], 2, tmp_path)
    page = Page(path.read_text(encoding="utf-8"))
    assert [link["href"] for link in page.all("a")] == ["01-a%20b.html", "02.html"]
    assert all(proportion_text(record.details.top1) in page.text for record in records)
    difference = records[1].details.difference
    assert difference is not None
    assert p_value_text(difference.p_value) in page.text
    assert "Minus clip" in page.text
    assert "by A. Author" in page.text
    assert "Warning" not in page.text


def test_an_index_of_a_run_that_goes_on_says_so(tmp_path: Path) -> None:
    path = write_index([IndexEntry("01.html", _records("clip"))], 3, tmp_path)
    assert "1 of 3 evaluations are done" in Page(path.read_text(encoding="utf-8")).text


def test_names_are_no_markup(tmp_path: Path) -> None:
    path = write_index([IndexEntry("'\"><script>.html", _records("<b>x\x1b</b>"))], 1, tmp_path)
    text = path.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<b>x" not in text
    assert "\x1b" not in text


def test_it_opens_with_the_images_of_each_data_set_once(tmp_path: Path) -> None:
    image = make_image(position=3)
    shown = draw_highlights(table_of([image]), "clip", lambda _: [make_image()])
    records = _records("clip", "abs")
    other = [record.model_copy(update={"dataset": "other"}) for record in records]
    entries = [IndexEntry(f"{name}.html", rows, shown) for name, rows in (("a", records), ("b", records), ("c", other))]
    page = Page(write_index(entries, 3, tmp_path).read_text(encoding="utf-8"))
    links = [link["href"] for link in page.all("a")]
    assert links == ["a.html#image-0", "c.html#image-0", "a.html", "b.html", "c.html"]
    assert "other: the first of 1 image that abs gets right" in page.text
    assert "img-src data:" in next(tag["content"] for tag in page.all("meta") if "http-equiv" in tag)
