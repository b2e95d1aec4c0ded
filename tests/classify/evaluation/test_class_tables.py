"""Tables of classes in their formats."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

from prediction_samples import make_pass, make_predictions

from abs_classify.evaluation.class_tables import class_page

LABELS = [0, 0, 0, 0, 1, 1]
RUN = make_predictions(
    LABELS, [make_pass("clip", LABELS, [0, 0, 1, 2, 1, 0]), make_pass("abs", LABELS, [0, 0, 0, 0, 0, 0])]
)


def test_text_begins_with_the_least_accurate_class() -> None:
    lines = class_page(RUN, "abs", "clip", title="photos").text().splitlines()
    assert lines[0] == "photos"
    assert [line.split()[0] for line in lines[5:7]] == ["bee", "ant"]
    assert "classes that gain from clip to abs:" in lines
    assert "classes that lose from clip to abs:" in lines
    assert next(line for line in lines if line.startswith("ant") and "+50.0" in line).split()[1:4] == ["4", "2", "0"]


def test_a_long_table_says_that_it_was_cut() -> None:
    text = class_page(RUN, "clip", limit=1).text()
    assert "classes, the least accurate first, 1 of 2:" in text
    assert "most confused pairs, 1 of 3:" in text
    assert "gain" not in text


def test_markdown_shows_hostile_names_as_text() -> None:
    hostile = replace(RUN, class_names=["a|b [x](http://y)", "<b>", "cat"])
    lines = [line for line in class_page(hostile, "clip", "abs").markdown().splitlines() if line.startswith("| ")]
    assert not any("[x](" in line or "<b>" in line for line in lines)
    assert {line.count("|") for line in lines} == {5, 6, 7}


def test_csv_and_json_have_every_class() -> None:
    page = class_page(RUN, "abs", "clip", limit=1)
    rows = list(csv.DictReader(io.StringIO(page.csv())))
    values = json.loads(json.dumps(page.to_dict()))
    assert [row["class_name"] for row in rows] == [entry["class_name"] for entry in values["classes"]] == ["ant", "bee"]
    assert [float(row["gain_difference"]) for row in rows] == [0.5, -0.5]
    assert [gain["difference"] for gain in values["gains"]] == [0.5, -0.5]
