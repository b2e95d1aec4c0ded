"""Figures as PNG and PDF."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from prediction_samples import make_pass, make_predictions
from result_records import make_records

from abs_classify.evaluation.class_accuracy import class_gains
from abs_classify.evaluation.figures import (
    draw_accuracy,
    draw_cost,
    draw_gains,
    draw_reliability,
    write_figures,
    write_reliability,
)
from abs_classify.evaluation.metrics import evaluate_ranks
from abs_classify.evaluation.paper_table import result_table
from abs_classify.evaluation.predictions import RunPredictions
from abs_classify.evaluation.records import ResultRecord
from abs_classify.evaluation.results_folder import PredictionReader
from abs_classify.evaluation.robustness import assess_confidence
from abs_core.errors import ResultError

Text = pytest.importorskip("matplotlib.text").Text

LABELS = [0, 0, 0, 0, 1, 1]
RUN = make_predictions(
    LABELS, [make_pass("clip", LABELS, [0, 0, 1, 2, 1, 0]), make_pass("a$x$b", LABELS, [0, 0, 0, 0, 0, 0])]
)


def _records() -> list[ResultRecord]:
    passes = [RUN.of(name)[0] for name in ("clip", "a$x$b")]
    return make_records([evaluate_ranks(one.method, one.ranks, RUN.labels, 3) for one in passes])


class _Reader(PredictionReader):
    def find(self, record: ResultRecord) -> RunPredictions:
        return RUN


def test_every_figure_is_written_twice_and_again_the_same(tmp_path: Path) -> None:
    paths = write_figures(_records(), tmp_path / "a", predictions=_Reader({}))
    assert [path.name for path in paths] == [
        f"{name}.{kind}" for name in ("accuracy", "cost", "gains-02-a-x-b") for kind in ("png", "pdf")
    ]
    for path in paths[::2]:
        with PIL.Image.open(path) as picture:
            assert (picture.format, picture.width) == ("PNG", 1200)
    assert all(path.read_bytes().startswith(b"%PDF-") for path in paths[1::2])
    again = write_figures(_records(), tmp_path / "b", predictions=_Reader({}))
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


def test_without_predictions_there_are_no_gains(tmp_path: Path) -> None:
    assert [path.stem for path in write_figures(_records(), tmp_path)] == ["accuracy"] * 2 + ["cost"] * 2


def test_points_stand_where_the_table_has_them() -> None:
    table = result_table(_records())
    for figure, values in ((draw_accuracy(table), 0), (draw_cost(table), 1)):
        lines = [container.lines[0].get_xydata() for container in figure.axes[0].containers]
        drawn = [float(np.asarray(line)[0, values]) for line in lines]
        assert drawn == pytest.approx([100 * row.record.details.seeds.mean for row in table.rows])
    assert [label.get_text() for label in draw_accuracy(table).axes[0].get_yticklabels()] == ["clip", "a$x$b"]


def test_names_of_points_of_one_cost_stand_one_below_the_other() -> None:
    rows = result_table(_records()).rows
    table = replace(result_table(_records()), rows=[rows[0]] * 6)
    figure = draw_cost(table)
    figure.draw_without_rendering()
    # without the line from point to name, which an annotation counts
    boxes = sorted((Text.get_window_extent(name) for name in figure.axes[0].texts), key=lambda box: box.y0)
    assert len(boxes) == 6
    assert all(lower.y1 <= upper.y0 + 1 for lower, upper in pairwise(boxes))


def test_of_many_classes_those_with_the_largest_gains_are_drawn() -> None:
    (gain, *_) = class_gains(RUN, "a$x$b", "clip")
    many = [replace(gain, class_name=f"class {number}") for number in range(50)]
    figure = draw_gains(many, "a minus b")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert (len(names), names[0], names[-1]) == (40, "class 0 (4)", "class 49 (4)")
    assert "40 of 50 classes" in figure.axes[0].get_title()
    with pytest.raises(ResultError, match="no gains to draw"):
        draw_gains([], "")


def test_reliability_has_a_panel_for_each_method_and_what_its_bins_say(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    confidences = rng.random(80)
    names = ("clip", "a$x$b", "abs", "x")
    methods = [assess_confidence(name, confidences, rng.random(80) < confidences) for name in names]
    figure = draw_reliability(methods)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title().split("\n")[0] for axes in panels] == ["clip", "a$x$b", "abs", "x"]
    for quality, axes in zip(methods, panels, strict=True):
        points = axes.containers[1].lines[0].get_xydata()
        assert points[:, 0].tolist() == [entry.confidence for entry in quality.bins]
        assert points[:, 1].tolist() == [entry.accuracy for entry in quality.bins]
        assert sum(bar.get_height() for bar in axes.patches) == pytest.approx(1)
    for drawn in (figure, draw_reliability(methods[:3]), draw_reliability(methods[:1])):
        drawn.draw_without_rendering()
        for axes in drawn.axes:
            title = axes.title.get_window_extent()
            assert not axes.get_visible() or 0 <= title.y0 < title.y1 <= drawn.bbox.height
    paths = write_reliability(methods, tmp_path / "a")
    assert [path.name for path in paths] == ["reliability.png", "reliability.pdf"]
    again = write_reliability(methods, tmp_path / "b")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
