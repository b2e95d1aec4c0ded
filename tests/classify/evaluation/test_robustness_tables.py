"""Robustness in every format: the same numbers, no markup from outside, and no claim of what was not measured."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from result_records import make_records

from abs_classify import RobustnessResults, RobustnessSettings
from abs_classify.encoding.work import WorkCounts
from abs_classify.evaluation.metrics import evaluate_ranks
from abs_classify.evaluation.robustness import (
    AddedClassEffect,
    ClassOrderEffect,
    DetectionEstimate,
    IntervalEstimate,
    RegimeEffect,
    StreamOrderEffect,
    UnknownClassDetection,
    assess_confidence,
)
from abs_core.descriptions import LabelSpace
from abs_core.labels import from_names

HALF = IntervalEstimate(0.5, 0.25, 0.75)
NONE = IntervalEstimate(0.0, -0.125, 0.125)
GAIN = IntervalEstimate(0.25, 0.125, 0.375)


def make_results(name: str = "abs") -> RobustnessResults:
    rng = np.random.default_rng(0)
    confidences = rng.random(60)
    right = rng.random(60) < confidences
    detection = DetectionEstimate(HALF, GAIN)
    regime = RegimeEffect(name, "long tail", False, 40.0, 5.0, 8.0, HALF, NONE, HALF, NONE, IntervalEstimate(0, 0, 0.1))
    return RobustnessResults(
        [assess_confidence(name, confidences, right)],
        [UnknownClassDetection(name, 2, 4, detection, HALF, [0.4, 0.6])],
        [ClassOrderEffect(name, IntervalEstimate(0, 0, 0.0625), False, 0)],
        [AddedClassEffect(name, 10, HALF, NONE, GAIN, GAIN)],
        [StreamOrderEffect(name, HALF, [0.5], None, 0.5)],
        [regime, replace(regime, stream=True, regime="few classes", top1_difference=GAIN)],
        RobustnessSettings(added=LabelSpace.of_labels(from_names(["owl"]))),
        0,
        make_records([evaluate_ranks("clip", np.ones(4, np.int64), np.arange(4) % 2, 2)]),
        ["warning: a | b", "another"],
        WorkCounts(),
    )


def test_text_has_every_section_with_marks_where_nothing_is_shown() -> None:
    text = str(make_results())
    assert [line for line in text.splitlines() if line.endswith(":")] == [
        "calibration of the confidences:",
        "right against wrong labels, by their confidence:",
        "known against hidden classes, by the confidence of the label (2 of 4 classes hidden):",
        "another order of the classes:",
        "classes added that no image shows:",
        "another order of the images, for stream methods:",
        "parts of the images by themselves, all classes being candidates:",
    ]
    assert "0.0 [-12.5, +12.5] ~" in text
    assert "+25.0 [+12.5, +37.5]" in text
    rows = [line.split() for line in text.splitlines() if "long tail, 8 to 1" in line]
    assert rows[0].count("0") == 3  # of a method that looks at each image alone
    assert "warning: a | b" in text
    assert "note: another" in text
    assert "40.0 to 60.0" in text


def test_a_section_without_numbers_is_left_out() -> None:
    bare = replace(make_results(), unknown=[], added=[], streams=[], regimes=[])
    text = str(bare)
    assert "hidden" not in text.split("note: 95 %")[0].replace("added classes", "")
    assert "another order of the classes:" in text
    assert "~" not in text


def test_markdown_and_latex_hold_the_same_and_read_no_name_as_markup() -> None:
    results = make_results("a|b_c$d")
    markdown, latex = results.to_text("markdown"), results.to_text("latex")
    assert markdown.startswith("## Robustness\n")
    assert markdown.count("### ") == 7
    assert "a|b_c$d" not in markdown
    assert "0.0 [-12.5, +12.5] (n.s.)" in markdown
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == 7
    assert r"a\textbar{}b\_c\$d" in latex
    assert r"\label{tab:abs-class-order}" in latex
    assert all(text.endswith("\n") and not text.endswith("\n\n") for text in (markdown, latex))


def test_csv_and_json_have_all_digits() -> None:
    results = make_results()
    rows = list(csv.DictReader(io.StringIO(results.to_text("csv"))))
    found = {(row["section"], row["condition"], row["measure"]): row for row in rows}
    error = results.confidences[0].equal_width.error
    row = found["confidences", "", "equal_width.error"]
    assert (float(row["value"]), float(row["low"]), float(row["high"])) == (error.value, error.low, error.high)
    assert found["added", "10", "lost"]["value"] == "0.25"
    assert found["regimes", "long tail", "mean_recall"]["high"] == "0.75"
    assert float(found["unknown", "", "by_draw.1"]["value"]) == 0.6
    assert "bins.0.accuracy" in {row["measure"] for row in rows}
    value = json.loads(json.dumps(results.to_dict()))
    assert value["confidences"][0]["equal_width"]["error"]["value"] == error.value
    assert value["settings"]["added"].startswith("labels labels#sha256:")
    assert value["streams"][0]["changed"] is None
    assert len(value["confidences"][0]["bins"]) == len(results.confidences[0].bins)


@pytest.mark.parametrize("form", ["text", "markdown", "latex", "csv"])
def test_equal_results_give_equal_text(form: str) -> None:
    assert make_results().to_text(form) == replace(make_results(), work=WorkCounts(images=3)).to_text(form)


def test_a_notebook_and_pandas_show_the_same() -> None:
    pytest.importorskip("pandas")
    results = make_results("<b>abs")
    assert repr(results) == "<RobustnessResults of <b>abs: 4 images, 5 draws>"
    page = results._repr_html_()
    assert "<b>abs" not in page
    assert page.count("<table") == 7
    frame = results.to_pandas()
    error = results.confidences[0].equal_width.error
    assert frame[frame.measure == "equal_width.error"].value.item() == error.value
    assert len(frame) == len(list(csv.reader(io.StringIO(results.to_text("csv"))))) - 1


@pytest.mark.parametrize(("is_right", "kind"), [(True, "wrong"), (False, "right")])
def test_a_method_without_both_kinds_of_labels_is_explained(is_right: bool, kind: str) -> None:
    results = make_results()
    one_sided = assess_confidence("clip", np.linspace(0.1, 0.9, 9), np.full(9, is_right))
    text = str(replace(results, confidences=[*results.confidences, one_sided]))
    section = text[text.index("right against wrong labels") : text.index("known against hidden")]
    assert [line.split() for line in section.splitlines() if line.startswith("clip ")] == [["clip", "-", "-"]]
    assert f"-: no label of clip is {kind}, so that there is nothing to tell apart" in " ".join(section.split())
    assert "no label of" not in str(results)
